package sse

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

// ending is a service whose sessions are over when ctx is.
type ending struct {
	*fake
	ctx context.Context
}

func (e ending) Connect(ctx context.Context, init []byte) (ws.Session, error) {
	s, err := e.fake.Connect(ctx, init)
	return endingSession{s, e.ctx}, err
}

type endingSession struct {
	ws.Session
	ctx context.Context
}

func (s endingSession) Ended() context.Context { return s.ctx }

// A session that is over ends each operation with an error that says why and has a code, then complete, then the stream.
func TestASessionEndsByItself(t *testing.T) {
	const query = `{"query":"orders","extensions":{"operationId":"`
	f := newFake()
	s := newServer(t, f, Options{})
	ctx, end := context.WithCancelCause(context.Background())
	s.h.o.Service = func(*http.Request) ws.Service { return ending{f, ctx} }

	distinct := read(t, s.do("POST", "/", `{"query":"orders"}`, "Accept", events))
	(<-f.started).add(`{"data":1}`)
	distinct.want("event: next\ndata: {\"data\":1}")

	token := text(t, s.do("PUT", "/", ""))
	single := read(t, s.do("GET", "/", "", "Accept", events, tokenHeader, token))
	for _, id := range []string{"a", "b"} {
		if r := s.do("POST", "/", query+id+`"}}`, tokenHeader, token); r.StatusCode != http.StatusAccepted {
			t.Fatal(r.Status)
		}
	}
	end(&ws.CloseError{Code: ws.CodeForbidden, Reason: "The token has expired"})
	const errs = `{"errors":[{"message":"The token has expired","extensions":{"code":"FORBIDDEN"}}]}`
	distinct.want("event: next\ndata: "+errs, "event: complete\ndata:")
	distinct.wantEnd()
	single.want(
		"event: next\ndata: {\"id\":\"a\",\"payload\":"+errs+"}", "event: complete\ndata: {\"id\":\"a\"}",
		"event: next\ndata: {\"id\":\"b\",\"payload\":"+errs+"}", "event: complete\ndata: {\"id\":\"b\"}",
	)
	single.wantEnd()
	if r := s.do("POST", "/", query+`c"}}`, tokenHeader, token); r.StatusCode != http.StatusNotFound {
		t.Errorf("an operation on a stream that is over: %s", r.Status)
	}
}

// An end without a cause of ours says no more than that it is forbidden.
func TestAnEndWithoutAReason(t *testing.T) {
	f := newFake()
	s := newServer(t, f, Options{})
	ctx, end := context.WithCancelCause(context.Background())
	end(errors.New("an inside matter"))
	s.h.o.Service = func(*http.Request) ws.Service { return ending{f, ctx} }
	stream := read(t, s.do("POST", "/", `{"query":"orders"}`, "Accept", events))
	stream.want("event: next\ndata: "+`{"errors":[{"message":"Forbidden","extensions":{"code":"FORBIDDEN"}}]}`, "event: complete\ndata:")
	stream.wantEnd()
}

package wstest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

// right is a Service whose sessions are renewed by a ping with a "token", except a "bad" one, and end when it is ended.
type right struct {
	*fake
	ctx context.Context
	end context.CancelCauseFunc
}

func newRight() *right {
	r := &right{fake: newFake()}
	r.ctx, r.end = context.WithCancelCause(context.Background())
	return r
}

func (r *right) Connect(ctx context.Context, init []byte) (ws.Session, error) {
	s, err := r.fake.Connect(ctx, init)
	return rightSession{s, r}, err
}

type rightSession struct {
	ws.Session
	right *right
}

func (s rightSession) Ended() context.Context { return s.right.ctx }

func (s rightSession) Refresh(_ context.Context, payload []byte) (bool, error) {
	if bytes.Contains(payload, []byte("bad")) {
		return true, errors.New("no")
	}
	return bytes.Contains(payload, []byte("token")), nil
}

// A ping that renews the session's right is answered once it has, without the token; one that fails is the end.
func TestAPingRenewsTheRight(t *testing.T) {
	r := newRight()
	defer r.end(nil)
	s := serveRight(t, r)
	s.send(`{"type":"ping","payload":{"token":"early"}}`, initMessage)
	s.want(`{"type":"pong","payload":{"token":"early"}}`, ackMessage) // nobody to ask yet
	s.send(`{"type":"ping"}`, `{"type":"ping","payload":{"a":1}}`, `{"type":"ping","payload":{"token":"good"}}`, subscribe("1", "query"))
	s.want(`{"type":"pong"}`, `{"type":"pong","payload":{"a":1}}`, `{"type":"pong"}`, next("1", `{"data":{"ok":true}}`), complete("1"))
	s.send(`{"type":"ping","payload":{"token":"bad"}}`)
	s.wantClose(ws.CodeForbidden, "Forbidden")
}

// A session that is over closes the connection as its cause says, and sends nothing more.
func TestASessionEndsByItself(t *testing.T) {
	for name, c := range map[string]struct {
		cause error
		want  ws.CloseError
	}{
		"with a code": {&ws.CloseError{Code: ws.CodeForbidden, Reason: "The token has expired"}, ws.CloseError{Code: ws.CodeForbidden, Reason: "The token has expired"}},
		"without one": {errors.New("gone"), ws.CloseError{Code: ws.CodeForbidden, Reason: "Forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRight()
			s := serveRight(t, r)
			s.send(initMessage, subscribe("1", "orders"))
			s.want(ackMessage)
			stream := <-r.started
			r.end(c.cause)
			s.wantClose(c.want.Code, c.want.Reason)
			stream.add(`{"data":1}`)
			select {
			case m := <-s.out:
				t.Errorf("after the end: %s", m)
			default:
			}
		})
	}
}

// A session that is over before its client is told that it is accepted.
func TestASessionThatIsOverAtOnce(t *testing.T) {
	r := newRight()
	r.end(&ws.CloseError{Code: ws.CodeForbidden, Reason: "The token has expired"})
	s := serveRight(t, r)
	s.send(initMessage)
	s.wantClose(ws.CodeForbidden, "The token has expired")
}

func serveRight(t *testing.T, r *right) *serving {
	t.Helper()
	s := &serving{pipe: newPipe(transportWS), t: t, fake: r.fake, stop: func(error) {}, done: make(chan error, 1)}
	go func() { s.done <- ws.Serve(context.Background(), s.pipe, r, ws.Options{}) }()
	t.Cleanup(func() { s.pipe.Close(ws.CodeNormal, "") })
	return s
}

package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

// plain is a Socket in its simplest form.
type plain struct{ *websocket.Conn }

func (p plain) Read(ctx context.Context) ([]byte, error) {
	_, b, err := p.Conn.Read(ctx)
	return b, err
}

func (p plain) Write(ctx context.Context, messages ...[]byte) error {
	for _, m := range messages {
		if err := p.Conn.Write(ctx, websocket.MessageText, m); err != nil {
			return err
		}
	}
	return nil
}

func (p plain) Close(code int, reason string) error {
	return p.Conn.Close(websocket.StatusCode(code), reason)
}

// own is a handler that accepts sockets in its own way, and where what ServeSocket returned goes.
func own(t *testing.T, srv *notifyql.Server, ctx context.Context) (url string, ends chan error) {
	t.Helper()
	ends = make(chan error, 10)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: srv.Handshake().Subprotocols})
		if err != nil {
			ends <- err
			return
		}
		ends <- srv.ServeSocket(ctx, plain{c}, r)
	}))
	t.Cleanup(h.Close)
	return h.URL, ends
}

func TestServeSocket(t *testing.T) {
	t.Parallel()
	var asked *http.Request
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Limits: notifyql.Limits{Connections: 1},
		Auth: func(_ context.Context, _ json.RawMessage, r *http.Request) (notifyql.Identity, error) {
			asked = r
			return notifyql.Identity{Tenants: []string{"acme"}}, nil
		},
	})
	ctx, stop := context.WithCancelCause(t.Context())
	url, ends := own(t, srv, ctx)
	c := connect(t, url+"/path", "")
	c.subscribed("1", "c")
	publish(t, srv, "acme", 1)
	c.wantData("1", "1")
	if asked.URL.Path != "/path" {
		t.Errorf("Auth got the request of %s", asked.URL)
	}

	dial(t, url).wantClose(1013, "the server has no room for another connection; try again in 1 s")
	if err := <-ends; err == nil {
		t.Error("ServeSocket returned nil for a client that was refused")
	}

	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	var closed *notifyql.CloseError
	if err := <-ends; errors.As(err, &closed) {
		t.Errorf("the client closed normally, and ServeSocket returned %v", err)
	}
	if n := srv.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}

	c = connect(t, url, "")
	stop(&notifyql.CloseError{Code: 4999, Reason: "because"})
	c.wantClose(4999, "because")
	if err := <-ends; !errors.As(err, &closed) || closed.Code != 4999 {
		t.Errorf("ServeSocket returned %v", err)
	}
}

// The end of Run closes sockets that were accepted elsewhere, too.
func TestServeSocketUntilTheServerEnds(t *testing.T) {
	t.Parallel()
	srv, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()
	url, ends := own(t, srv, t.Context())
	c := connect(t, url, `{"tenantId":"acme"}`)
	stop()
	c.wantClose(1012, "Service restart")
	if err := <-ends; err == nil {
		t.Error("ServeSocket returned nil")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Handler's sockets can be another library's, with the origins and limits of its own.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	var got notifyql.Handshake
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Origins: []string{"app.example"},
		Limits: notifyql.Limits{Connections: 1, MessageBytes: 12345},
		Upgrade: func(w http.ResponseWriter, r *http.Request, h notifyql.Handshake) (notifyql.Socket, error) {
			got = h
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: h.Subprotocols, InsecureSkipVerify: true})
			return plain{c}, err
		},
	})
	url := face(t, srv)
	if _, resp, err := tryDial(t, url, "Origin", "https://evil.example"); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin got %v %v", resp, err)
	}
	c := connect(t, url, `{"tenantId":"acme"}`, "Origin", "https://app.example")
	c.subscribed("1", "c")
	publish(t, srv, "acme", 1)
	c.wantData("1", "1")
	if got.MaxMessageBytes != 12345 || len(got.Subprotocols) != 2 {
		t.Errorf("the handshake was to be made with %+v", got)
	}
	dial(t, url).wantClose(1013, "the server has no room for another connection; try again in 1 s")
	if n := srv.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A library that panics harms nobody but its client.
func TestUpgradeThatPanics(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(),
		Upgrade: func(http.ResponseWriter, *http.Request, notifyql.Handshake) (notifyql.Socket, error) {
			panic("out of order")
		},
	})
	if _, _, err := tryDial(t, face(t, srv)); err == nil {
		t.Error("the client is connected")
	}
	if n := srv.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

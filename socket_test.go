package notifyql_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

// client is a WebSocket of a client's.
type client struct {
	*websocket.Conn
	t *testing.T
}

// face serves a server's handler until the test ends, and gives its address.
func face(t *testing.T, srv *notifyql.Server) string {
	t.Helper()
	h := httptest.NewServer(srv.Handler())
	t.Cleanup(h.Close)
	return h.URL
}

// dial opens a socket; header has names and values.
func dial(t *testing.T, url string, header ...string) *client {
	t.Helper()
	c, resp, err := tryDial(t, url, header...)
	if err != nil {
		t.Fatalf("%v (%v)", err, resp)
	}
	return c
}

func tryDial(t *testing.T, url string, header ...string) (*client, *http.Response, error) {
	t.Helper()
	o := &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: http.Header{}}
	for i := 0; i < len(header); i += 2 {
		o.HTTPHeader.Set(header[i], header[i+1])
	}
	c, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http"), o)
	if err != nil {
		return nil, resp, err
	}
	t.Cleanup(func() { c.CloseNow() }) //nolint:errcheck // it has served
	return &client{c, t}, resp, nil
}

// connect opens a socket that is accepted.
func connect(t *testing.T, url, payload string, header ...string) *client {
	t.Helper()
	c := dial(t, url, header...)
	c.init(payload)
	c.want(`{"type":"connection_ack"}`)
	return c
}

func (c *client) init(payload string) {
	c.t.Helper()
	if payload == "" {
		c.send(`{"type":"connection_init"}`)
		return
	}
	c.send(`{"type":"connection_init","payload":` + payload + `}`)
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) subscribe(id, query string) {
	c.t.Helper()
	c.send(`{"id":"` + id + `","type":"subscribe","payload":{"query":"` + strings.ReplaceAll(query, `"`, `\"`) + `"}}`)
}

// subscribed subscribes to the events of a channel, and returns when nothing more is missed.
func (c *client) subscribed(id, channel string) {
	c.t.Helper()
	c.subscribe(id, `subscription { channel(name: "`+channel+`") { data } }`)
	c.settled()
}

// settled returns when all that was sent has been handled.
func (c *client) settled() {
	c.t.Helper()
	c.send(`{"type":"ping"}`)
	c.want(`{"type":"pong"}`)
}

func (c *client) read() string {
	c.t.Helper()
	_, b, err := c.Read(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

func (c *client) want(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		if got := c.read(); got != want {
			c.t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// wantData waits for a channel's event.
func (c *client) wantData(id, data string) {
	c.t.Helper()
	c.want(`{"id":"` + id + `","type":"next","payload":{"data":{"channel":{"data":` + data + `}}}}`)
}

// wantClose waits for the end, before which nothing comes.
func (c *client) wantClose(code int, reason string) {
	c.t.Helper()
	_, b, err := c.Read(c.t.Context())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || int(closed.Code) != code || closed.Reason != reason {
		c.t.Fatalf("got %s %v, want %d %s", b, err, code, reason)
	}
}

// publish sends an event to a tenant.
func publish(t *testing.T, srv *notifyql.Server, tenant string, data any) {
	t.Helper()
	if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Tenant: tenant, Data: data}); err != nil {
		t.Fatal(err)
	}
}

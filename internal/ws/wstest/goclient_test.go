package wstest

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/Khan/genqlient/graphql"
	"github.com/gorilla/websocket"

	"github.com/notifyql/notifyql/internal/ws"
)

// gorillaDialer is how genqlient's documentation says to connect it to gorilla/websocket.
type gorillaDialer struct{}

func (gorillaDialer) DialContext(ctx context.Context, url string, header http.Header) (graphql.WSConn, error) {
	c, _, err := websocket.DefaultDialer.DialContext(ctx, url, header)
	return c, err
}

type payload struct {
	N json.RawMessage `json:"data"` // a number, or an object
}

// forward is what genqlient generates for a subscription.
func forward(ch any, text json.RawMessage) error {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	ch.(chan payload) <- p
	return nil
}

// A Go client that is not ours, over a WebSocket library that is not ours. It takes a ping message for an error, so it
// also shows that keep-alives are WebSocket's own.
func TestGoClient(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, ws.AcceptOptions{}, ws.Options{KeepAlive: 50 * time.Millisecond})
	c := graphql.NewClientUsingWebSocket(s.url(), gorillaDialer{}, graphql.WithConnectionParams(map[string]any{"tenantId": "acme"}))
	errs, err := c.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counted, events := make(chan payload, 10), make(chan payload, 10)
	if _, err := c.Subscribe(&graphql.Request{Query: "count 3 please"}, counted, forward); err != nil {
		t.Fatal(err)
	}
	<-f.started
	for range 3 {
		<-counted
	}
	if _, more := <-counted; more {
		t.Error("a fourth of three")
	}
	id, err := c.Subscribe(&graphql.Request{Query: "subscription { orders }"}, events, forward)
	if err != nil {
		t.Fatal(err)
	}
	st := <-f.started
	heartbeats := time.After(300 * time.Millisecond)
	for n := 0; ; n++ {
		st.add(next1(n))
		if p := <-events; string(p.N) != strconv.Itoa(n) {
			t.Fatalf("got %s, want %d", p.N, n)
		}
		select {
		case err := <-errs:
			t.Fatal(err)
		case <-heartbeats:
		default:
			continue
		}
		break
	}
	if err := c.Unsubscribe(id); err != nil {
		t.Fatal(err)
	}
	s.stop(ws.Restarting())
	if err := <-errs; !websocket.IsCloseError(err, ws.CodeRestart) {
		t.Errorf("the client was told %v", err)
	}
}

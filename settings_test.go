package notifyql_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

// Compression is agreed on only if asked for by both, and a socket without a subscription is closed if that is limited.
func TestCompressionAndIdleTimeout(t *testing.T) {
	for _, on := range []bool{false, true} {
		c := notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Compression: on}
		if on {
			c.Limits = notifyql.Limits{IdleTimeout: 10 * time.Millisecond, PingInterval: 20 * time.Millisecond, InitTimeout: 2 * time.Second}
		}
		srv := run(t, c)
		face := httptest.NewServer(srv.Handler())
		defer face.Close()
		conn, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(face.URL, "http"), &websocket.DialOptions{
			Subprotocols: []string{"graphql-transport-ws"}, CompressionMode: websocket.CompressionNoContextTakeover,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate"); got != on {
			t.Errorf("compression %v was answered with %v", on, got)
		}
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"connection_init"}`)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := conn.Read(t.Context()); err != nil || !strings.Contains(string(b), "connection_ack") {
			t.Fatalf("got %s (%v)", b, err)
		}
		if on {
			var closed websocket.CloseError
			if _, _, err := conn.Read(t.Context()); !errors.As(err, &closed) || closed.Code != 3008 {
				t.Errorf("an idle socket got %v", err)
			}
		}
		conn.CloseNow() //nolint:errcheck // it has served
	}
}

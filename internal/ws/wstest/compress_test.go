package wstest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql/internal/ws"
)

// With compression agreed on, messages come out as they went in, in batches and with control frames among them, and
// whatever the size; without, nothing changes.
func TestCompression(t *testing.T) {
	t.Parallel()
	for _, client := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover} {
		f := newFake()
		s := newServer(t, f, ws.AcceptOptions{Compression: true}, ws.Options{MessagesPerSecond: -1})
		c, _, err := websocket.Dial(t.Context(), s.url(), &websocket.DialOptions{
			Subprotocols: []string{transportWS}, CompressionMode: client, CompressionThreshold: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(-1)
		want := func(m string) {
			t.Helper()
			if _, got, err := c.Read(t.Context()); err != nil || string(got) != m {
				t.Fatalf("got %.80s (%v), want %.80s", got, err, m)
			}
		}
		send := func(m string) {
			t.Helper()
			if err := c.Write(t.Context(), websocket.MessageText, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		send(initMessage)
		want(ackMessage)
		send(subscribe("a", "a"))
		st := <-f.started
		var results []string
		for i := range 300 {
			results = append(results, `{"data":"`+strings.Repeat("x", i*i%5000)+`"}`)
		}
		ctx, stop := context.WithCancel(t.Context())
		var pings sync.WaitGroup
		pings.Go(func() {
			for ctx.Err() == nil {
				_ = c.Ping(ctx)
			}
		})
		for _, r := range results {
			st.add(r)
		}
		for _, r := range results {
			want(next("a", r))
		}
		stop()
		pings.Wait()
		_ = c.CloseNow()
		s.served.Wait()
	}
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// resumer is a client that comes back behind its last cursor, whatever happens to the server. Each row's versions must come to it one
// by one. One whose cursor is refused begins anew with the rows that stand, as the error says.
type resumer struct {
	addr string

	mu       sync.Mutex
	versions map[string]int
	cursor   string
	from     string // the server that gave the cursor
	resumed  int    // times that it came back with a cursor, and that was taken
	crossed  map[string]int
	expired  int
	fault    error
	changed  chan struct{} // closed and made anew at each result
}

// follow starts a resumer that ends with the test, and waits until it has the rows that stand.
func follow(t *testing.T, addr string) *resumer {
	t.Helper()
	f := &resumer{addr: addr, versions: map[string]int{}, crossed: map[string]int{}, changed: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	f.await(t, "to have the rows", func() bool { return f.cursor != "" })
	return f
}

func (f *resumer) run(ctx context.Context) {
	for ctx.Err() == nil && f.fault == nil {
		f.session(ctx)
		select {
		case <-time.After(20 * time.Millisecond): // the server is away
		case <-ctx.Done():
		}
	}
}

// session follows over one socket, to its end.
func (f *resumer) session(ctx context.Context) {
	conn, resp, err := websocket.Dial(ctx, "ws://"+f.addr+"/graphql", &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		return
	}
	defer conn.CloseNow() //nolint:errcheck // it has served
	where := resp.Header.Get("Via")
	args := "initial: true"
	if f.cursor != "" {
		args = fmt.Sprintf("after: %q", f.cursor)
	}
	query, _ := json.Marshal(`subscription { countersChanged(` + args + `) { kind cursor new { id version } } }`)
	for _, m := range []string{`{"type":"connection_init","payload":{"tenantId":"acme"}}`, `{"type":"subscribe","id":"1","payload":{"query":` + string(query) + `}}`} {
		if conn.Write(ctx, websocket.MessageText, []byte(m)) != nil {
			return
		}
	}
	for first := f.cursor != ""; ; {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return
		}
		var m struct {
			Type    string
			Payload json.RawMessage
		}
		if err := json.Unmarshal(b, &m); err != nil {
			f.fault = err
			return
		}
		f.mu.Lock()
		goOn := f.take(m.Type, m.Payload, where, first)
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
		if !goOn {
			return
		}
		first = first && m.Type != "next"
	}
}

// take takes one message; first says that it is the first result behind a cursor.
func (f *resumer) take(typ string, payload []byte, where string, first bool) (goOn bool) {
	switch typ {
	case "error":
		if !strings.Contains(string(payload), "CURSOR_") {
			f.fault = fmt.Errorf("it was told %s", payload)
		}
		f.expired++
		f.cursor = ""
		return false
	case "next":
	default:
		return true
	}
	var r struct {
		Data struct {
			C struct {
				Kind, Cursor string
				New          *struct {
					ID      json.Number
					Version int
				}
			} `json:"countersChanged"`
		}
	}
	if err := json.Unmarshal(payload, &r); err != nil || r.Data.C.Kind == "" {
		f.fault = fmt.Errorf("it got %s: %w", payload, err)
		return false
	}
	if first {
		f.resumed++
		if f.from != where {
			f.crossed[f.from+" to "+where]++
		}
	}
	c := r.Data.C
	f.from = where
	if c.Kind == "SYNCED" {
		f.cursor = c.Cursor
		return true
	}
	id, had := c.New.ID.String(), f.versions[c.New.ID.String()]
	switch {
	case c.Kind == "INITIAL" && c.New.Version >= had: // its cursors come with SYNCED
	case c.Kind == "UPDATE" && c.New.Version == had+1:
		f.cursor = c.Cursor
	default:
		f.fault = fmt.Errorf("row %s: %s with version %d behind %d", id, c.Kind, c.New.Version, had)
		return false
	}
	f.versions[id] = c.New.Version
	return true
}

// await waits until ok, which is asked with the lock held at each result.
func (f *resumer) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		f.mu.Lock()
		done, fault, changed := ok(), f.fault, f.changed
		f.mu.Unlock()
		switch {
		case fault != nil:
			t.Fatalf("a resumer: %v", fault)
		case done:
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("a resumer waited in vain %s; it has %v", what, f.versions)
		}
	}
}

// total waits until it has as many updates as there were.
func (f *resumer) total(t *testing.T, want int) {
	t.Helper()
	f.await(t, fmt.Sprintf("to have %d updates", want), func() bool {
		n := 0
		for _, v := range f.versions {
			n += v
		}
		return n == want
	})
}

// count reads what a resumer has counted.
func (f *resumer) count(of *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *of
}

package wstest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
	"github.com/notifyql/notifyql/test/npm"
)

// The real graphql-ws client, lazy and eager: results, errors, completion from either side, and a restart of the server
// of which its subscriptions see nothing but the events.
func (lib library) graphQLWSClient(t *testing.T) {
	t.Parallel()
	for _, lazy := range []bool{true, false} {
		t.Run(fmt.Sprintf("lazy=%v", lazy), func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{})
			c := npm.Start(t, "graphql-ws", s.url(), map[string]any{
				"lazy": lazy, "connectionParams": map[string]any{"tenantId": "acme"}, "retryMilliseconds": 10, "retryAttempts": 1000,
			})
			if !lazy {
				c.Want(`{"event":"connected"}`)
			}
			c.Subscribe("orders", "orders")
			if lazy {
				c.Want(`{"event":"connected"}`)
			}
			orders := <-f.started
			if got := f.inits[0]; got != `{"tenantId":"acme"}` {
				t.Errorf("payload %s", got)
			}
			orders.add(`{"data":{"n":1}}`, `{"data":null,"errors":[{"message":"half"}]}`)
			c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":1}}}`,
				`{"event":"next","id":"orders","payload":{"data":null,"errors":[{"message":"half"}]}}`)

			c.Subscribe("q", "query { serverInfo }")
			c.Want(`{"event":"next","id":"q","payload":{"data":{"ok":true}}}`, `{"event":"complete","id":"q"}`)
			<-f.started
			c.Subscribe("m", "mutation { no }")
			c.Want(`{"event":"next","id":"m","payload":{"data":{"ok":true}}}`, `{"event":"complete","id":"m"}`)
			<-f.started
			c.Subscribe("f", "fail")
			c.Want(`{"event":"error","id":"f","payload":[{"message":"no such field"}]}`)
			<-f.started
			c.Subscribe("other", "other")
			other := <-f.started

			s.restart()
			c.Want(`{"event":"closed","payload":{"code":1012,"reason":"Service restart"}}`)
			c.Until("connected") // some tries may have met the server while it was down
			byTopic := map[string]*fakeStream{}
			for range 2 {
				st := <-f.started
				byTopic[st.op.Query] = st
			}
			byTopic["orders"].add(`{"data":{"n":2}}`)
			c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":2}}}`)
			byTopic["other"].end(io.EOF)
			c.Want(`{"event":"complete","id":"other"}`)
			other.add(`{"data":"of the old connection"}`)

			c.Do(map[string]any{"do": "complete", "id": "orders"})
			c.Want(`{"event":"complete","id":"orders"}`)
			if !lazy {
				c.Do(map[string]any{"do": "dispose"})
			}
			if end := string(c.Until("closed").Payload); !strings.HasPrefix(end, `{"code":1000,"reason":"`+lib.echo("Normal Closure")) {
				t.Errorf("closed with %s", end)
			}
			if err := s.end(); err != nil {
				t.Errorf("the client closed normally: %v", err)
			}
		})
	}
}

// Two nodes behind a proxy are restarted in turn, again and again. No subscription of a client that retries ends; the
// clients have their default settings otherwise, by which a failed handshake would be the end.
func (lib library) rollingRestart(t *testing.T) {
	t.Parallel()
	for library, options := range map[string]map[string]any{
		"graphql-ws":                 {"retryMilliseconds": 1},
		"subscriptions-transport-ws": {"reconnect": true},
	} {
		t.Run(library, func(t *testing.T) {
			t.Parallel()
			f, g := newFake(), newFake()
			g.started = f.started
			nodes := []*server{lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{}), lib.newServer(t, g, ws.AcceptOptions{}, ws.Options{})}
			proxy := newFreezer(t, nodes[0].Listener.Addr().String(), nodes[1].Listener.Addr().String())
			c := npm.Start(t, library, "ws://"+proxy.Addr().String(), options)
			c.Subscribe("orders", "orders")
			<-f.started
			for n := range 6 {
				nodes[n%2].restart()
				for f.publish("orders", next1(n))+g.publish("orders", next1(n)) == 0 {
					<-f.started
				}
				for {
					e := c.Event()
					if e.Event == "error" || e.Event == "complete" {
						t.Fatalf("restart %d ended the subscription: %s", n, e)
					}
					if e.Event == "next" && string(e.Payload) == next1(n) {
						break
					}
				}
			}
		})
	}
}

// What docs/protocol.md says that graphql-ws does with each close code, it does.
func (lib library) closeCodesInTheDocs(t *testing.T) {
	t.Parallel()
	_, here, _, _ := runtime.Caller(0)
	doc, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d{4}) \| ([^|]*) \| [^|]* \| (retries|final)[^|]* \|`).FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 15 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{})
	c := npm.Start(t, "graphql-ws", s.url(), map[string]any{"retryMilliseconds": 1, "retryAttempts": 1000})
	for _, row := range rows {
		code, _ := strconv.Atoi(row[1])
		c.Subscribe(row[1], "topic")
		<-f.started
		s.kick(&ws.CloseError{Code: code, Reason: row[2]})
		for !strings.Contains(string(c.Until("closed").Payload), `"code":`+row[1]) {
			continue // it closes what has no subscription
		}
		got := "retries"
		for e := c.Event(); e.Event != "connected"; e = c.Event() {
			if e.Event == "error" {
				got = "final"
				break
			}
		}
		if got != row[3] {
			t.Errorf("%d: the docs say %s, graphql-ws: %s", code, row[3], got)
		}
		if got == "retries" {
			<-f.started
			c.Do(map[string]any{"do": "complete", "id": row[1]})
			c.Until("complete")
		}
	}
}

// The real subscriptions-transport-ws client: it sends start together with connection_init, restarts what ran after the
// server has gone and come back, and understands our errors.
func (lib library) legacyClient(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{KeepAlive: 200_000_000, PongTimeout: 100_000_000})
	c := npm.Start(t, "subscriptions-transport-ws", s.url(), map[string]any{
		"reconnect": true, "connectionParams": map[string]any{"tenantId": "acme"},
	})
	c.Subscribe("orders", "subscription { orders }")
	c.Want(`{"event":"connected"}`)
	st := <-f.started
	st.add(`{"data":{"n":1}}`, `{"data":null,"errors":[{"message":"half"}]}`)
	c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":1}}}`,
		`{"event":"next","id":"orders","payload":{"data":null,"errors":[{"message":"half"}]}}`)
	c.Subscribe("q", "query { serverInfo }")
	c.Want(`{"event":"next","id":"q","payload":{"data":{"ok":true}}}`, `{"event":"complete","id":"q"}`)
	<-f.started
	c.Subscribe("f", "fail")
	c.Want(`{"event":"error","id":"f","payload":{"message":"no such field"}}`)
	<-f.started

	s.restart()
	c.Want(`{"event":"closed"}`, `{"event":"connected"}`)
	st = <-f.started
	st.add(`{"data":{"n":2}}`)
	c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":2}}}`)
	c.Do(map[string]any{"do": "complete", "id": "orders"})
	c.Do(map[string]any{"do": "dispose"})
	s.served.Wait()
	f.check(t)
}

package sse

import (
	"fmt"
	"io"
	"testing"

	"github.com/notifyql/notifyql/test/npm"
)

// The real graphql-sse client, in both modes, lazy and eager: results, errors, completion from either side, and a restart
// of the server, after which it goes on by itself.
func TestGraphQLSSEClient(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct{ single, lazy bool }{{false, true}, {true, true}, {true, false}} {
		t.Run(fmt.Sprintf("single=%v,lazy=%v", mode.single, mode.lazy), func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := newServer(t, f, Options{})
			c := npm.Start(t, "graphql-sse", s.URL, map[string]any{
				"singleConnection": mode.single, "lazy": mode.lazy, "retryMilliseconds": 20, "retryAttempts": 1000,
			})
			c.Subscribe("orders", "orders")
			c.Want(`{"event":"connected"}`)
			orders := <-f.started
			orders.add(`{"data":{"n":1}}`, `{"data":null,"errors":[{"message":"half"}]}`)
			c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":1}}}`,
				`{"event":"next","id":"orders","payload":{"data":null,"errors":[{"message":"half"}]}}`)

			c.Subscribe("q", "query { x }")
			if !mode.single {
				c.Want(`{"event":"connected"}`)
			}
			c.Want(`{"event":"next","id":"q","payload":{"data":{"ok":true}}}`, `{"event":"complete","id":"q"}`)
			<-f.started
			if !mode.single {
				c.Subscribe("f", "fail")
				c.Want(`{"event":"connected"}`, `{"event":"next","id":"f","payload":{"errors":[{"message":"no such field"}]}}`, `{"event":"complete","id":"f"}`)
				<-f.started
			}

			s.down()
			s.up()
			c.Until("connected")
			orders = <-f.started
			orders.add(`{"data":{"n":2}}`)
			c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":2}}}`)
			c.Subscribe("other", "other")
			if !mode.single {
				c.Want(`{"event":"connected"}`)
			}
			other := <-f.started
			other.end(io.EOF)
			c.Want(`{"event":"complete","id":"other"}`)
			c.Do(map[string]any{"do": "complete", "id": "orders"})
			c.Want(`{"event":"complete","id":"orders"}`)
		})
	}
}

package ws

import (
	"testing"

	"github.com/notifyql/notifyql/test/npm"
)

// The real graphql-ws client: results, errors, completion, and a restart of the server that it does not notice but for
// the reconnection.
func TestGraphQLWSClient(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, AcceptOptions{}, Options{})
	c := npm.Start(t, "graphql-ws", s.url(), map[string]any{
		"connectionParams": map[string]any{"tenantId": "acme"}, "retryMilliseconds": 10,
	})
	c.Subscribe("orders", "orders")
	c.Want(`{"event":"connected"}`)
	orders := <-f.started
	orders.add(`{"data":{"n":1}}`, `{"data":{"n":2}}`)
	c.Want(`{"event":"next","id":"orders","payload":{"data":{"n":1}}}`, `{"event":"next","id":"orders","payload":{"data":{"n":2}}}`)

	c.Subscribe("q", "query { serverInfo }")
	c.Want(`{"event":"next","id":"q","payload":{"data":{"ok":true}}}`, `{"event":"complete","id":"q"}`)
	c.Subscribe("f", "fail")
	c.Want(`{"event":"error","id":"f","payload":[{"message":"no such field"}]}`)
	<-f.started
	<-f.started

	s.stop(Restarting())
	c.Want(`{"event":"closed","payload":{"code":1012,"reason":"Service restart"}}`)
	s.served.Wait()
	if _, streams := f.open(); streams != 0 {
		t.Errorf("%d streams are left", streams)
	}
}

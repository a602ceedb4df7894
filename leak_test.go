package notifyql_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A thousand clients come, subscribe, and go, each in one of several ways. Nothing of them stays.
func TestClientsThatHaveGoneLeaveNothing(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `
		create table orders (id int primary key, tenant_id text not null, n int not null);
		insert into orders values (1, 'acme', 0);
		select notifyql.watch('orders');`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Auth: notifyql.Trust()})
	face := httptest.NewServer(srv.Handler())
	defer face.Close()
	url := "ws" + strings.TrimPrefix(face.URL, "http") + "/graphql"

	visit(t, url, 0) // what is made once is there now
	eventually(t, "the first to be gone", func() bool { s := srv.Stats(); return s.Connections == 0 && s.Subscriptions == 0 })
	before := runtime.NumGoroutine()

	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				db.Exec(t, `update orders set n = n + 1`)
			}
		}
	})
	var clients sync.WaitGroup
	next := make(chan int)
	for range 20 {
		clients.Go(func() {
			for i := range next {
				visit(t, url, i)
			}
		})
	}
	for i := range 1000 {
		next <- i
	}
	close(next)
	clients.Wait()
	close(stop)
	writer.Wait()

	eventually(t, "all to be gone", func() bool {
		s := srv.Stats()
		return s.Connections == 0 && s.Subscriptions == 0 && s.Groups == 0 && s.TailBytes >= 0
	})
	face.CloseClientConnections()
	eventually(t, "their goroutines to be gone", func() bool { return runtime.NumGoroutine() <= before+4 })
	if s := srv.Stats(); s.Opened != 1001 || s.Delivered == 0 {
		t.Errorf("%d sockets were opened and %d results delivered", s.Opened, s.Delivered)
	}
	pool := srv.DatabasePool()
	eventually(t, "the database's connections to be given back", func() bool { return pool().AcquiredConns() == 0 })
	if n := pool().TotalConns(); n > 4 {
		t.Errorf("the server has %d connections to the database", n)
	}
}

// visit is one client's life; i decides how it ends.
func visit(t *testing.T, url string, i int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.CloseNow() //nolint:errcheck // some have closed
	send := func(text string) {
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Error(err)
		}
	}
	read := func() (m struct{ Type string }) {
		_, b, err := c.Read(ctx)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Error(err)
		}
		return m
	}
	if i%7 == 6 { // leaves before it says anything
		return
	}
	send(`{"type":"connection_init","payload":{"tenantId":"acme"}}`)
	if m := read(); m.Type != "connection_ack" {
		t.Errorf("got %q", m.Type)
	}
	send(`{"id":"a","type":"subscribe","payload":{"query":"subscription { ordersChanged { new { n } } }"}}`)
	send(`{"id":"b","type":"subscribe","payload":{"query":"subscription { ordersChanged(where: {n: {gt: 5}}) { new { n } } }"}}`)
	switch i % 7 {
	case 0: // completes, and closes as it should be
		send(`{"id":"a","type":"complete"}`)
		send(`{"id":"b","type":"complete"}`)
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	case 1: // gets something first
		if i > 0 {
			read()
		}
		c.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // what is on its way may cross the close
	case 2: // sends what closes it
		send(`{"id":"a","type":"subscribe","payload":{"query":"subscription { ordersChanged { new { n } } }"}}`)
		for {
			if _, _, err := c.Read(ctx); err != nil {
				if code := websocket.CloseStatus(err); code != 4409 {
					t.Errorf("a duplicate id closed with %v (%v)", code, err)
				}
				return
			}
		}
	case 3: // makes an error on the way
		send(`{"id":"c","type":"subscribe","payload":{"query":"subscription { nothing }"}}`)
	} // the others vanish
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

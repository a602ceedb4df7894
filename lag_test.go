package notifyql_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// scrape is what /metrics says, by name and labels.
func scrape(t *testing.T, srv *notifyql.Server) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	srv.OpsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	series := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^(notifyql_\S+) (\S+)$`).FindAllStringSubmatch(w.Body.String(), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		series[m[1]] = v
	}
	return series
}

// wantItem reads a result of the subscription 1.
func (c *client) wantItem(data string) {
	c.t.Helper()
	c.want(`{"id":"1","type":"next","payload":{"data":` + data + `}}`)
}

// What is sent live is measured from its write to the socket, on both protocols; what a client catches up with is not, for it was the
// client that was late.
func TestDeliveryLag(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Auth: byName})
	url := face(t, srv)
	delivered := func() float64 { return scrape(t, srv)["notifyql_delivery_lag_seconds_count"] }
	if h := srv.Health(); h.LagMillis != 0 || delivered() != 0 {
		t.Errorf("%+v", h)
	}
	c := connect(t, url, `{"user":"anna","tenants":"a"}`)
	c.subscribe("1", `subscription { itemsChanged(initial: true) { kind new { id } } }`)
	c.wantItem(`{"itemsChanged":{"kind":"SYNCED","new":null}}`)
	for i := range 3 { // when one has come, the write of the one before has returned
		db.Exec(t, `insert into items values ($1, 'a')`, i)
		c.wantItem(fmt.Sprintf(`{"itemsChanged":{"kind":"INSERT","new":{"id":%d}}}`, i))
	}
	if n := delivered(); n < 2 || n > 3 {
		t.Errorf("%v were measured of 3", n)
	}
	m := scrape(t, srv)
	if m["notifyql_dispatch_lag_seconds_count"] != 3 || m[`notifyql_dispatch_lag_seconds_bucket{le="+Inf"}`] != 3 || srv.Health().LagMillis <= 0 {
		t.Errorf("%v, %+v", m, srv.Health())
	}

	db.Exec(t, `update items set version = 1 where id = 0`)
	c.wantItem(`{"itemsChanged":{"kind":"UPDATE","new":{"id":0}}}`)
	db.Exec(t, `delete from items where id = 0`)
	c.wantItem(`{"itemsChanged":{"kind":"DELETE","new":null}}`)
	m = scrape(t, srv)
	for kind, n := range map[string]float64{"insert": 3, "update": 1, "delete": 1, "truncate": 0, "event": 0, "large": 0} {
		if got, ok := m[`notifyql_changes_total{kind="`+kind+`"}`]; !ok || got != n {
			t.Errorf("%s: %v, want %v", kind, got, n)
		}
	}

	s := events(t, url, "X-User", "emma", "X-Tenants", "a")
	before := delivered()
	db.Exec(t, `select notifyql.publish('c', '1', 'a'), notifyql.publish('c', '2', 'a')`)
	s.want(`event: next|data: {"data":{"channel":{"data":1}}}`, `event: next|data: {"data":{"channel":{"data":2}}}`)
	db.Exec(t, `select notifyql.publish('c', '3', 'a')`)
	s.want(`event: next|data: {"data":{"channel":{"data":3}}}`)
	if delivered() <= before {
		t.Error("an event stream is not measured")
	}

	f := &follower{t: t}
	f.follow(srv, "initial: true, where: {id: {gt: 1000}}")
	f.want("SYNCED")
	f.leave()
	db.Exec(t, `insert into items values (1001, 'a'), (1002, 'a')`)
	c.wantItem(`{"itemsChanged":{"kind":"INSERT","new":{"id":1001}}}`)
	c.wantItem(`{"itemsChanged":{"kind":"INSERT","new":{"id":1002}}}`)
	late := connect(t, url, `{"user":"berta","tenants":"a"}`)
	c.send(`{"id":"1","type":"complete"}`)
	c.settled()
	before = delivered()
	late.subscribe("1", fmt.Sprintf(`subscription { itemsChanged(where: {id: {gt: 1000}}, after: %q) { kind new { id } } }`, f.cursor))
	late.wantItem(`{"itemsChanged":{"kind":"INSERT","new":{"id":1001}}}`)
	late.wantItem(`{"itemsChanged":{"kind":"INSERT","new":{"id":1002}}}`)
	late.wantItem(`{"itemsChanged":{"kind":"SYNCED","new":null}}`)
	late.settled()
	if n := delivered(); n != before {
		t.Errorf("%v were measured of what was caught up with", n-before)
	}
}

// However many tenants, users, operations and kinds of problems there are, /metrics has as many series.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus()})
	before := scrape(t, srv)
	for i := range 10_000 {
		name := fmt.Sprintf("x%d", i)
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{
			Query:    fmt.Sprintf(`subscription Op%s { channel(name: "%s") { data } }`, name, name),
			Identity: notifyql.Identity{UserID: name, Tenants: []string{name}, Roles: []string{name}, Claims: map[string]any{name: name}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 { // and some see something
			if err := srv.Publish(t.Context(), notifyql.Event{Channel: name, Tenant: name, Data: name}); err != nil {
				t.Fatal(err)
			}
			if b, err := stream.Next(t.Context()); err != nil || !strings.Contains(string(b), name) {
				t.Fatalf("%s, %v", b, err)
			}
			srv.Logger().Log(context.Background(), 8, "problem "+name)
		}
		if i%2 == 0 {
			stream.Close() //nolint:errcheck // it has served
		} else {
			defer stream.Close() //nolint:errcheck // it ends with the test
		}
	}
	after := scrape(t, srv)
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("a new series: %s", name)
		}
	}
	if len(before) < 40 || len(before) != len(after) || after["notifyql_subscriptions"] != 5000 || after[`notifyql_problems_total{level="error"}`] != 100 {
		t.Errorf("%d series, then %d", len(before), len(after))
	}
}

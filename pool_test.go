package notifyql_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

const paidOrders = `
	create table orders (id bigint primary key generated always as identity, tenant_id text not null, status text not null);
	select notifyql.watch('orders');`

// A program's own pool is enough to stream by; it is neither closed nor left with connections of ours in use.
func TestAPoolOfTheProgram(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, paidOrders)
	conf, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	conf.MaxConns = 4
	conf.ConnConfig.RuntimeParams["application_name"] = "the program"
	pool, err := pgxpool.NewWithConfig(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	srv, err := notifyql.New(notifyql.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{
		Query: `subscription { ordersChanged(initial: true) { kind } }`, Identity: notifyql.Identity{Tenants: []string{"acme"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	next := func(kind string) {
		t.Helper()
		b, err := stream.Next(t.Context())
		if want := `{"data":{"ordersChanged":{"kind":"` + kind + `"}}}`; err != nil || string(b) != want {
			t.Fatalf("got %s %v, want %s", b, err, want)
		}
	}
	next("SYNCED")
	db.Exec(t, `insert into orders (tenant_id, status) values ('acme', 'paid')`)
	next("INSERT")
	var names string
	err = pool.QueryRow(t.Context(), `select string_agg(distinct application_name, ', ' order by application_name) from pg_stat_activity
		where datname = current_database() and pid != pg_backend_pid() and application_name like any (array['notifyql%', 'the program'])`).Scan(&names)
	if want := "notifyql leader, notifyql listener"; err != nil || !strings.HasPrefix(names, want) || strings.HasSuffix(names, "notifyql") {
		t.Errorf("the sessions are %s (%v), want %s and the program's", names, err, want)
	}

	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are in use after Run", n)
	}
	if err := pool.Ping(t.Context()); err != nil {
		t.Errorf("the pool is of no more use: %v", err)
	}
}

func TestAPoolThatIsTooSmall(t *testing.T) {
	t.Parallel()
	conf, err := pgxpool.ParseConfig("postgres://nobody@localhost/nowhere?pool_max_conns=3")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := notifyql.New(notifyql.Config{Pool: pool}); err == nil || !strings.Contains(err.Error(), "MaxConns") {
		t.Errorf("New returned %v", err)
	}
}

// Metrics go to the program's registry, as long as the server is there, and to OpsHandler.
func TestRegisterer(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	as := func(name string) notifyql.Config {
		return notifyql.Config{Bus: notifyql.MemoryBus(), Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"server": name}, registry)}
	}
	conf := as("first")
	srv, err := notifyql.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := notifyql.New(conf); err == nil {
		t.Error("two servers share a registry and can't be told apart")
	}
	second := start(t, as("second"))
	<-second.Ready()

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()
	count := func() (first, second int) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "notifyql_connections" {
				continue
			}
			for _, m := range f.GetMetric() {
				switch m.GetLabel()[0].GetValue() {
				case "first":
					first++
				case "second":
					second++
				}
			}
		}
		return first, second
	}
	if first, second := count(); first != 1 || second != 1 {
		t.Errorf("the registry has connections %d and %d times", first, second)
	}
	ops := httptest.NewServer(srv.OpsHandler())
	defer ops.Close()
	r, err := http.Get(ops.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(body), "\nnotifyql_connections 0\n") {
		t.Errorf("/metrics: %s %v", body, err)
	}

	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if first, second := count(); first != 0 || second != 1 {
		t.Errorf("after Run the registry has connections %d and %d times", first, second)
	}
}

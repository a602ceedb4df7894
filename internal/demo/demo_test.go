package demo_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/demo"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	pgmigrate "github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, pgmigrate.Up) }

func install(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	for _, do := range []func(context.Context, string) error{demo.Install, demo.Watch} {
		if err := do(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func query[T any](t *testing.T, db *pgtest.DB, sql string) T {
	t.Helper()
	var v T
	if err := db.Pool(t).QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

const steps = 400

func write(t *testing.T, db *pgtest.DB, seed uint64) {
	t.Helper()
	if err := demo.Write(t.Context(), db.URL, demo.Options{Seed: seed, Pace: time.Nanosecond, Steps: steps}); err != nil {
		t.Fatal(err)
	}
}

// story is all that the shop has written, but for the times.
const story = `select (select string_agg((to_jsonb(o) - '{placed_at,updated_at}'::text[])::text, e'\n' order by id) from orders o)
	|| (select string_agg(i::text, e'\n' order by order_id, position) from order_items i)
	|| (select string_agg(p::text, e'\n' order by id) from products p)
	|| (select string_agg(c.name, e'\n' order by id) from customers c)`

func TestSameSeedSameOrders(t *testing.T) {
	t.Parallel()
	one, two, other := install(t), install(t), install(t)
	write(t, one, 7)
	write(t, two, 7)
	write(t, other, 8)
	if query[string](t, one, story) != query[string](t, two, story) {
		t.Error("the same seed has written two stories")
	}
	if query[string](t, one, story) == query[string](t, other, story) {
		t.Error("another seed has written the same story")
	}
}

func TestOrdersAreBelievable(t *testing.T) {
	t.Parallel()
	db := install(t)
	write(t, db, 1)
	write(t, db, 2) // a second run goes on from the first
	for what, sql := range map[string]string{
		"orders whose amount is not the sum of their items": `select count(*) from orders o where amount is distinct from
			(select sum(quantity * price) from order_items where order_id = o.id)`,
		"items of another tenant than their order": `select count(*) from order_items i join orders o on o.id = order_id
			join products p on p.id = product_id join customers c on c.id = customer_id
			where o.tenant_id <> all (array[i.tenant_id, p.tenant_id, c.tenant_id])`,
		"parcels on their way without a tracking number": `select count(*) from orders
			where status in ('shipped', 'delivered') <> (shipping is not null)`,
	} {
		if n := query[int](t, db, sql); n > 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	for what, sql := range map[string]string{
		"orders of each tenant":     "select min(n) from (select count(*) n from orders group by tenant_id) _",
		"statuses":                  "select case when count(distinct status) = 5 then 100 else 0 end from orders",
		"inserts, updates, deletes": "select case when count(distinct op) = 3 then 100 else 0 end from notifyql.change",
	} {
		if n := query[int](t, db, sql); n < 50 {
			t.Errorf("too few %s: %d", what, n)
		}
	}
	if n := query[int](t, db, "select count(*) from notifyql.change where coalesce(old, new)::text like '%@example.com%'"); n > 0 {
		t.Errorf("%d changes tell a customer's address", n)
	}
}

func TestOthersMayChangeTheTables(t *testing.T) {
	t.Parallel()
	db := install(t)
	db.Exec(t, `create function vanish() returns trigger language plpgsql as
		$$ begin delete from orders where id = old.id; return null; end $$;
		create trigger vanish after update on orders for each row when (new.id % 2 = 0) execute function vanish()`)
	write(t, db, 3)
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	db := install(t)
	ctx, cancel := context.WithCancel(t.Context())
	conn := db.Conn(t, "postgres")
	if _, err := conn.Exec(ctx, `listen placed; create function tell() returns trigger language plpgsql as
		$$ begin notify placed; return null; end $$;
		create trigger tell after insert on orders execute function tell()`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- demo.Write(ctx, db.URL, demo.Options{Pace: time.Hour}) }()
	if _, err := conn.WaitForNotification(t.Context()); err != nil { // the first order comes without a pause
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := demo.Write(ctx, db.URL, demo.Options{}); err != nil {
		t.Errorf("with a context that was done before: %v", err)
	}
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	shop, err := demo.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), shop.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var watched, tenants int
	var dir string
	err = conn.QueryRow(t.Context(), `select (select count(*) from notifyql.watched), (select count(distinct tenant_id) from products),
		current_setting('data_directory')`).Scan(&watched, &tenants, &dir)
	if err != nil || watched != 4 || tenants != len(demo.Tenants) {
		t.Errorf("%d watched tables, %d tenants, %v", watched, tenants, err)
	}
	if err := shop.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

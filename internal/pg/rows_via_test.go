package pg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Rows whose tenant is found through a foreign key are those that a join finds, whatever the types; to nobody goes what has no
// tenant, and all of it when the way there is lost.
func TestRowsThroughAForeignKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := sourceOf(t, serverLogin(t, db))
	db.Exec(t, `create type mood as enum ('good', 'bad'); create domain org as text; create domain number as bigint; create extension if not exists plpgsql;
		create schema "The Shop"`)
	for _, c := range []struct {
		typ    string
		values []string
	}{
		{"text", []string{"a", "A", "b", "", `q"uo\te`}},
		{"org", []string{"a", "b"}},
		{"number", []string{"7", "-1"}},
		{"mood", []string{"good", "bad"}},
		{"uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12"}},
		{"numeric", []string{"7", "7.0"}},
		{"integer", []string{"7", "8"}},
	} {
		db.Exec(t, `drop table if exists t, "The Shop".parent; create table "The Shop".parent ("The Key" text primary key, "The Tenant" `+c.typ+`); insert into "The Shop".parent values ('none', null);
			create table t (id serial primary key, "own Key" text references "The Shop".parent, "The Tenant" int default 5); insert into t ("own Key") values ('none'), (null)`)
		id := watch(t, db, `'t', 'The Tenant', tenant_via => 'own Key'`)
		for i, v := range c.values {
			db.Exec(t, fmt.Sprintf(`insert into "The Shop".parent values ('%d', %[2]s); insert into t ("own Key") values ('%[1]d'), ('%[1]d')`, i, quoteLiteral(v)))
		}
		if out := one[string](t, db, `select state from notifyql.watched where id = $1`, id); out != "watched" {
			t.Fatal(out)
		}
		asked := append([]string{"", "nobody", "07", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, c.values...)
		for _, tenants := range append([][]string{asked, nil}, split(asked)...) {
			rows, _, err := rowsOf(t, s, change.Query{Watch: id, Tenants: tenants, OrderBy: []change.OrderBy{{Column: "id"}}})
			if err != nil {
				t.Fatalf("%s, %q: %v", c.typ, tenants, err)
			}
			var got strings.Builder
			for _, r := range rows {
				fmt.Fprintf(&got, "%s %s\n", r.Tenant, r.New)
			}
			want := one[string](t, db, `select coalesce(string_agg(concat(p."The Tenant") || ' ' || row_to_json(t)::text || e'\n', '' order by id), '')
				from t join "The Shop".parent p on p."The Key" = t."own Key" where concat(p."The Tenant") = any ($1) and concat(p."The Tenant") <> ''`, append([]string{}, tenants...))
			if got.String() != want {
				t.Errorf("%s, %q:\n%s\nwant:\n%s", c.typ, tenants, got.String(), want)
			}
			logged := one[string](t, db, `select coalesce(string_agg(tenant || ' ' || new::text || e'\n', '' order by seq), '') from notifyql.change where watch = $1 and tenant = any ($2) and tenant <> ''`, id, append([]string{}, tenants...))
			if got.String() != logged {
				t.Errorf("%s, %q:\n%s\nlogged:\n%s", c.typ, tenants, got.String(), logged)
			}
		}
	}

	id := one[int](t, db, `select id from notifyql.watched where state = 'watched'`)
	for _, step := range []struct {
		sql  string
		want int
		fail string
	}{
		{`select 1`, 2, ""},
		{`alter table "The Shop".parent rename "The Tenant" to other`, 0, ""},
		{`alter table "The Shop".parent rename other to "The Tenant"`, 2, ""},
		{`alter table "The Shop".parent rename to others`, 0, ""},
		{`alter table "The Shop".others rename to parent`, 2, ""},
		{`alter table t rename "own Key" to other`, 0, ""},
		{`alter table t rename other to "own Key"`, 2, ""},
		{`alter table "The Shop".parent enable row level security`, 0, `row level security is on for "The Shop".parent and would hide rows from login`},
		{`alter table "The Shop".parent disable row level security`, 2, ""},
		{`do $$ begin execute format('revoke select on "The Shop".parent from %I', notifyql.server_role()); end $$`, 0, `have its owner call notifyql.watch again`},
		{`select notifyql.watch('t', 'The Tenant', tenant_via => 'own Key')`, 2, ""},
		{`alter table t drop constraint "t_own Key_fkey"`, 0, ""},
		{`drop table "The Shop".parent`, 0, ""},
	} {
		db.Exec(t, step.sql)
		rows, _, err := rowsOf(t, s, change.Query{Watch: change.WatchID(id), Tenants: []string{"7"}})
		if len(rows) != step.want || (err != nil) != (step.fail != "") || err != nil && !strings.Contains(err.Error(), step.fail) {
			t.Errorf("%s: %d rows, want %d; %v", step.sql, len(rows), step.want, err)
		}
	}
}

func split(list []string) (lists [][]string) {
	for _, s := range list {
		lists = append(lists, []string{s})
	}
	return lists
}

// A tenant's rows are found by the indexes on the parent's tenant and on the foreign key, and so are an enum's and a domain's.
func TestRowsOfTenantsByIndex(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good', 'bad', 'other'); create domain number as bigint;
		create table orders (id int primary key, tenant_id text, mood mood, number number); create table items (id int primary key, order_id int references orders, mood mood, number number);
		insert into orders select i, 't' || i % 2000, case when i < 10 then 'good' else 'other' end::mood, i % 2000 from generate_series(1, 20000) i; insert into items select i, i % 20000 + 1, case when i < 10 then 'good' else 'other' end::mood, i % 5000 from generate_series(1, 50000) i;
		create index on orders (tenant_id); create index on orders (mood); create index on orders (number); create index on items (order_id); create index on items (mood); create index on items (number); analyze orders, items`)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it has served
	for _, c := range []struct {
		watch   string
		tenants []string
	}{
		{`'items', tenant_via => 'order_id'`, []string{"t1"}},
		{`'items', tenant_via => 'order_id'`, []string{"t1", "t2"}},
		{`'items', 'mood', tenant_via => 'order_id'`, []string{"good", "nobody"}},
		{`'items', 'number', tenant_via => 'order_id'`, []string{"1", "2", "x"}},
		{`'items', 'mood'`, []string{"good"}},
		{`'items', 'number'`, []string{"1", "2"}},
	} {
		id := watch(t, db, c.watch)
		r := rowsReader{conn: conn, time: smallTimeout}
		if err := r.begin(t.Context(), &change.Query{Watch: id}); err != nil {
			t.Fatal(err)
		}
		query, _, err := r.table.query(&change.Query{Watch: id, Tenants: c.tenants}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		rows := conn.PgConn().ExecParams(t.Context(), "explain "+query.sql, query.values, query.types, nil, nil)
		for rows.NextRow() {
			fmt.Fprintf(&plan, "%s\n", rows.Values()[0])
		}
		if _, err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(plan.String(), "Seq Scan") {
			t.Errorf("%s:\n%s", query.sql, plan.String())
		}
		r.end(t.Context())
	}
}

// writeItems writes at random to orders and items until stop, and counts its transactions.
func writeItems(ctx context.Context, db *pgtest.DB, seed uint64, done *atomic.Int64, stop <-chan struct{}) error {
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	random := rand.New(rand.NewPCG(seed, 2))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		order, item, tenant := random.IntN(40), random.IntN(400), string(rune('a'+random.IntN(4)))
		_, err := conn.Exec(ctx, []string{
			fmt.Sprintf(`insert into items select i, %d, '%d %d' from generate_series(%d, %[4]d + 3) i on conflict (id) do update set x = excluded.x`, order, seed, n, item),
			fmt.Sprintf(`insert into items values (%d, null, 'n') on conflict do nothing`, item),
			fmt.Sprintf(`update items set x = '%d %d' where order_id = %d`, seed, n, order),
			fmt.Sprintf(`update items set order_id = %d, x = 'moved %d %d' where id = %d`, order, seed, n, item),
			fmt.Sprintf(`delete from items where id = %d`, item),
			fmt.Sprintf(`delete from orders where id = %d`, order),
			fmt.Sprintf(`update orders set id = %d where id = %d`, random.IntN(40), order),
			fmt.Sprintf(`insert into orders values (%d, '%s') on conflict do nothing`, order, tenant),
			fmt.Sprintf(`insert into orders values (%d, '%s') on conflict do nothing`, random.IntN(40), tenant),
			// An order is handed over with its items, while nobody else writes to those.
			fmt.Sprintf(`begin; lock table items in share row exclusive mode; update orders set tenant_id = '%s' where id = %d; update items set order_id = order_id where order_id = %[2]d; commit`, tenant, order),
		}[random.IntN(10)], pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			if _, rolled := conn.Exec(ctx, `rollback`); rolled != nil {
				return rolled
			}
			if err := notConflict(err); err != nil && !strings.Contains(err.Error(), "23503") { // the order is gone
				return err
			}
		}
		done.Add(1)
	}
}

// What a tenant's subscriber is given at first, and what follows it in the log for him, make up the rows that he may see in the end.
func TestRowsThroughAForeignKeyAndWhatFollows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int primary key, tenant_id text); create table items (id int primary key, order_id int references orders on delete cascade on update cascade, x text); create index on items (order_id)`)
	id := watch(t, db, `'items', tenant_via => 'order_id'`)
	db.Exec(t, `insert into orders select i, chr(97 + i % 4) from generate_series(0, 39) i; insert into items select i, i % 40, 'first' from generate_series(0, 399) i`)
	s := testSource(t, db)

	stop := make(chan struct{})
	var done atomic.Int64
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	for w := range 3 {
		wg.Go(func() {
			if err := writeItems(t.Context(), db, uint64(w), &done, stop); err != nil {
				t.Error(err)
			}
		})
	}
	type read struct {
		tenants []string
		rows    map[string]bool
		at      change.Cursor
	}
	var reads []read
	for _, tenants := range [][]string{{"a"}, {"a", "b"}, {"b"}, {"d", "a", "nobody"}} {
		r := read{tenants: tenants, rows: map[string]bool{}}
		var err error
		if r.at, err = s.Rows(t.Context(), &change.Query{Watch: id, Tenants: tenants}, 30, func(page []change.Change) error {
			for _, c := range page {
				r.rows[string(c.New)] = true
				if !slices.Contains(tenants, c.Tenant) {
					return fmt.Errorf("a row of %q for %q", c.Tenant, tenants)
				}
			}
			for n := done.Load(); done.Load() < n+20; {
				if t.Failed() {
					return errors.New("a writer has failed")
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		reads = append(reads, r)
	}
	end()

	for _, r := range reads {
		left := behind(t, db, r.at, id, r.tenants...)
		if len(left) == 0 {
			t.Error("nothing was written behind it")
		}
		if err := replay(r.rows, left); err != nil {
			t.Errorf("%q: %v", r.tenants, err)
			continue
		}
		var final pgtype.FlatArray[string]
		if err := db.Pool(t).QueryRow(t.Context(), `select array(select row_to_json(i)::text from items i join orders o on o.id = i.order_id where o.tenant_id = any ($1))`, r.tenants).Scan(&final); err != nil {
			t.Fatal(err)
		}
		for _, image := range final {
			if !r.rows[image] {
				t.Errorf("%q: %s is missing", r.tenants, image)
			}
		}
		if len(final) != len(r.rows) {
			t.Errorf("%q: %d rows, want %d", r.tenants, len(r.rows), len(final))
		}
	}
}

// The way to a table's tenants is told as its tenant column, and so is that it is lost, and found.
func TestAWayIsFollowed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int primary key, tenant_id text); create table items (id int primary key, order_id int constraint key references orders); select notifyql.watch('items', tenant_via => 'order_id')`)
	told := make(chan string)
	startNode(t, Config{DatabaseURL: db.URL, Poll: 20 * time.Millisecond, OnCatalog: func(c catalog.Catalog) {
		select {
		case told <- c.Tables[0].TenantColumn:
		case <-t.Context().Done():
		}
	}})
	const way = "order_id -> public.orders (id): tenant_id"
	for _, step := range []struct{ sql, want string }{
		{`select 1`, way},
		{`alter table orders rename tenant_id to other`, ""},
		{`alter table orders rename other to tenant_id`, way},
		{`alter table orders rename id to other`, ""},
		{`alter table orders rename other to id`, way},
		{`alter table orders rename to other`, ""},
		{`alter table other rename to orders`, way},
		{`alter table items drop constraint key`, ""},
		{`alter table items add tenant_id int; select notifyql.watch('items')`, "tenant_id"},
		{`alter table items add constraint key foreign key (order_id) references orders; select notifyql.watch('items', tenant_via => 'key')`, way},
		{`drop table orders cascade`, ""},
	} {
		db.Exec(t, step.sql)
		select {
		case got := <-told:
			if got != step.want {
				t.Errorf("after %s: %q, want %q", step.sql, got, step.want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing was told after %s", step.sql)
		}
	}
}

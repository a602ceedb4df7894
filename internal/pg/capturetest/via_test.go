package capturetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// shop has orders of tenants a and b, and their items, which find their tenant through the order.
const shop = `
	create table orders (gone int, id int primary key, tenant_id text, note text); alter table orders drop column gone;
	create table items (gone int, id int primary key, order_id int references orders on delete cascade on update cascade, x text); alter table items drop column gone;
	insert into orders values (1, 'a'), (2, 'b'), (3, 'a');
	select notifyql.watch('items', tenant_via => 'order_id')`

// told gives the log as lines: op, tenants, and the item's number.
const told = `select concat(op, ' ', old_tenant, '>', tenant, ' ', coalesce(new ->> 'id', old ->> 'id')) from notifyql.change where watch <> 0 order by seq`

// telling runs statements, each by itself, and returns their warnings.
func telling(t *testing.T, db *pgtest.DB, as string, statements ...string) (said []string) {
	t.Helper()
	config, err := pgx.ParseConfig(db.URLAs(as))
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			said = append(said, n.Message)
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it has served
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return said
}

// What a transaction's statements tell, of a shop as it was made.
func TestTenantsThroughAForeignKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, shop)
	db.Exec(t, `insert into items values (10, 1), (20, 2), (30, 3), (99, null)`)
	const (
		missing = "the row that its foreign key refers to is not there"
		nothing = ""
	)
	for _, c := range []struct{ name, sql, want, said string }{
		{"insert", `insert into items values (11, 1), (21, 2), (90, null)`, "I >a 11\nI >b 21\nI > 90", nothing},
		{"update", `update items set x = 'y' where id in (10, 20, 99)`, "U a>a 10\nU b>b 20\nU > 99", nothing},
		{"to another order", `update items set order_id = 2 where id = 10; update items set order_id = null where id = 20; update items set order_id = 1 where id = 99`, "U a>b 10\nU b> 20\nU >a 99", nothing},
		{"delete", `delete from items where id < 30`, "D a> 10\nD b> 20", nothing},
		{"with its order in one statement", `with o as (insert into orders values (4, 'c') returning id) insert into items select 40, id from o`, "I >c 40", nothing},
		{"with its order", `insert into orders values (4, 'c'); insert into items values (40, 4); delete from items where id = 40; delete from orders where id = 4`, "I >c 40\nD c> 40", nothing},
		{"its order has no tenant", `insert into orders values (4, null), (5, ''); insert into items values (40, 4), (50, 5)`, "I > 40\nI > 50", nothing},
		{"savepoints", `savepoint s; insert into orders values (4, 'c'); insert into items values (40, 4); rollback to s; insert into orders values (4, 'd'); insert into items values (40, 4)`, "I >d 40", nothing},

		{"its order is deleted", `delete from orders where id in (1, 2)`, "D a> 10\nD b> 20", nothing},
		{"all are", `delete from orders`, "D a> 10\nD b> 20\nD a> 30", nothing},
		{"its order is deleted, and another takes its place", `delete from orders where id = 1; insert into orders values (1, 'b'); insert into items values (11, 1)`, "D a> 10\nI >b 11", nothing},
		{"its order gets another number", `update orders set id = id + 10`, "U a>a 10\nU b>b 20\nU a>a 30", nothing},
		{"its order gets another number and tenant", `update orders set id = 7, tenant_id = 'c' where id = 1`, "U a>c 10", nothing},
		{"numbers go round", `alter table items drop constraint items_order_id_fkey, add constraint items_order_id_fkey foreign key (order_id) references orders on update cascade; select notifyql.watch('items', tenant_via => 'order_id');
			update orders set id = 9 where id = 1; update orders set id = 1 where id = 2; update orders set id = 2 where id = 9`, "U a>a 10\nU b>b 20\nU a>a 10", nothing},
		{"set null", `alter table items drop constraint items_order_id_fkey, add foreign key (order_id) references orders on delete set null; select notifyql.watch('items', tenant_via => 'order_id'); delete from orders where id < 3`, "U a> 10\nU b> 20", nothing},

		{"its order changes hands", `update orders set tenant_id = 'b' where id = 1`, nothing, nothing},
		{"and it is written to", `update orders set tenant_id = 'b' where id = 1; update items set x = 'y' where id = 10; update items set x = 'z' where id = 10; delete from items where id = 10`, "U a>b 10\nU b>b 10\nD b> 10", nothing},
		{"and it is deleted", `update orders set tenant_id = 'b' where id = 1; delete from items where id = 10`, "D a> 10", nothing},
		{"and it goes to another", `update orders set tenant_id = 'b' where id = 1; update items set order_id = 3 where id = 10; update items set order_id = 1 where id = 30`, "U a>a 10\nU a>b 30", nothing},
		{"and is deleted with its order", `update orders set tenant_id = 'b' where id = 1; delete from orders where id = 1`, "D a> 10", nothing},
		{"written to, and deleted with its order", `update orders set tenant_id = 'b' where id = 1; update items set x = 'y' where id = 10; delete from orders where id = 1`, "U a>b 10\nD b> 10", nothing},
		{"there and back", `update orders set tenant_id = 'b' where id = 1; update orders set tenant_id = 'a' where id = 1; update items set x = 'y' where id = 10`, "U a>a 10", nothing},
		{"from hand to hand", `update orders set tenant_id = 'b' where id = 1; update orders set tenant_id = 'c' where id = 1; update items set x = 'y' where id = 10`, "U a>c 10", nothing},
		{"what the transaction wrote before stays", `update items set x = 'x' where id = 10; update orders set tenant_id = 'b' where id = 1; update items set x = 'y' where id = 10`, "U a>a 10\nU b>b 10", nothing},
		{"not, at a savepoint", `savepoint s; update orders set tenant_id = 'b' where id = 1; rollback to s; update items set x = 'y' where id = 10`, "U a>a 10", nothing},
		{"within a savepoint", `savepoint s; update orders set tenant_id = 'b' where id = 1; update items set x = 'y' where id = 10; release s; update items set x = 'z' where id = 10`, "U a>b 10\nU b>b 10", nothing},
		{"another column of its order", `update orders set note = 'n'; update items set x = 'y' where id = 10`, "U a>a 10", nothing},
		{"with the setting forged", `set local "notifyql.former" = '1'; update orders set tenant_id = 'b' where id = 1; set local "notifyql.former" = ''; update items set x = 'y' where id = 10`, "U b>b 10", nothing},

		{
			"before its order", `alter table items alter constraint items_order_id_fkey deferrable initially deferred; insert into items values (40, 4), (41, 4); insert into orders values (4, 'c'); insert into items values (42, 4); update items set x = 'y' where id = 40`,
			"I > 40\nI > 41\nI >c 42\nU c>c 40", "a change of public.items reaches nobody: " + missing,
		},
		{"deleted after its order", `alter table items drop constraint items_order_id_fkey, add constraint items_order_id_fkey foreign key (order_id) references orders deferrable initially deferred; select notifyql.watch('items', tenant_via => 'order_id');
			delete from orders where id = 1; delete from items where id = 10`, "D a> 10", nothing},
		{"by replication's apply worker", `set local session_replication_role = replica; delete from orders where id = 1; delete from items where id = 10; insert into orders values (4, 'c'); insert into items values (40, 4)`, "D a> 10\nI >c 40", nothing},
		{"truncate", `truncate orders cascade`, "T > ", nothing},
	} {
		said := telling(t, db, "postgres", `begin; truncate notifyql.change; `+c.sql+`; commit`)
		t.Run(c.name, func(t *testing.T) {
			want(t, lines(t, db, told), c.want)
			want(t, strings.Join(said, "\n"), c.said)
		})
		db.Exec(t, `drop table items, orders; `+shop+`; insert into items values (10, 1), (20, 2), (30, 3), (99, null)`)
	}
}

// The writer may do nothing with the orders, has a search_path and settings of his own, and an old snapshot.
func TestTheWriterNeedsNoRightToTheParent(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, shop+`; create schema evil; create table evil.orders as select 1 as id, 'evil' as tenant_id; grant usage on schema evil to public;
		create function evil.int4eq(int, int) returns boolean language sql as 'select true'; create operator evil.= (leftarg = int, rightarg = int, function = evil.int4eq)`)
	writer := db.Role(t, "")
	db.Exec(t, `grant select, insert, update, delete on items to `+writer)
	said := telling(t, db, writer, `set search_path = evil, pg_catalog, public; set row_security = off; set lock_timeout = 1; set extra_float_digits = 0`,
		`insert into public.items values (10, 1)`, `begin isolation level repeatable read; update public.items set x = 'y'; commit`,
		`begin isolation level serializable; delete from public.items; commit`)
	want(t, strings.Join(said, "\n"), "")
	want(t, lines(t, db, told), "I >a 10\nU a>a 10\nD a> 10")

	// What counts is what the transaction sees.
	conn := db.Conn(t, "postgres")
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	db.Exec(t, `truncate notifyql.change`)
	exec(`begin isolation level repeatable read; select from orders`)
	db.Exec(t, `update orders set tenant_id = 'z' where id = 1`)
	exec(`insert into items values (11, 1); commit; update items set x = 'y'`)
	want(t, lines(t, db, told), "I >a 11\nU z>z 11")
}

// A way that is not what it was leads nowhere, whatever is called so now, and watched says so.
func TestALostWayMeansNobody(t *testing.T) {
	t.Parallel()
	const (
		path = "order_id -> public.orders (id): tenant_id"
		lost = "the way to its tenant (" + path + ") is not what it was, so its rows are nobody's: watch the table again"
		took = "the right to find its tenant (" + path + ") was taken away, so its rows are nobody's: watch the table again"
		hurt = "its triggers are not as they should be (disabled or dropped, or there are new partitions or types): watch the table again"
	)
	for _, c := range []struct{ name, sql, state, tenant, again string }{
		{"as it was", `select 1`, "watched", "a", ""},
		{"the key is dropped", `alter table items drop constraint items_order_id_fkey`, lost, "", "it has no foreign key order_id, and none of a single column order_id"},
		{"and made anew", `alter table items drop constraint items_order_id_fkey, add foreign key (order_id) references orders`, lost, "", ""},
		{"and renamed", `alter table items rename constraint items_order_id_fkey to other`, "watched", "a", ""},
		{"its column is renamed", `alter table items rename order_id to other; alter table items rename y to order_id`, lost, "", "it has no foreign key order_id"},
		{"the tenant column is renamed", `alter table orders rename tenant_id to other`, lost, "", "public.orders, to which order_id refers, has no tenant column tenant_id"},
		{"and another is called so", `alter table orders rename tenant_id to other; alter table orders rename note to tenant_id`, lost, "", ""},
		{"the tenant column is dropped", `alter table orders drop tenant_id; alter table orders add tenant_id text default 'a'`, lost, "", ""},
		{"the number is renamed", `alter table orders rename id to other; alter table orders rename number to id`, lost, "", "public.orders (other)"},
		{"the orders are renamed", `alter table orders rename to others; create view orders as select id, 'b'::text as tenant_id from others`, lost, "", "public.others"},
		{"the orders move", `create schema s; alter table orders set schema s`, lost, "", "s.orders"},
		{"the items move", `create schema s; alter table items rename to things; alter table things set schema s; create view items as select * from s.things`, "watched", "a", ""},
		{"the right is taken away", `revoke select on orders from FINDER`, took, "", ""},
		{"of a column", `revoke select (tenant_id) on orders from FINDER`, took, "", ""},
		{"row level security", `alter table orders enable row level security`, took, "", "row level security is on for public.orders, and hides its tenant | Run: create policy notifyql on public.orders for select to FINDER using (true)"},
		{"with a policy", `alter table orders enable row level security; create policy notifyql on orders for select to FINDER using (true)`, "watched", "a", ""},
		{"a trigger of the orders is disabled", `alter table orders disable trigger user`, hurt, "a", ""},
		{"a trigger of the orders is dropped", `do $$ begin execute format('drop trigger %I on orders', (select tgname from pg_trigger where tgrelid = 'orders'::regclass and tgname ~ ' notifyql [0-9]')); end $$`, hurt, "a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			finder := strings.NewReplacer("FINDER", role(t, db, "tenant"))
			db.Exec(t, strings.ReplaceAll(strings.Replace(shop, "select notifyql", "alter table items add y int default 1; select notifyql", 1), "note text", "note text default 'b', number serial unique"))
			db.Exec(t, finder.Replace(c.sql))
			want(t, lines(t, db, `select state from notifyql.watched`), c.state)
			table := lines(t, db, `select rel::text from notifyql.watch`)
			column := lines(t, db, `select attname::text from pg_attribute where attrelid = (select rel from notifyql.watch) and attnum = 3`)
			said := telling(t, db, "postgres", `begin; insert into `+table+` (id) values (1)`, `update `+table+` set `+column+` = 1`, `update `+table+` set x = 'y'`, `delete from `+table, `commit`)
			want(t, lines(t, db, `select concat(op, old_tenant, '>', tenant) from notifyql.change order by seq`), strings.ReplaceAll("I>\nU>$\nU$>$\nD$>", "$", c.tenant))
			if warned := len(said) == 1 && strings.HasPrefix(said[0], "a change of "); warned != (c.tenant == "") || len(said) > 1 {
				t.Errorf("said %q", said)
			}
			got := try(t, db, `select notifyql.watch('`+table+`', tenant_via => 'order_id')`)
			path := lines(t, db, `select (via).path from notifyql.watch`)
			if again := finder.Replace(c.again); !strings.Contains(got, again) && !strings.Contains(path, again) || again == "" && got != "" {
				t.Errorf("watched again: %s; %s", got, path)
			}
			if got == "" {
				want(t, lines(t, db, `select state from notifyql.watched`), "watched")
			}
		})
	}
}

// A lock on the orders, as DDL takes it, is waited for once in a transaction, and not for long.
func TestALockOnTheParentIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, shop+`; insert into items select i, 1 from generate_series(1, 200) i; truncate notifyql.change`)
	ddl := db.Conn(t, "postgres")
	if _, err := ddl.Exec(t.Context(), `begin; lock table orders in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	// Two hundred times the wait would be more than that.
	said := telling(t, db, "postgres", `set statement_timeout = '10s'`, `update items set x = 'y'`)
	want(t, strings.Join(said, "\n"), "a change of public.items reaches nobody: canceling statement due to lock timeout")
	want(t, lines(t, db, `select concat(count(*), old_tenant, tenant) from notifyql.change group by old_tenant, tenant`), "200")
	if _, err := ddl.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	want(t, strings.Join(telling(t, db, "postgres", `truncate notifyql.change; update items set x = 'z' where id = 1`), ""), "")
	want(t, lines(t, db, told), "U a>a 1")
}

// Whatever the orders' owner has put where the look-up meets it runs as a role that can read whose they are, and nothing else.
func TestTheLookUpRunsAsNobody(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	w := login(t, db, "watch")
	for _, sql := range []string{
		hostile,
		`create function evil(i int) returns int immutable language plpgsql as $$ begin perform public.attack('index'); return i; end $$;
		create function evil_policy() returns boolean language plpgsql as $$ begin perform public.attack('policy'); return true; end $$`,
		shop,
		`create index on orders (tenant_id) where evil(1) = 1`,
		`do $$ begin execute format('create policy p on orders to %I using (evil_policy())', (select left(pg_get_userbyid(nspowner), -length('owner')) || 'tenant' from pg_namespace where nspname = 'notifyql')); end $$;
		alter table orders enable row level security`,
	} {
		if _, err := w.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	notices := hearNotices(t, db, w.Config().User, `insert into items values (10, 1); update orders set tenant_id = 'c' where id = 1; update items set x = 'y'; delete from orders`)
	ran := map[string]bool{}
	for _, n := range notices {
		what, as, _ := strings.Cut(n, " as ")
		ran[what] = ran[what] || as == "tenant:"
		if as != "tenant:" && !strings.HasSuffix(w.Config().User, strings.SplitN(as, ":", 2)[0]) { // the index is met by the writer's own statements too
			t.Error(n)
		}
	}
	if !ran["index"] || !ran["policy"] {
		t.Errorf("the attack did not run: %v", ran)
	}
	want(t, lines(t, db, `select concat(old_tenant, '>', tenant) from notifyql.change where watch = 2 order by seq`), ">a\nc>c\nc>")

	tenant := db.Conn(t, "postgres")
	if _, err := tenant.Exec(t.Context(), `set role `+role(t, db, "tenant")); err != nil {
		t.Fatal(err)
	}
	for sql, may := range map[string]bool{
		`select id, tenant_id from orders`: true, `select note from orders`: false, `select from items`: false, `select notifyql.tenant_of_2('1')`: false, `select from notifyql.former`: false,
		`create function notifyql.f() returns int language sql as 'select 1'`: false, `create or replace function notifyql.tenant_of_2(text) returns text language sql as 'select $1'`: false,
		`drop function notifyql.tenant_of_2(text)`: false, `create table public.loot (x int)`: false, `update orders set tenant_id = 'x'`: false,
	} {
		if _, err := tenant.Exec(t.Context(), sql); (err == nil) != may || err != nil && code(err) != denied {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// Who may watch, and even make triggers on another's tables, can neither keep a false tenant of a row nor change the way to it.
func TestAWayCannotBeForged(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, shop+`; insert into items values (10, 1); truncate notifyql.change`)
	w := login(t, db, "watch")
	db.Exec(t, `grant trigger, references, select, insert, update, delete on orders, items to `+w.Config().User)
	orders := one[string](t, db, `select 'orders'::regclass::oid::text`)
	for _, c := range []struct{ sql, fails string }{
		{`create trigger zz after update on orders for each row execute function notifyql.keep_former('1', '` + orders + `', 'id', 'note')`, ""},
		{`create table forged (id int, tenant_id text); insert into forged values (1, 'x');
			create trigger " notifyql 1" after delete on forged for each row execute function notifyql.keep_former('1', '` + orders + `', 'id', 'tenant_id')`, ""},
		{`begin; delete from forged; update orders set note = 'evil'; set local "notifyql.former" = '1'; select set_config('notifyql.former', pg_current_xact_id()::text, true); update items set x = 'y'; commit`, ""},
		{`create table mine (id int primary key, order_id int references orders)`, ""},
		{`select notifyql.watch('mine', tenant_via => 'order_id')`, "its tenant is that of public.orders, which is another's"},
		{`select notifyql.watch('items', tenant_via => 'order_id')`, "its tenant is that of public.orders, which is another's"},
		{`select notifyql.confirm('items', 4::smallint, false, '{}', null, null, false,
			row((select oid from pg_constraint where conrelid = 'items'::regclass and contype = 'f'), 3, 'orders'::regclass, 2, 'order_id -> public.orders (id): note')::notifyql.way)`, "not those"},
		{`select notifyql.confirm('items', 3::smallint, false, '{}', null, null, false,
			row((select oid from pg_constraint where conrelid = 'items'::regclass and contype = 'f'), 3, 'orders'::regclass, 2, 'a path that leads nowhere')::notifyql.way)`, "not those"},
		{`select notifyql.make_tenant_of(1, 'select 1')`, "permission denied"},
		{`select notifyql.tenant_of_1('1')`, "permission denied"},
		{`select from notifyql.former`, "permission denied"},
	} {
		_, err := w.Exec(t.Context(), c.sql)
		if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%s: %v", c.sql, err)
		}
	}
	want(t, lines(t, db, told), "U a>a 10")
}

func TestWatchRefusesAWayWithAReason(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good'); create table parent (id int primary key, a int, b int, org text, mood mood, day date, at timestamptz unique, k mood unique, unique (a, b));
		create table t (id int, tenant_id text, p int references parent, q int constraint first references parent, a int, b int, at timestamptz references parent (at), k mood references parent (k),
			constraint "both" foreign key (a, b) references parent (a, b));
		alter table t add constraint second foreign key (q) references parent`)
	for _, c := range []struct{ sql, want string }{
		{`select notifyql.watch('t', 'org', tenant_via => 'nothing')`, `it has no foreign key nothing, and none of a single column nothing | Name with tenant_via a foreign key, or its column if that has no other.`},
		{`select notifyql.watch('t', 'org', tenant_via => 'id')`, `it has no foreign key id`},
		{`select notifyql.watch('t', 'org', tenant_via => 'a')`, `it has no foreign key a`},
		{`select notifyql.watch('t', 'org', tenant_via => 'both')`, `its foreign key "both" has several columns | A foreign key of one column can lead to a tenant`},
		{`select notifyql.watch('t', 'org', tenant_via => 'q')`, `several foreign keys are of the column q`},
		{`select notifyql.watch('t', tenant_via => 'p')`, `public.parent, to which p refers, has no tenant column tenant_id`},
		{`select notifyql.watch('t', null, tenant_via => 'p')`, `has no tenant column null`},
		{`select notifyql.watch('t', 'day', tenant_via => 'p')`, `the tenant column day of public.parent is of type date`},
		{`select notifyql.watch('t', 'org', tenant_via => 'at')`, `its foreign key t_at_fkey refers to a column of type timestamp with time zone`},
		{`select notifyql.watch('t', 'org', tenant_via => 'k')`, `refers to a column of type public.mood`},
		{`select notifyql.watch('t', 'org', shared => true, tenant_via => 'p')`, `its rows are shared or have tenants, not both`},
		{`select notifyql.watch('t', 'org', tenant_via => 'p', exclude => '{p}')`, `cannot exclude p: it is the tenant column`},
		{`select notifyql.watch('t', 'org', tenant_via => 'second')`, ``},
		{`select notifyql.watch('t', 'mood', tenant_via => 'p')`, ``},
	} {
		if got := try(t, db, c.sql); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s:\n%s", c.sql, got)
		}
	}
	want(t, lines(t, db, `select concat(tenant_column, ' ', tenant_via, ' ', state) from notifyql.watched`), "mood p watched")
}

// The rights that a way needs come and go with it, whatever else is watched, and so do its triggers and its function.
func TestRightsOfAWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int primary key, tenant_id text, note text); create table people (id int primary key, tenant_id text);
		create table items (id int primary key, order_id int references orders, person int references people); create table parts (id int primary key, order_id int references orders)`)
	e := listen(t, db)
	const (
		rights = `select concat_ws(' ', c.relname || coalesce('.' || p.attname, ''), substring(p.grantee::regrole::text from '[a-z]+$'))
			from pg_class c cross join lateral (
				select null as attname, a.grantee from aclexplode(c.relacl) a
				union all select a.attname, p.grantee from pg_attribute a, aclexplode(a.attacl) p where a.attrelid = c.oid) p
			where c.relnamespace = 'public'::regnamespace and p.grantee::regrole::text ~ 'tenant|server' order by 1`
		made = `select tgrelid::regclass || tgname from pg_trigger where not tgisinternal and tgname like ' notifyql%' and tgname not like '% truncate' union select proname::text from pg_proc where proname ~ '^tenant_of_[0-9]' order by 1`

		ofOrders  = "orders.id server\norders.id tenant\norders.tenant_id server\norders.tenant_id tenant"
		ofPeople  = "people.id server\npeople.id tenant\npeople.tenant_id server\npeople.tenant_id tenant"
		toOrders1 = "orders notifyql 1"
		toOrders3 = "orders notifyql 3"
		toPeople  = "people notifyql 1"
	)
	for _, c := range []struct{ sql, heard, rights, made string }{
		{`select notifyql.watch('items', tenant_via => 'order_id')`, "W 1", "items server\n" + ofOrders, "items notifyql\n" + toOrders1 + "\ntenant_of_1"},
		{`select notifyql.watch('items', tenant_via => 'order_id')`, "", "items server\n" + ofOrders, "items notifyql\n" + toOrders1 + "\ntenant_of_1"},
		{
			`select notifyql.watch('orders', shared => true, exclude => '{tenant_id}')`, "W 2",
			"items server\norders server\norders.id tenant\norders.tenant_id tenant", "items notifyql\norders notifyql\n" + toOrders1 + "\ntenant_of_1",
		},
		{`select notifyql.unwatch('orders')`, "W 2", "items server\n" + ofOrders, "items notifyql\n" + toOrders1 + "\ntenant_of_1"},
		{
			`select notifyql.watch('parts', tenant_via => 'order_id')`, "W 3", "items server\n" + ofOrders + "\nparts server",
			"items notifyql\n" + toOrders1 + "\n" + toOrders3 + "\nparts notifyql\ntenant_of_1\ntenant_of_3",
		},
		{
			`select notifyql.watch('items', tenant_via => 'person')`, "W 1", "items server\n" + ofOrders + "\nparts server\n" + ofPeople,
			"items notifyql\n" + toOrders3 + "\nparts notifyql\n" + toPeople + "\ntenant_of_1\ntenant_of_3",
		},
		{`select notifyql.unwatch('parts')`, "W 3", "items server\n" + ofPeople, "items notifyql\n" + toPeople + "\ntenant_of_1"},
		{`select notifyql.watch('items', shared => true)`, "W 1", "items server", "items notifyql"},
		{
			`select notifyql.watch('items', tenant_via => 'person'); drop table people cascade; select notifyql.watch('items', tenant_via => 'order_id')`, "W 1",
			"items server\n" + ofOrders, "items notifyql\n" + toOrders1 + "\ntenant_of_1",
		},
		{
			`select notifyql.watch('orders', shared => true, exclude => '{tenant_id}'); select notifyql.watch('parts', tenant_via => 'order_id'); select notifyql.unwatch('items'), notifyql.unwatch('parts')`,
			"W 4\nW 5\nW 1", "orders.id server\norders.note server", "orders notifyql",
		},
		{`select notifyql.watch('orders', shared => true, exclude => '{tenant_id}')`, "", "orders.id server\norders.note server", "orders notifyql"},
		{
			`select notifyql.watch('items', tenant_via => 'order_id')`, "W 6", "items server\norders server\norders.id tenant\norders.tenant_id tenant",
			"items notifyql\norders notifyql\n" + "orders notifyql 6\ntenant_of_6",
		},
		{`select notifyql.unwatch('orders'); drop table items; select notifyql.unwatch(tbl) from notifyql.watched`, "W 4\nW 6", "", ""},
	} {
		db.Exec(t, c.sql)
		t.Log(c.sql)
		want(t, text(e.hear(t)), c.heard)
		want(t, lines(t, db, rights), c.rights)
		want(t, lines(t, db, made), c.made)
	}
	want(t, lines(t, db, `select relname::text from pg_class where relnamespace = 'notifyql'::regnamespace and relname ~ '^[0-9]'`), "")
}

// Keys and tenants are of each type that they can be of.
func TestWaysOfEachType(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good', 'bad "one"'); create domain org as text; create domain number as bigint`)
	for _, c := range []struct{ key, of, tenant, value, want string }{
		{"int", "7", "smallint", "7", "7"},
		{"bigint", "9007199254740993", "number", "-8", "-8"},
		{"numeric", "1.50", "numeric", "1.50", "1.50"},
		{"text", "''", "text", "'t'", "t"},
		{"varchar(9)", `'q\"uo''te'`, "varchar(9)", "'v'", "v"},
		{"name", "'n'", "name", "'n'", "n"},
		{"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"},
		{"org", "'o'", "org", "'é'", "é"},
		{"smallint", "1", "mood", `'bad "one"'`, `bad "one"`},
	} {
		for _, hidden := range []string{"", ", exclude => '{x}'"} {
			db.Exec(t, fmt.Sprintf(`drop table if exists t, parent; truncate notifyql.change; create table parent (k %[1]s unique, "The Tenant" %[3]s);
				create table t ("The Key" %[1]s references parent (k) on delete cascade, x text); select notifyql.watch('t', 'The Tenant', tenant_via => 'The Key'%[5]s); insert into parent values (%[2]s, %[4]s);
				insert into t values (%[2]s); delete from parent`, c.key, c.of, c.tenant, c.value, hidden))
			want(t, c.key+lines(t, db, `select concat(old_tenant, '>', tenant) from notifyql.change order by seq`), c.key+">"+c.want+"\n"+c.want+">")
		}
	}
}

// A row that can't be converted has its tenant all the same; so has one that refers to a partitioned table, or to its own.
func TestWaysOfOddTables(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, hostile+`;
		create table parent (id int primary key, tenant_id text) partition by range (id); create table parent1 (tenant_id text, id int not null);
		alter table parent attach partition parent1 for values from (0) to (10); create table parent2 partition of parent for values from (10) to (20);
		create table t (id int, p int references parent on delete cascade on update cascade, m mood);
		create table tree (id int primary key, up int references tree on delete cascade, tenant_id text);
		select notifyql.watch('t', tenant_via => 'p'); select notifyql.watch('tree', tenant_via => 'up');
		insert into parent values (1, 'a'), (11, 'b'); insert into t values (1, 1, 'worse'), (2, 11, 'worst'); insert into tree values (1, null, 'a'), (2, 1, 'b'), (3, 2, 'c')`)
	db.Exec(t, `update t set m = 'good' where id = 2; update parent set id = 2 where id = 1; delete from parent; delete from tree`)
	want(t, lines(t, db, `select concat(op, flags & 1, ' ', old_tenant, '>', tenant) from notifyql.change where watch = 1 order by seq`),
		"I1 >a\nI1 >b\nU1 b>b\nU1 a>a\nD1 a>\nD0 b>")
	want(t, lines(t, db, `select concat(op, ' ', old_tenant, '>', tenant) from notifyql.change where watch = 2 order by seq`), "I >\nI >a\nI >b\nD >\nD a>\nD b>")

	// What becomes of one whose own parent can't be converted is not known. Nobody fails for that.
	db.Exec(t, `create table bad (id int primary key, tenant_id text, m mood default 'worst'); create table kids (id int, p int references bad on delete cascade); select notifyql.watch('kids', tenant_via => 'p');
		insert into bad values (1, 'a'), (2, 'b'); insert into kids values (1, 1), (2, 2); update bad set tenant_id = 'c' where id = 2; update kids set id = 3 where p = 2`)
	said := telling(t, db, "postgres", `delete from bad`)
	want(t, lines(t, db, `select concat(op, ' ', old_tenant, '>', tenant) from notifyql.change where watch = 3 order by seq`), "I >a\nI >b\nU c>c\nD >\nD >")
	want(t, strings.Join(said, "\n"), "a change of public.bad reaches nobody: assert_failure")
}

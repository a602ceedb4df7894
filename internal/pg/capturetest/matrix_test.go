package capturetest

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// shape is a way for a table t to be: it has columns id, tenant_id and x, and may have others.
type shape struct {
	name, create, watch string
	key                 bool // id is a key
	byX                 bool // partitioned by x
}

var shapes = []shape{
	{"key", `create table t (id int primary key, tenant_id text, x text)`, `select notifyql.watch('t')`, true, false},
	{"no key", `create table t (id int, tenant_id text, x text)`, `select notifyql.watch('t')`, false, false},
	{"unlogged, shared", `create unlogged table t (id int primary key, tenant_id text, x text)`, `select notifyql.watch('t', shared => true)`, true, false},
	{"partitioned", `create table t (id int primary key, tenant_id text, x text) partition by range (id);
		create table t0 partition of t for values from (0) to (10);
		create table t1 (x text, gone int, tenant_id text, id int not null); alter table t1 drop column gone; alter table t attach partition t1 for values from (10) to (20);
		create table t2 partition of t for values from (20) to (1000) partition by list (id); create table t20 partition of t2 default`, `select notifyql.watch('t')`, true, false},
	{"partitioned, rows move", `create table t (id int, tenant_id text, x text) partition by range (x);
		create table t0 partition of t (primary key (id)) for values from (minvalue) to ('n');
		create table t1 (x text, gone int, tenant_id text, id int primary key); alter table t1 drop column gone; alter table t attach partition t1 for values from ('n') to ('u');
		create table t2 partition of t default partition by hash (x); create table t20 partition of t2 (primary key (id)) for values with (modulus 1, remainder 0)`, `select notifyql.watch('t')`, false, true},
	{"partitioned by tenant", `create table t (id int, tenant_id text, x text) partition by list (tenant_id);
		create table t0 partition of t for values in ('a'); create table t1 partition of t default`, `select notifyql.watch('t')`, false, false},
	{"odd", `create table t (gone int, id int primary key, tenant_id text, x text, "Org ""1""" text generated always as (lower(tenant_id)) stored,
		j json default '{"x": "\u0000", "x": 1e400}', hidden text not null default 'hush', f float8 default 0.1, ts tstzrange default '[2024-01-01,)', m mood default 'good');
		alter table t drop column gone`, `select notifyql.watch('t', 'Org "1"', exclude => '{hidden}')`, true, false},
	{
		"tenants through a foreign key", org + `create table t (gone int, id int primary key, tenant_id text references "Org", x text); alter table t drop column gone`,
		`select notifyql.watch('t', 'Owner', tenant_via => 'tenant_id')`, true, false,
	},
	{
		"partitioned, tenants through a foreign key", org + `create table t (id int, tenant_id text, x text, hidden text default 'hush') partition by range (x);
		create table t0 partition of t (primary key (id)) for values from (minvalue) to ('n');
		create table t1 (x text, gone int, hidden text default 'hush', tenant_id text, id int primary key); alter table t1 drop column gone; alter table t attach partition t1 for values from ('n') to ('u');
		create table t2 partition of t default; alter table t add constraint "to Org" foreign key (tenant_id) references "Org"`,
		`select notifyql.watch('t', 'Owner', tenant_via => 'to Org', exclude => '{hidden}')`, false, true,
	},
}

// org is a table to which tenant_id can refer: the owner of org a is called owner a.
const org = `drop table if exists "Org"; create table "Org" (gone int, "Owner" name, name text primary key); alter table "Org" drop column gone;
	insert into "Org" select 'owner ' || n, n from unnest(array['a', 'b', 'c', 'o', 'z']) n;
	`

// write is a kind of write: statements, each in a transaction of its own unless it says otherwise.
type write struct {
	name  string
	sql   []string
	from  int  // the first version of Postgres that knows it
	key   bool // needs one
	whole bool // not for partitioned tables
	drops bool // x, which a table must not be partitioned by
	slow  bool // for one shape only, and not on the second version of the short run
}

var writes = []write{
	{name: "insert", sql: []string{`insert into t values (5, 'a', 'x')`, `insert into t (id, tenant_id) select i, 'b' from generate_series(30, 40) i`, `insert into t (id) values (6) returning x`}},
	{name: "update", sql: []string{`update t set x = 'new'`, `update t set x = x where id = 1`, `update t set tenant_id = 'z' where id = 2`, `update t set id = id + 100`}},
	{name: "update of a key to another partition and back", sql: []string{`update t set id = 15 where id = 1`, `begin; update t set id = 1 where id = 15; update t set id = 25 where id = 1; commit`}},
	{name: "update from", sql: []string{`update t set x = v.x from (values (1, 'one'), (2, 'two'), (2, 'two again')) v (id, x) where v.id = t.id`}},
	{name: "delete", sql: []string{`delete from t where id = 1`, `delete from t using (values (2)) v (id) where v.id = t.id`, `delete from t returning *`, `delete from t`}},
	{name: "truncate", sql: []string{`truncate t`, `insert into t values (5, 'a')`, `begin; truncate t restart identity cascade; insert into t values (5, 'a'); commit`}},
	{name: "copy", sql: []string{`copy t (id, tenant_id, x) from program 'printf "50,a,x\n51,b,\n"' with (format csv)`}},
	{name: "copy freeze", sql: []string{`begin; truncate t; copy t (id, tenant_id, x) from program 'printf "50,a,x\n51,b,y\n"' with (format csv, freeze); commit`}, whole: true},
	{name: "on conflict", key: true, sql: []string{
		`insert into t values (1, 'a', 'new'), (7, 'b', 'new') on conflict (id) do update set x = excluded.x || t.x`,
		`insert into t values (1, 'a', 'newer'), (8, 'b', 'new') on conflict do nothing`, `insert into t values (1, 'a') on conflict (id) do update set x = 'never' where false`,
	}},
	{name: "merge", from: 15, sql: []string{`merge into t using (values (1, 'm'), (2, null), (9, 'n')) v (id, x) on v.id = t.id
		when matched and v.x is null then delete when matched then update set x = v.x when not matched then insert (id, tenant_id, x) values (v.id, 'a', v.x)`}},
	{name: "writes in CTEs", sql: []string{
		`with d as (delete from t where id = 1 returning *) insert into t (id, tenant_id, x) select id + 50, tenant_id, x from d`,
		`with a as (update t set x = 'cte' where id = 2), b as (insert into t values (60, 'b')) update t set x = 'main' where id = 3`,
	}},
	{name: "savepoints", sql: []string{
		`begin; update t set x = 's1' where id = 1; savepoint a; update t set x = 's2' where id = 1; rollback to a; update t set x = 's3' where id = 1;
		savepoint b; insert into t values (70, 'a'); release b; delete from t where id = 70; commit`,
		`begin; savepoint a; savepoint b; update t set x = 'deep'; release b; rollback to a; update t set x = 'up'; commit`,
	}},
	{name: "exception blocks", sql: []string{`do $$ begin update t set x = 'e1' where id = 1; begin update t set x = 'e2' where id = 1; delete from t where id = 2; raise 'no'; exception when others then null; end;
		begin update t set x = 'e3' where id = 1; exception when others then null; end; end $$`}},
	{name: "a procedure that commits", sql: []string{`create procedure p() language plpgsql as $$ begin for i in 1..3 loop update t set x = i::text where id = i; if i = 2 then rollback; else commit; end if; end loop; end $$`, `call p()`}},
	{name: "a cursor", sql: []string{`do $$ declare c cursor for select * from t for update; begin for r in c loop update t set x = 'cursor' where current of c; end loop; end $$`}},
	{name: "a view", sql: []string{`create view v as select id, tenant_id, x from t where id < 100`, `insert into v values (80, 'a', 'v')`, `update v set x = 'w'`, `delete from v where id = 80`}},
	{name: "rolled back", sql: []string{`begin; insert into t values (90, 'a'); update t set x = 'never'; delete from t; rollback`}},
	{name: "many rows", sql: []string{`insert into t (id, tenant_id, x) select i, chr(97 + i % 3), repeat('x', i) from generate_series(100, 400) i`, `update t set x = 'y'`, `update t set id = 999 where id = 400`, `delete from t where id > 150`}},
	{name: "large rows", sql: []string{`insert into t values (91, 'a', repeat('x', 7000)), (92, 'a', repeat('y', 9000)), (93, 'b', repeat('é', 500000))`, `update t set tenant_id = 'c' where id > 90`, `update t set x = 'small' where id > 90`}},
	{name: "twenty megabytes", slow: true, sql: []string{`insert into t values (94, 'a', repeat('0123456789', 2000000))`}},
	{name: "a row changed again and again", sql: []string{`begin; insert into t values (95, 'a', '1'); update t set x = '2' where id = 95; update t set tenant_id = 'b' where id = 95; delete from t where id = 95; insert into t values (95, 'c', '4'); commit`}},
	{name: "as replication's apply worker", sql: []string{`set session_replication_role = replica; insert into t values (96, 'a'); update t set x = 'r'; delete from t where id = 2; set session_replication_role = origin`}},
	{name: "a column added", sql: []string{`begin; insert into t values (97, 'a'); alter table t add extra int default 5; insert into t (id, tenant_id, extra) values (98, 'b', 6); update t set extra = 7 where id = 1; commit`, `update t set extra = 8`}},
	{name: "a column dropped and another renamed", sql: []string{`alter table t add extra int; update t set extra = id`, `begin; alter table t drop column x; alter table t rename extra to x; update t set x = 9; commit`, `update t set x = 10 where id = 2`}, drops: true},
	{name: "a new name and another schema", sql: []string{`begin; alter table t rename to u; update u set x = 'renamed'; create schema other; alter table u set schema other; update other.u set x = 'moved'; alter table other.u set schema public; alter table u rename to t; commit`}},

	{name: "foreign keys that cascade", key: true, whole: true, sql: []string{
		`create table parent (id int primary key); insert into parent select generate_series(1, 4); alter table t add p int references parent on delete cascade on update cascade; update t set p = id`,
		`alter table t add q int references parent on delete set null; update t set q = 4`,
		`update parent set id = 10 where id = 1`, `delete from parent where id in (2, 10)`, `delete from parent where id = 4`, `truncate parent cascade`,
	}},
	{name: "a table that refers to itself", key: true, whole: true, sql: []string{`alter table t add up int references t on delete cascade; update t set up = id - 1 where id > 1`, `delete from t where id = 1`}},
	{name: "before triggers", sql: []string{`create function f() returns trigger language plpgsql as $$ begin if new.x = 'skip' then return null; end if; new.x := new.x || '!'; return new; end $$;
		create trigger b before insert or update on t for each row execute function f()`, `insert into t values (5, 'a', 'n'), (6, 'a', 'skip')`, `update t set x = 'skip' where id = 1`, `update t set x = 'u'`}},
	{name: "an after trigger that changes the row", sql: []string{`create function f() returns trigger language plpgsql as $$ begin if new.x not like '%+++' then update t set x = new.x || '+' where id = new.id; end if; return null; end $$;
		create trigger a after insert or update on t for each row execute function f()`, `insert into t values (5, 'a', 'n')`, `update t set x = 'u'`}},
	{name: "an after trigger before ours", sql: []string{`create function f() returns trigger language plpgsql as $$ begin if new.x not like '%+++' then update t set x = new.x || '+' where id = new.id; end if; return null; end $$;
		create trigger "  first" after insert or update on t for each row execute function f()`, `insert into t values (5, 'a', 'n')`, `update t set x = 'u'`}},
	{name: "an after trigger that changes other rows", sql: []string{`create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() = 1 then update t set x = x || new.id, tenant_id = 'o' where id <> new.id; end if; return null; end $$;
		create trigger a after update on t for each row execute function f()`, `update t set x = 'u' where id in (1, 2)`, `update t set x = 'v'`}},
	{name: "an after trigger that deletes", sql: []string{`create function f() returns trigger language plpgsql as $$ begin delete from t where id = new.id; return null; end $$;
		create trigger "  first" after insert on t for each row execute function f()`, `insert into t values (5, 'a', 'n'), (6, 'b', 'm')`}},
	{name: "a deferred trigger", sql: []string{
		`create function f() returns trigger language plpgsql as $$ begin if new.x not like '%+' then update t set x = x || '+' where id = new.id; end if; return null; end $$;
		create constraint trigger d after insert or update on t deferrable initially deferred for each row execute function f()`,
		`begin; insert into t values (5, 'a', 'n'); update t set x = 'u' where id in (1, 5); commit`,
	}},
	{name: "functions in SET and RETURNING", sql: []string{
		`create function g(i int) returns text language plpgsql as $$ begin update t set x = 'inner' where id = i; return 'outer'; end $$`,
		`update t set x = g(2) where id = 1`, `update t set x = 'again' where id = 1 returning g(1)`, `insert into t values (5, 'a', 'n') returning g(5)`,
	}},
	{name: "a statement trigger", sql: []string{`create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() = 1 then insert into t select max(id) + 1, 'a', tg_op from t; end if; return null; end $$;
		create trigger s after update or delete on t for each statement execute function f()`, `update t set x = 'u' where id = 1`, `delete from t where id = 1`}},
}

// short are the versions that a matrix test runs on where none is asked for. scripts/setup.sh test installs them.
var short = []string{"15", "18"}

// versions are the servers that a matrix test runs on, by version: the one that is asked for, or those of short. The one
// that all tests share is nil.
func versions(t *testing.T) map[string]*localpg.Server {
	t.Helper()
	shared := pgtest.Bare(t).Server.Version()
	if os.Getenv("NOTIFYQL_TEST_POSTGRES") != "" {
		return map[string]*localpg.Server{shared: nil}
	}
	servers := map[string]*localpg.Server{}
	for _, version := range short {
		servers[version] = nil
		if version != shared {
			servers[version] = pgtest.Server(t, localpg.Options{Version: version})
		}
	}
	return servers
}

// Every kind of write to every shape of table is captured exactly once, in the order of each row's versions, with exact
// images and tenants, and announced.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for version, server := range versions(t) {
		for i, s := range shapes {
			if server != nil && i%3 != 0 { // what another version does otherwise shows in some of them; make matrix has all
				continue
			}
			t.Run(version+" "+s.name, func(t *testing.T) {
				t.Parallel()
				db := newDB(t, server)
				db.Exec(t, `create type mood as enum ('good')`)
				m := newMirror(t, db)
				for j, w := range writes {
					if !pgtest.Thorough() && !w.slow && (i+j)%2 != 0 { // each shape meets half of the writes, each write half of the shapes
						continue
					}
					if w.from > m.version || w.key && !s.key || w.whole && strings.HasPrefix(s.name, "partitioned") || w.slow && (s.name != "key" || server != nil) || w.drops && s.byX {
						continue
					}
					if !t.Run(w.name, func(t *testing.T) {
						m.start(t, s)
						for _, sql := range w.sql {
							m.exec(t, sql)
							m.check(t, sql)
						}
					}) {
						return
					}
				}
			})
		}
	}
}

func newDB(t *testing.T, server *localpg.Server) *pgtest.DB {
	if server == nil {
		return pgtest.New(t)
	}
	return pgtest.NewOn(t, server)
}

// start makes the table anew, with some rows, and watches it.
func (m *mirror) start(t reporter, s shape) {
	t.Helper()
	m.exec(t, `drop table if exists t, parent cascade; drop procedure if exists p; drop function if exists f, g cascade; drop schema if exists other`)
	m.exec(t, s.create)
	m.exec(t, `insert into t (id, tenant_id, x) values (1, 'a', 'one'), (2, 'b', 'two'), (3, 'a', 'three')`)
	m.exec(t, s.watch)
	m.load(t)
}

func (m *mirror) exec(t reporter, sql string) {
	t.Helper()
	if _, err := m.conn.Exec(context.WithoutCancel(m.t.Context()), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

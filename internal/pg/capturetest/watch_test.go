package capturetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// try runs SQL and gives its error as "message | hint", or "".
func try(t testing.TB, db *pgtest.DB, sql string) string {
	t.Helper()
	_, err := db.Pool(t).Exec(t.Context(), sql)
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &pgErr):
		return pgErr.Message + " | " + pgErr.Hint
	}
	return err.Error()
}

func TestWatchRefusesWithAReason(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create table good (id int, tenant_id text, x text);
		create table lonely (id int);
		create type mood as enum ('good'); create function mood_json(mood) returns json language sql as 'select null::json'; create cast (mood as json) with function mood_json(mood);
		create table moody (tenant_id mood); create domain moods as mood; create table more_moody (tenant_id moods);
		create type feel as enum ('good'); create domain feelings as feel; create table feeling (tenant_id feelings);
		create domain day as date; create table domained (tenant_id day); create domain org as text; create domain orgs as org; create table fine (tenant_id orgs);
		create table dated (tenant_id timestamptz);
		create view view as select 1 as tenant_id;
		create materialized view matview as select 1 as tenant_id;
		create sequence sequence;
		create table parent (tenant_id text); create table child () inherits (parent);
		create table root (id int, tenant_id text) partition by list (id);
		create table leaf partition of root for values in (1) partition by list (id);
		create table leafleaf partition of leaf for values in (1);
		create table guarded (tenant_id text); alter table guarded enable row level security;
		create table guarded_root (id int, tenant_id text) partition by list (id);
		create table guarded_leaf partition of guarded_root for values in (1); alter table guarded_leaf enable row level security;
		create unlogged table fleeting (tenant_id text);
		create extension if not exists plpgsql;
		select notifyql.watch('root')`)
	for _, c := range []struct{ sql, want string }{
		{`select notifyql.watch('nothing')`, `relation "nothing" does not exist`},
		{`select notifyql.watch(null)`, `no such table`},
		{`select notifyql.watch(12345)`, `no such table`},
		{`select notifyql.watch('lonely')`, `has no tenant column tenant_id | Name it with tenant_column => '…', or the foreign key to the row that has one with tenant_via => '…', or show every row to every tenant with shared => true.`},
		{`select notifyql.watch('good', 'X')`, `has no tenant column "X"`},
		{`select notifyql.watch('good', null)`, `has no tenant column null`},
		{`select notifyql.watch('good', 'ctid')`, `has no tenant column ctid`},
		{`select notifyql.watch('moody')`, `its tenant column tenant_id is of type public.mood | A tenant is`},
		{`select notifyql.watch('more_moody')`, `is of type public.moods`},
		{`select notifyql.watch('domained')`, `is of type public.day`},
		{`select notifyql.watch('feeling')`, ``},
		{`select notifyql.watch('fine')`, ``},
		{`select notifyql.watch('dated')`, `is of type timestamp with time zone`},
		{`select notifyql.watch('good', exclude => '{x,y,z}')`, `cannot exclude y, z: public.good has no such column | Name columns of the table`},
		{`select notifyql.watch('good', exclude => '{tenant_id}')`, `it is the tenant column`},
		{`select notifyql.watch('view')`, `it is a view | Watch the tables it selects from.`},
		{`select notifyql.watch('matview')`, `it is a materialized view`},
		{`select notifyql.watch('sequence')`, `it is not a table`},
		{`select notifyql.watch('pg_class')`, `it is a system table`},
		{`select notifyql.watch('notifyql.change')`, `it is a system table`},
		{`create table notifyql.mine (id int, tenant_id text); select notifyql.watch('notifyql.mine')`, `in the schema notifyql, where a role of that name`},
		{`create temp table passing (tenant_id text); select notifyql.watch('passing')`, `it is a temporary table`},
		{`select notifyql.watch('parent')`, `tables inherit from it`},
		{`select notifyql.watch('child')`, `it inherits from another table`},
		{`select notifyql.watch('leaf')`, `it is a partition of a watched table | Its changes arrive as those of public.root.`},
		{`select notifyql.watch('leafleaf')`, `it is a partition of a watched table`},
		{`select notifyql.watch('guarded')`, `row level security is on, and subscribers do not pass its policies: they see all rows of their tenant | Accept that with ignore_rls => true.`},
		{`select notifyql.watch('guarded_root')`, `row level security is on`},
		{`select notifyql.watch('guarded', ignore_rls => true)`, ``},
		{`select notifyql.watch('fleeting')`, ``},
		{`select notifyql.watch('lonely', shared => true)`, ``},
		{`select notifyql.watch('good', shared => null, exclude => null, ignore_rls => null)`, ``},
	} {
		if got := try(t, db, c.sql); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s:\n%s", c.sql, got)
		}
	}
	want(t, lines(t, db, `select tbl::text from notifyql.watched order by 1`), "feeling\nfine\nfleeting\ngood\nguarded\nlonely\nroot")
	for _, c := range []struct{ sql, want string }{
		{`select notifyql.publish(null, '1', 'a')`, `the channel's name must have 1 to 255 bytes`},
		{`select notifyql.publish('', '1', 'a')`, `the channel's name`},
		{`select notifyql.publish(repeat('x', 256), '1', 'a')`, `the channel's name`},
		{`select notifyql.publish('c', '1', 'a', event_type => repeat('x', 256))`, `the event's type must have at most 255 bytes`},
		{`select notifyql.publish('c', '1')`, `nobody's, for it names no tenant and is not shared | Pass tenant => '…', or shared => true for every tenant.`},
		{`select notifyql.publish('c', '1', '')`, `nobody's`},
		{`select notifyql.publish('c', '1', shared => null)`, `nobody's`},
		{`select notifyql.publish('c', '1', 'a', true)`, `one tenant's or shared, not both`},
		{`select notifyql.publish('c', null, 'a', null, null)`, ``},
	} {
		if got := try(t, db, c.sql); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s:\n%s", c.sql, got)
		}
	}
}

func TestWatchAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, org text, x text)`)
	e := listen(t, db)
	const all = `select format('%s %s %s %s %s %s %s %s', id, tbl, tenant_column, shared, exclude, type_name, field_name, state) from notifyql.watched`
	steps := []struct{ sql, heard, listed string }{
		{`select notifyql.watch('t')`, "W 1", "1 t tenant_id f {}   watched"},
		{`select notifyql.watch('t')`, "", "1 t tenant_id f {}   watched"},
		{`select notifyql.watch('t', 'org')`, "W 1", "1 t org f {}   watched"},
		{`select notifyql.watch('t', shared => true, exclude => '{x,org}', type_name => 'T', field_name => 'f')`, "W 1", "1 t  t {org,x} T f watched"},
		{`select notifyql.watch('t', shared => true, exclude => '{org,x}', type_name => 'T', field_name => 'f')`, "", "1 t  t {org,x} T f watched"},
		{`alter table t disable trigger " notifyql"`, "", "1 t  t {org,x} T f its triggers are not as they should be (disabled or dropped, or there are new partitions or types): watch the table again"},
		{`select notifyql.watch('t', shared => true, exclude => '{org,x}', type_name => 'T', field_name => 'f')`, "", "1 t  t {org,x} T f watched"},
		{`drop trigger " notifyql truncate" on t`, "", "1 t  t {org,x} T f its triggers are not as they should be (disabled or dropped, or there are new partitions or types): watch the table again"},
		{`select notifyql.watch('t')`, "W 1", "1 t tenant_id f {}   watched"},
		{`select notifyql.unwatch('t')`, "W 1", ""},
		{`select notifyql.unwatch('t')`, "", ""},
		{`select notifyql.reserve('t')`, "", "2 t  f {}   watching it was not finished: watch the table again"},
		{`select notifyql.watch('t')`, "W 2", "2 t tenant_id f {}   watched"},
		{`drop table t`, "", "2 %d tenant_id f {}   the table is gone"},
	}
	for _, s := range steps {
		db.Exec(t, s.sql)
		want(t, text(e.hear(t)), s.heard)
		got := lines(t, db, all)
		if strings.Contains(s.listed, "%d") {
			got = strings.Replace(got, strings.Fields(got)[1], "%d", 1)
		}
		want(t, got, s.listed)
	}
	// Nothing is captured between unwatch and watch; rolled back, watch has done nothing.
	db.Exec(t, `create table u (id int, tenant_id text); select notifyql.watch('u'); insert into u values (1, 'a'); select notifyql.unwatch('u');
		insert into u values (2, 'a'); select notifyql.watch('u'); insert into u values (3, 'a')`)
	want(t, lines(t, db, `select watch || ' ' || (new ->> 'id') from notifyql.change order by seq`), "3 1\n4 3")
	try(t, db, `begin; select notifyql.unwatch('u'); select 1 / 0`)
	db.Exec(t, `insert into u values (4, 'a')`)
	want(t, lines(t, db, `select watch || ' ' || (new ->> 'id') from notifyql.change order by seq`), "3 1\n4 3\n4 4")
}

// watch and unwatch give up soon rather than queue writers behind a long transaction.
func TestWatchDoesNotWaitLong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text)`)
	long := db.Conn(t, "postgres")
	if _, err := long.Exec(t.Context(), `begin; insert into t values (1, 'a')`); err != nil {
		t.Fatal(err)
	}
	if got := try(t, db, `select notifyql.watch('t')`); !strings.Contains(got, "a transaction that is under way holds a lock on public.t | Try again") {
		t.Error(got)
	}
	if _, err := long.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `select notifyql.watch('t')`)
	if _, err := long.Exec(t.Context(), `begin; select from t`); err != nil {
		t.Fatal(err)
	}
	if got := try(t, db, `select notifyql.unwatch('t')`); !strings.Contains(got, "a transaction that is under way holds a lock on public.t | Try again") {
		t.Error(got)
	}
}

// A restored dump, whole: its tables have other oids, and nothing is captured until they are watched again.
func TestARestoredDatabaseCapturesNothing(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	// What a restore does to the rows: the table's name is resolved anew, the numbers stay.
	db.Exec(t, `create table restored (id int, tenant_id text, x text);
		update notifyql.watch set rel = 'restored'::regclass;
		create trigger " notifyql" after insert or update or delete on restored for each row execute function notifyql.capture('1', 'tenant_id', '2', '', '', '{}');
		insert into restored values (1, 'a')`)
	want(t, lines(t, db, logged), "")
	want(t, lines(t, db, `select state from notifyql.watched`), "the database was restored: watch the table again")
	e.hear(t)
	db.Exec(t, `select notifyql.watch('restored'); insert into restored values (2, 'a')`)
	want(t, text(e.hear(t)), "W 2\nI 1")
	want(t, lines(t, db, `select id || ' ' || state from notifyql.watched`), "2 watched")
}

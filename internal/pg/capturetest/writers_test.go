package capturetest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Writers of every kind of session write, and what they write is captured.
func TestOddSessionsWrite(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	db.Exec(t, `grant select, insert, update, delete on t to public; create schema evil; grant usage on schema evil to public`)
	plain, super := login(t, db), db.Conn(t, "postgres")
	for _, c := range []struct {
		conn *pgx.Conn
		set  string
	}{
		{plain, ""},
		{plain, "set search_path = ''"},
		{plain, "set search_path = evil, pg_catalog"},
		{plain, "set search_path = nowhere"},
		{plain, "set default_transaction_isolation = 'repeatable read'"},
		{plain, "set default_transaction_isolation = 'serializable'"},
		{plain, "set lock_timeout = 1"},
		{plain, "set row_security = off"},
		{plain, "set check_function_bodies = off"},
		{plain, "set client_encoding = 'latin1'"},
		{plain, "set plan_cache_mode = force_custom_plan"},
		{plain, "set plan_cache_mode = force_generic_plan"},
		{plain, "set enable_indexscan = off; set enable_seqscan = off; set enable_bitmapscan = off"},
		{plain, "set standard_conforming_strings = off"},
		{plain, "set quote_all_identifiers = on"},
		{plain, "set xmloption = document"},
		{plain, "set array_nulls = off"},
		{plain, "set transform_null_equals = on"},
		{plain, "set jit = on; set jit_above_cost = 0"},
		{super, "set session_replication_role = replica"},
		{super, "set plpgsql.variable_conflict = use_column"},
		{super, "set plpgsql.variable_conflict = use_variable"},
		{super, "set plpgsql.extra_errors = 'all'"},
		{super, "set plpgsql.print_strict_params = on; set plpgsql.check_asserts = off"},
		{super, "set track_functions = 'all'"},
		{super, "set role to " + plain.Config().User},
		{super, "set session authorization " + plain.Config().User},
	} {
		db.Exec(t, `delete from t; truncate notifyql.change`)
		for _, sql := range []string{c.set, `insert into public.t values (1, 'a', 'x'), (2, 'a', 'y')`, `update public.t set x = 'z' where id = 1`, `delete from public.t`, `reset all`} {
			if sql == "" {
				continue
			}
			if _, err := c.conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %s: %v", c.set, sql, err)
			}
		}
		if got := lines(t, db, logged); got != lines(t, db, `values ('I 0 >a >{"id":1,"tenant_id":"a","x":"x"}'), ('I 0 >a >{"id":2,"tenant_id":"a","x":"y"}'),
			('U 0 a>a {"id":1,"tenant_id":"a","x":"x"}>{"id":1,"tenant_id":"a","x":"z"}'), ('D 0 a> {"id":2,"tenant_id":"a","x":"y"}>'), ('D 0 a> {"id":1,"tenant_id":"a","x":"z"}>')`) {
			t.Errorf("%s:\n%s", c.set, got)
		}
	}
}

// A transaction whose snapshot is older than the watch is captured too.
func TestOldSnapshotsAreCaptured(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, secret text); create table p (id int, tenant_id text) partition by list (id);
		create table p1 partition of p for values in (1)`)
	old := db.Conn(t, "postgres")
	exec := func(sql string) {
		t.Helper()
		if _, err := old.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`begin isolation level repeatable read`)
	exec(`select 1`)
	db.Exec(t, `alter table t rename secret to hidden; select notifyql.watch('t', exclude => '{hidden}'), notifyql.watch('p')`)
	db.Exec(t, `alter table t rename hidden to hidden_well`)
	exec(`insert into t values (1, 'a', 'hush'); insert into p values (1, 'a')`)
	exec(`commit`)
	want(t, lines(t, db, logged), `
		I 0 >a >{"id":1,"tenant_id":"a"}
		I 0 >a >{"id":1,"tenant_id":"a"}`)
}

// Serializable writers fail no oftener than without us: these have nothing in common.
func TestSerializableWritersDoNotMeetInTheLog(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	db.Exec(t, `create table u (like t); select notifyql.watch('u')`)
	a, b := db.Conn(t, "postgres"), db.Conn(t, "postgres")
	for range 5 {
		for _, step := range []struct {
			conn *pgx.Conn
			sql  string
		}{
			{a, `begin isolation level serializable`},
			{b, `begin isolation level serializable`},
			{a, `insert into t select i, 'a' from generate_series(1, 60) i`},
			{b, `insert into u select i, 'a' from generate_series(1, 60) i`},
			{a, `insert into t select i, 'a' from generate_series(1, 60) i`},
			{b, `insert into u select i, 'a' from generate_series(1, 60) i`},
			{a, `insert into t select i, 'a' from generate_series(1, 60) i`},
			{a, `commit`},
			{b, `insert into u select i, 'a' from generate_series(1, 60) i`},
			{b, `commit`},
		} {
			if _, err := step.conn.Exec(t.Context(), step.sql); err != nil {
				t.Fatalf("%s: %v", step.sql, err)
			}
		}
	}
}

// Whatever of ours is gone or empty, writers write. What is left of the schema captures nothing then.
func TestWritersOutliveTheSchema(t *testing.T) {
	t.Parallel()
	tried := 0
	for _, list := range []string{
		`select format('drop table notifyql.%I cascade', relname) from pg_class where relnamespace = 'notifyql'::regnamespace and relkind in ('r', 'p')`,
		`select format('drop view notifyql.%I cascade', relname) from pg_class where relnamespace = 'notifyql'::regnamespace and relkind = 'v' and relname in ('ready', 'watched')`,
		`select format('drop sequence notifyql.%I cascade', relname) from pg_class where relnamespace = 'notifyql'::regnamespace and relkind = 'S'
			and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = pg_class.oid and d.deptype = 'i')`,
		`select format('drop function %s cascade', oid::regprocedure) from pg_proc where pronamespace = 'notifyql'::regnamespace and prokind = 'f'`,
		`values ('delete from notifyql.secret'), ('delete from notifyql.setting'), ('delete from notifyql.watch'), ('drop schema notifyql cascade'), ('alter function notifyql.image(record) rename to picture'),
			('alter schema notifyql rename to other')`,
	} {
		source := pgtest.New(t)
		source.Exec(t, `create table t (id int, tenant_id text, x text); select notifyql.watch('t')`)
		for _, drop := range strings.Split(lines(t, source, list), "\n") {
			tried++
			t.Run(drop, func(t *testing.T) {
				t.Parallel()
				db, _ := setup(t)
				conn := db.Conn(t, "postgres")
				write := func() {
					t.Helper()
					for _, sql := range []string{`insert into t values (1, 'a', 'x'), (2, 'b', repeat('x', 9000))`, `update t set x = 'y'`, `delete from t`, `truncate t`} {
						if _, err := conn.Exec(t.Context(), sql); err != nil {
							t.Errorf("%s, %s: %v", drop, sql, err)
						}
					}
				}
				write()
				if _, err := conn.Exec(t.Context(), drop); err != nil {
					t.Fatal(err)
				}
				write()
				db.Exec(t, `insert into t values (3, 'c', 'a new session')`)
			})
		}
	}
	if tried < 30 {
		t.Errorf("tried %d", tried)
	}
}

// What cannot be converted is logged as such, with its tenant, and the writer knows nothing of it.
func TestARowTooLargeIsSaidToBe(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `insert into t values (1, 'a', repeat(e'\u0001', 45000000))`) // six bytes of json each
	want(t, lines(t, db, `select concat(op, flags, ' ', tenant, ' ', new is null) from notifyql.change`), "I1 a t")
	if n := count(e.hear(t)); n["I"] != 1 {
		t.Error(n)
	}
}

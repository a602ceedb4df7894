package capturetest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// setup gives a database with a watched table t, and an ear.
func setup(t *testing.T) (*pgtest.DB, *ear) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, x text); select notifyql.watch('t')`)
	return db, listen(t, db)
}

// count gives how often each kind of notification was heard.
func count(notes []note) map[string]int {
	n := map[string]int{}
	for _, note := range notes {
		n[note.kind()]++
	}
	return n
}

func TestAHundredInlineThenMarkers(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `insert into t select i, 'a' from generate_series(1, 100) i`)
	if n := count(e.hear(t)); n["I"] != 100 || n["M"] != 0 {
		t.Error(n)
	}
	db.Exec(t, `insert into t select i, 'a' from generate_series(1, 5000) i`)
	heard := e.hear(t)
	if n := count(heard); n["I"] != 100 || n["M"] != 1 {
		t.Error(n)
	}
	want(t, text(heard[100:]), "M 1 a <nil>")
	db.Exec(t, `do $$ begin for i in 1..150 loop insert into t values (i, 'a'); end loop; end $$`)
	if n := count(e.hear(t)); n["I"] != 100 || n["M"] != 1 {
		t.Error(n)
	}
}

// The sequence is everybody's: what others draw from it does not count.
func TestOthersDoNotUseUpATransactionsInlineChanges(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	conn := db.Conn(t, "postgres")
	exec := func(sql string) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`begin; insert into t values (1, 'a')`)
	for range 3 {
		db.Exec(t, `insert into t select i, 'b' from generate_series(1, 150) i`)
		exec(`insert into t select i, 'a' from generate_series(1, 33) i`)
	}
	e.hear(t)
	exec(`commit`)
	if n := count(e.hear(t)); n["I"] != 100 || n["M"] != 0 {
		t.Error(n)
	}
	exec(`begin; insert into t select i, 'a' from generate_series(1, 60) i`)
	db.Exec(t, `insert into t select i, 'b' from generate_series(1, 150) i`)
	exec(`insert into t select i, 'a' from generate_series(1, 60) i`)
	e.hear(t)
	exec(`commit`)
	if n := count(e.hear(t)); n["I"] != 100 || n["M"] != 1 {
		t.Error(n)
	}
}

// A row changed twice, and a change within another: markers from there to the end of the transaction.
func TestWhereOrderMayBeWrongMarkersFollow(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `insert into t values (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x')`)
	db.Exec(t, `create function inner_update() returns text language plpgsql as $$ begin update t set x = 'inner' where id = 3; return 'outer'; end $$;
		create table log (id int);
		create function in_trigger() returns trigger language plpgsql as $$ begin update t set x = 'triggered' where id = 1; return null; end $$;
		create trigger log after insert on log for each row execute function in_trigger()`)
	e.hear(t)
	for _, c := range []struct{ sql, flags, heard string }{
		{`update t set x = 'y' where id = 1; update t set x = 'z' where id = 1; insert into t values (4, 'b', 'n')`, "0 2 0", "U\nM 1 a <nil>\nM 1 b <nil>"},
		{`insert into log values (1); update t set x = 'y' where id = 2`, "2 0", "M 1 a <nil>\nM 1 b <nil>"},
		{`update t set x = 'w' where id = 3 returning inner_update()`, "2 0", "M 1 c <nil>"}, // the inner one is logged first
		{`update t set x = inner_update() where id = 2`, "0 0", "U\nU"},
		{`update t set x = 'a' where id = 2; savepoint s; update t set x = 'b' where id = 2; rollback to s; insert into t values (5, 'a', 'n')`, "0 0", "U\nI"},
		{`savepoint s; insert into t values (6, 'a'); release s; update t set x = 'sub' where id = 6`, "0 2", "I\nM 1 a <nil>"},
		{`insert into t values (7, 'a'); do $d$ begin update t set x = 'block' where id = 7; raise 'no'; exception when others then end $d$; delete from t where id = 7`, "0 2", "I\nM 1 a <nil>"},
	} {
		db.Exec(t, `truncate notifyql.change`)
		db.Exec(t, "begin; "+c.sql+"; commit")
		if got := strings.ReplaceAll(lines(t, db, `select flags::text from notifyql.change order by seq`), "\n", " "); got != c.flags {
			t.Errorf("%s: flags %s, want %s", c.sql, got, c.flags)
		}
		var kinds []string
		for _, n := range e.hear(t) {
			if n.kind() == "M" {
				kinds = append(kinds, strings.TrimSpace(text([]note{n})))
			} else {
				kinds = append(kinds, n.kind())
			}
		}
		if got := strings.Join(kinds, "\n"); got != c.heard {
			t.Errorf("%s:\n%s\nwant\n%s", c.sql, got, c.heard)
		}
	}
}

func TestMarkersNameTheirTenants(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `create table s (id int); select notifyql.watch('s', shared => true)`)
	e.hear(t)
	big := `repeat('x', 9000)`
	for _, c := range []struct{ sql, heard string }{
		{`insert into t values (1, 'a', ` + big + `)`, `M 1 a <nil>`},
		{`update t set tenant_id = 'b'`, "M 1 b <nil>\nM 1 a <nil>"},
		{`update t set tenant_id = null`, "M 1 b <nil>"},
		{`update t set x = x`, ""}, // nobody's
		{`update t set tenant_id = '[1,"q"'`, `M 1 [1,"q" <nil>`},
		{`delete from t`, `M 1 [1,"q" <nil>`},
		{`insert into s select i from generate_series(1, 101) i`, "M 2 <nil> <nil>"},
		{`select notifyql.publish('news', to_jsonb(` + big + `), 'a')`, "M 0 a news"},
		{`select notifyql.publish('news', to_jsonb(` + big + `), shared => true)`, "M 0 <nil> news"},
		{`insert into t values (1, repeat('long', 3000), 'x')`, "M 1 <nil> <nil>"}, // any tenant: this one's name is too long
	} {
		db.Exec(t, c.sql)
		var markers []note
		for _, n := range e.hear(t) {
			if n.kind() == "M" {
				markers = append(markers, n)
			}
		}
		if got := strings.TrimSpace(text(markers)); got != c.heard {
			t.Errorf("%s:\n%s\nwant\n%s", c.sql, got, c.heard)
		}
	}
}

func TestManyTenantsAreAny(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `insert into t select i, 't' || i % 500 from generate_series(1, 5000) i`)
	heard := e.hear(t)[100:]
	if n := len(heard); n != 21 {
		t.Errorf("%d markers", n)
	}
	want(t, text(heard[len(heard)-1:]), "M 1 <nil> <nil>")
	named := map[any]bool{}
	for _, n := range heard {
		named[n[4]] = true
	}
	if len(named) != 21 {
		t.Errorf("markers name %d tenants", len(named))
	}
}

// A marker that a savepoint took back is sent again when it is needed again.
func TestMarkersSurviveSavepoints(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `begin; insert into t select i, 'a' from generate_series(1, 101) i;
		savepoint s; insert into t values (1, 'b'); rollback to s; insert into t values (1, 'b'); commit`)
	want(t, text(e.hear(t)[100:]), "M 1 a <nil>\nM 1 b <nil>")
	db.Exec(t, `begin; savepoint s; insert into t select i, 'a' from generate_series(1, 150) i; rollback to s; insert into t values (1, 'b'); commit`)
	if n := count(e.hear(t)); n["I"] != 1 || n["M"] != 0 {
		t.Error(n)
	}
}

// Anybody may set notifyql.txn in his own session. Whatever it says, his write succeeds, and each change is either
// announced or was preceded by a marker of its tenant, unless he took that marker away himself.
func TestForgedStateHarmsNobody(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `grant all on t to public; create role `+db.Name+`_forger login`)
	t.Cleanup(func() { db.Exec(t, `drop owned by `+db.Name+`_forger; drop role `+db.Name+`_forger`) })
	conn := db.Conn(t, db.Name+"_forger")
	for _, state := range []string{
		"", "x", "<", ">", "%s", "%s<", "%s>", "%s<abc", "%s<99999999999999999999999", "%s<0", "%s>[1,\"b\",null]", "9<1", "%s<\u00e9",
	} {
		if strings.Contains(state, "%s") {
			state = `pg_current_xact_id()::text || '` + state[2:] + `'`
		} else {
			state = `'` + state + `'`
		}
		sql := `begin; select set_config('notifyql.txn', ` + state + `, true);
			insert into t values (1, 'a'), (2, 'a'); select set_config('notifyql.txn', ` + state + `, false); insert into t values (3, 'a');
			reset all; update t set x = 'y' where id = 1; commit; discard all`
		for _, one := range strings.Split(sql, ";") {
			if _, err := conn.Exec(t.Context(), one); err != nil {
				t.Fatalf("%s: %v", state, err)
			}
		}
		if n := count(e.hear(t)); n["M"] == 0 && n["I"]+n["U"] == 0 {
			t.Errorf("%s: nothing was announced", state)
		}
	}
	// RESET ALL in mid-transaction: inline again, but what is changed twice is a marker still.
	db.Exec(t, `truncate t`)
	e.hear(t)
	db.Exec(t, `begin; insert into t values (1, 'a'); update t set x = 'y'; reset all; insert into t values (2, 'a'); update t set x = 'z' where id = 1; commit`)
	heard := e.hear(t)
	if n := count(heard); n["I"] != 2 || n["M"] != 1 || heard[1].kind() != "M" {
		t.Error(text(heard))
	}
}

func TestAFullQueueGetsFewBytes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, x text); select notifyql.watch('t')`)
	// The function of the same name that capture's search_path finds first is Postgres's own: replace its answer instead.
	db.Exec(t, strings.Replace(one[string](t, db, `select pg_get_functiondef('notifyql.announce'::regproc)`),
		"pg_notification_queue_usage() > 0.5", "true", 1))
	e := listen(t, db)
	db.Exec(t, `insert into t select i, 'a' from generate_series(1, 200) i`)
	want(t, text(e.hear(t)), "M <nil> <nil> <nil>")
}

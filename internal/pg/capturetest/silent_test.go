package capturetest

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Nobody holds the gate: nothing is notified, however it is written.
func TestSilent(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := listen(t, db)
	exec := func(sql string) {
		t.Helper()
		if _, err := e.conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	db.Exec(t, `create table r (id int primary key, tenant_id text); select notifyql.watch('r')`)
	e.hear(t)
	write := func() {
		t.Helper()
		db.Exec(t, `insert into r values (1, 'a'), (2, 'b')`)
		db.Exec(t, `begin; update r set tenant_id = 'c'; savepoint s; delete from r; rollback to s; delete from r where id = 1; commit`)
		db.Exec(t, `select notifyql.publish('news', '1', 'a')`)
		db.Exec(t, `truncate r`)
	}
	write()
	want(t, text(e.hear(t)), `
		I 1
		I 2
		U 3
		U 4
		M 1 c <nil>
		E 8
		T 9`)
	exec(`select pg_advisory_unlock_all()`)
	write()
	want(t, text(e.hear(t)), ``)
	if n := one[int](t, db, `select count(*) from notifyql.change where seq > 9`); n != 7 {
		t.Errorf("%d changes are in the log, want 7", n)
	}
}

// A transaction that has notified and finds the gate open says so once, and is silent from there; back at a savepoint from before
// that, it has not.
func TestDeserted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := listen(t, db)
	db.Exec(t, `create table r (id int primary key, tenant_id text); select notifyql.watch('r')`)
	e.hear(t)
	writer, gate := db.Conn(t, "postgres"), db.Conn(t, "postgres")
	on := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	on(writer, `begin; insert into r values (1, 'a'); savepoint s`)
	on(e.conn, `select pg_advisory_unlock_all()`)
	on(writer, `insert into r values (2, 'a'), (3, 'a'); rollback to s`)
	on(gate, `select pg_advisory_lock(gate) from notifyql.mode`) // it went with the savepoint
	on(writer, `insert into r values (4, 'a')`)
	on(gate, `select pg_advisory_unlock_all()`)
	on(writer, `insert into r values (5, 'a'); update r set tenant_id = 'b'; commit`)
	want(t, text(e.hear(t)), `
		I 1
		I 4
		B 0`)
	on(writer, `insert into r values (6, 'a')`)
	want(t, text(e.hear(t)), ``)
}

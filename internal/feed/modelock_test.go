package feed_test

import (
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// The lock K by which writers learn whether to notify is an advisory lock. These tests hold real Postgres to what is assumed of it.

const (
	lockK  = "select pg_advisory_lock(7)"
	freeK  = "select pg_advisory_unlock(7)::text"
	tryK   = "select pg_try_advisory_xact_lock_shared(7)::text" // as a writer does
	grabK  = "select pg_try_advisory_lock(7)::text"             // as a leader would get it
	askers = "select count(*)::text from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())"
)

// lockDatabase has a log that tells which of its changes were silent.
func lockDatabase(t *testing.T) *pgtest.DB {
	t.Helper()
	db := database(t)
	db.Exec(t, `
		alter table log add silent boolean;
		create function capture(r int) returns boolean language plpgsql as $$
		declare s bigint; granted boolean;
		begin
		  insert into log (row) values (r) returning seq into s;
		  granted := pg_try_advisory_xact_lock_shared(7);
		  update log set silent = granted where seq = s;
		  return granted;
		end $$;`)
	return db
}

// asks lets c ask for K and returns when it waits; granted waits until it has got it.
func asks(c, observer client) (granted func()) {
	c.t.Helper()
	got := make(chan error, 1)
	go func() {
		_, err := c.Exec(c.t.Context(), lockK)
		got <- err
	}()
	for observer.text(askers) == "0" { // it is sent, and waits for somebody who holds K
	}
	return func() {
		c.t.Helper()
		if err := <-got; err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c client) want(want, sql string) {
	c.t.Helper()
	if got := c.text(sql); got != want {
		c.t.Errorf("%s: %s, want %s", sql, got, want)
	}
}

// Who waits for K exclusively keeps all others from getting it, at once; but who has it is granted it again.
func TestModeLockWaiting(t *testing.T) {
	t.Parallel()
	db := lockDatabase(t)
	leader, silent, other := connect(t, db), connect(t, db), connect(t, db)
	silent.exec("begin")
	silent.want("true", tryK)
	granted := asks(leader, other)
	other.want("false", tryK)
	silent.want("true", tryK)
	silent.exec("savepoint s")
	silent.want("true", tryK)
	silent.exec("rollback to s")
	silent.want("true", tryK)
	silent.exec("commit")
	granted()
	other.want("false", tryK)
	leader.want("true", freeK)
	other.want("true", tryK)
}

// When K is granted exclusively, all who had it in their transactions have ended and can be seen, and nobody is silent until it is
// given back.
func TestModeLockGrantIsDrained(t *testing.T) {
	t.Parallel()
	db := lockDatabase(t)
	leader, observer, first := connect(t, db), connect(t, db), connect(t, db)
	const silent = "select count(*)::text from log where silent"
	for range 20 {
		first.exec("begin")
		first.want("true", "select capture(1)::text")
		before := observer.text(silent)
		granted := asks(leader, observer)
		observer.exec("begin")
		observer.want("false", "select capture(2)::text")
		first.exec("commit")
		granted()
		after := leader.text(silent)
		if after == before {
			t.Fatal("K is granted before what was silent can be seen")
		}
		observer.want("false", "select capture(3)::text")
		observer.exec("commit")
		leader.want(after, silent)
		leader.want("true", freeK)
	}
}

// K goes with the savepoint behind which it was got first, and stays with all others.
func TestModeLockSavepoints(t *testing.T) {
	t.Parallel()
	db := lockDatabase(t)
	writer, leader := connect(t, db), connect(t, db)
	writer.exec("begin; savepoint s")
	writer.want("true", "select capture(1)::text")
	leader.want("false", grabK)
	writer.exec("rollback to s")
	leader.want("true", grabK)
	writer.want("false", "select capture(2)::text")
	leader.want("true", freeK)

	writer.exec("savepoint a")
	writer.want("true", "select capture(3)::text")
	writer.exec("release a; savepoint b")
	writer.want("true", "select capture(4)::text")
	writer.exec("rollback to b")
	leader.want("false", grabK)
	writer.exec("commit")
	leader.want("true", grabK)
	leader.want("2 3", "select string_agg(row::text, ' ' order by seq) from log")
}

// A prepared transaction keeps K until it is committed, whatever becomes of its session; one that has notified cannot be prepared.
func TestModeLockPrepared(t *testing.T) {
	t.Parallel()
	db := lockDatabase(t)
	writer, leader := connect(t, db), connect(t, db)
	writer.exec("begin")
	writer.want("true", "select capture(1)::text")
	writer.exec("prepare transaction 'k'")
	if err := writer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader.want("false", grabK)
	leader.exec("commit prepared 'k'")
	leader.want("true", grabK)
	leader.want("1", "select count(*)::text from log")

	if _, err := connect(t, db).Exec(t.Context(), "begin; notify log, 'n'; prepare transaction 'n'"); err == nil {
		t.Error("a transaction that has notified is prepared")
	}
}

// A killed leader frees K, and what it was announcing is never heard of.
func TestModeLockOfAKilledLeader(t *testing.T) {
	t.Parallel()
	db := lockDatabase(t)
	leader, writer, next, listener := connect(t, db), connect(t, db), connect(t, db), connect(t, db)
	listener.exec("listen log")
	leader.exec(lockK)
	pid := leader.text("select pg_backend_pid()::text")
	writer.want("false", tryK)
	leader.exec("begin; notify log, 'announced'")
	granted := asks(next, writer)
	writer.exec("select pg_terminate_backend($1::text::int)", pid)
	granted()
	next.want("true", freeK)
	writer.want("true", "select capture(1)::text")
	next.exec("notify log, 'next'")
	if got := listener.next(); got != "next" {
		t.Errorf("%q came", got)
	}
}

// TestModeLockCost logs what a try costs a writer who has K already, and one who is refused.
func TestModeLockCost(t *testing.T) {
	t.Parallel()
	db := lockDatabase(t)
	db.Exec(t, `
		create function tries(n int) returns text language plpgsql as $$
		declare start timestamptz := clock_timestamp(); granted bigint := 0;
		begin
		  for i in 1..n loop granted := granted + pg_try_advisory_xact_lock_shared(7)::int; end loop;
		  return round(1e6 * extract(epoch from clock_timestamp() - start)::numeric / n, 2) || ' µs a try, granted: ' || granted;
		end $$;`)
	writer, leader := connect(t, db), connect(t, db)
	t.Log("granted:", writer.text("select tries(20000)"))
	leader.exec(lockK)
	refused := writer.text("select tries(20000)")
	t.Log("refused:", refused)
	if refused[len(refused)-1] != '0' {
		t.Error("K is granted although the leader has it")
	}
}

package pg

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// ring is the log of a database whose slots last three years, so that a test puts rows into whatever slot it likes: slots
// are counted from the one that is written to.
type ring struct {
	*pgtest.DB
	t testing.TB
}

func newRing(t testing.TB) ring {
	db := pgtest.New(t)
	db.Exec(t, `update notifyql.setting set slot_seconds = 100000000`)
	return ring{db, t}
}

// turned is what a turn says about each slot that is not empty.
func (r ring) turned() map[int]string {
	r.t.Helper()
	r.Exec(r.t, `select notifyql.tick()`) // as a node does each second
	rows, err := r.Pool(r.t).Query(r.t.Context(), `
		select (slot - (date_part('epoch', now())::bigint / 100000000) % 10 + 10) % 10, outcome || ': ' || detail from notifyql.turn()`)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	said := map[int]string{}
	var slot int
	var text string
	if _, err := pgx.ForEachRow(rows, []any{&slot, &text}, func() error { said[slot] = text; return nil }); err != nil {
		r.t.Error(err)
		return nil
	}
	return said
}

// insertInto logs a change of so long ago in a slot, counted from the one that is written to.
const insertInto = `
	insert into notifyql.change (slot, at, watch, op, shared, tenant)
	select ((date_part('epoch', now())::bigint / 100000000) + $1) % 10, now() - $2::interval, 7, 'I', false, 'a' returning xid`

// log commits a change, and returns its transaction.
func (r ring) log(slot int, age string) change.XID {
	r.t.Helper()
	return logIn(r.t, r.Pool(r.t), slot, age)
}

// logIn logs a change in the transaction of on.
func logIn(t testing.TB, on interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, slot int, age string,
) change.XID {
	t.Helper()
	var xid uint64
	if err := on.QueryRow(t.Context(), insertInto, slot, age).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	return change.XID(xid)
}

// begin begins a transaction that is rolled back with the test.
func (r ring) begin() pgx.Tx {
	r.t.Helper()
	tx, err := r.Conn(r.t, "postgres").Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return tx
}

// dropped is the greatest xid that was ever dropped.
func (r ring) dropped() change.XID {
	r.t.Helper()
	var xid uint64
	if err := r.Pool(r.t).QueryRow(r.t.Context(), "select dropped from notifyql.retention").Scan(&xid); err != nil {
		r.t.Fatal(err)
	}
	return change.XID(xid)
}

// left is what the log holds.
func (r ring) left() (xs []change.XID) {
	r.t.Helper()
	rows, err := r.Pool(r.t).Query(r.t.Context(), "select xid from notifyql.change order by xid, seq")
	if err != nil {
		r.t.Fatal(err)
	}
	var xid uint64
	if _, err := pgx.ForEachRow(rows, []any{&xid}, func() error { xs = append(xs, change.XID(xid)); return nil }); err != nil {
		r.t.Fatal(err)
	}
	return xs
}

func (r ring) want(said map[int]string, slot int, prefix string) {
	r.t.Helper()
	if !strings.HasPrefix(said[slot], prefix) {
		r.t.Errorf("slot %d: %q, want %q", slot, said[slot], prefix)
	}
}

// forgetTries makes the next turn try again at once.
func (r ring) forgetTries() {
	r.t.Helper()
	r.Exec(r.t, "update notifyql.ring set tries = 0, tried = null")
}

func TestTurn(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	if said := r.turned(); len(said) != 0 {
		t.Errorf("of an empty log it says %v", said)
	}
	first := r.log(4, "25 hours")
	if said := r.turned(); said[4] != "kept: it holds the newest change" {
		t.Errorf("the only one: %v", said)
	}

	// A transaction that began before others and writes after them: the row with the greatest xid is not the newest.
	slow := r.begin()
	stays := []change.XID{logIn(t, slow, 2, "1 hour")}
	stays = append(stays, r.log(2, "30 hours"), r.log(5, "24 hours 1 minute"), logIn(t, slow, 5, "23 hours"))
	stays = append(stays, r.log(3, "23 hours 50 minutes"))
	stays = append(stays, r.log(0, "30 hours"), r.log(1, "30 hours")) // written to now, and next
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := r.log(6, "24 hours 1 second")
	stays = append(stays, r.log(7, "40 hours")) // the newest, whatever its time

	r.Exec(t, fmt.Sprintf("insert into notifyql.former select x, 1, 'k' from unnest('{%d,%d}'::xid8[]) x", first, last))
	said := r.turned()
	r.want(said, 0, "kept: it is written to now, or next")
	r.want(said, 1, "kept: it is written to now, or next")
	r.want(said, 2, "kept: it is one of the next to be emptied") // as it seems
	r.want(said, 3, "kept: its newest change is of ")
	r.want(said, 4, "emptied: its newest change was of ")
	r.want(said, 5, "kept: it is one of the next to be emptied")
	r.want(said, 6, "kept: it is one of the next to be emptied")
	r.want(said, 7, "kept: it holds the newest change")
	if r.dropped() != first {
		t.Errorf("%d was dropped, %d is recorded", first, r.dropped())
	}
	if left := one[uint64](t, r.DB, `select xid from notifyql.former`); change.XID(left) != last { // what served a transaction goes with it
		t.Errorf("of former, %d is left, want %d", left, last)
	}
	said = r.turned()
	r.want(said, 2, "kept: its newest change is of ")
	r.want(said, 5, "kept: its newest change is of ")
	r.want(said, 6, "emptied: its newest change was of ")
	if r.dropped() != last {
		t.Errorf("%d was dropped, %d is recorded", last, r.dropped())
	}
	for slot, text := range r.turned() {
		if !strings.HasPrefix(text, "kept") {
			t.Errorf("slot %d: %s, although nothing is left to do", slot, text)
		}
	}
	slices.Sort(stays)
	if left := r.left(); !slices.Equal(left, stays) {
		t.Errorf("the log has %v, want %v", left, stays)
	}
}

// What a row that was committed while it was looked whether a slot is old is kept.
func TestTurnLooksAgain(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.log(4, "30 hours")
	r.log(5, "1 second")
	// A turn stops, where it makes a note of what it saw.
	r.Exec(t, `
		create function stop() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(4711); return new; end $$;
		create trigger stop before update on notifyql.ring for each row execute function stop();
		alter function notifyql.turn set lock_timeout = '30s'`)
	gate := r.begin()
	if _, err := gate.Exec(t.Context(), "select pg_advisory_xact_lock(4711)"); err != nil {
		t.Fatal(err)
	}
	said := make(chan map[int]string)
	go func() { said <- r.turned() }()
	r.waiting(1)
	late := r.log(4, "26 hours")
	if err := gate.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(<-said, 4, "kept: it was written to just now")
	if !slices.Contains(r.left(), late) || r.dropped() != 0 {
		t.Errorf("%d is gone: %v, %d", late, r.left(), r.dropped())
	}
}

// waiting returns when so many sessions of the database wait for a lock.
func (r ring) waiting(n int) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var waiting int
		if err := r.Pool(r.t).QueryRow(r.t.Context(), `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).
			Scan(&waiting); err != nil {
			r.t.Fatal(err)
		}
		if waiting >= n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d sessions wait for a lock, want %d", waiting, n)
		}
	}
}

// A dump and a long read hold locks on all slots, and a transaction that wrote on its own: three turns are missed, the ring
// goes round, and what is written into slots that still hold old rows is kept. Nobody who writes waits.
func TestMissedTurns(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"a dump", "a long read"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRing(t)
			for slot := 3; slot <= 5; slot++ {
				r.log(slot, fmt.Sprintf("%d hours", 40-slot))
			}
			newest := r.log(6, "1 hour")
			holder := r.begin()
			hold := "lock table notifyql.change in access share mode" // with its partitions
			if kind == "a long read" {
				hold = "declare reads cursor for select from notifyql.change"
			}
			if _, err := holder.Exec(t.Context(), hold); err != nil {
				t.Fatal(err)
			}
			for slot := 3; slot <= 5; slot++ {
				said := r.turned()
				r.want(said, slot, "blocked: a lock on it is held, by a dump or a long read perhaps")
				if slot < 5 {
					r.want(said, slot+1, "kept: it is one of the next to be emptied")
				}
				said = r.turned() // one that was blocked is enough for a while
				r.want(said, slot, "blocked: a lock on it was held 1 times, last at ")
				if slot < 5 {
					r.want(said, slot+1, "kept: it is one of the next to be emptied")
				}
				r.Exec(t, "update notifyql.ring set tries = tries + 1, tried = tried - interval '31 seconds' where tries > 0")
			}
			// The ring has gone round: slot 4 is written to.
			writer := r.begin()
			if _, err := writer.Exec(t.Context(), "set local lock_timeout = '1ms'"); err != nil {
				t.Fatal(err)
			}
			fresh := logIn(t, writer, 4, "10 minutes")
			if err := writer.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.log(6, "1 second")
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.want(r.turned(), 5, "blocked: a lock on it was held 2 times, last at ")
			r.forgetTries()
			r.want(r.turned(), 3, "emptied")
			r.want(r.turned(), 5, "emptied")
			r.want(r.turned(), 4, "kept: its newest change is of ")
			if left := r.left(); len(left) != 4 || left[1] != newest || left[2] != fresh {
				t.Errorf("the log has %v, want two in slot 4 and two in slot 6", left)
			}
			if r.dropped() >= newest {
				t.Errorf("dropped is %d, although %d is there", r.dropped(), newest)
			}
		})
	}
}

// What a long transaction wrote may be older than what is kept when it commits. It is kept as long as other rows, from then on.
func TestLongWriter(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	old := r.log(4, "30 hours")
	writer := r.begin()
	late := logIn(t, writer, 4, "29 hours")
	r.log(5, "1 second")
	r.want(r.turned(), 4, "kept: a transaction that wrote to it has not ended")
	r.want(r.turned(), 4, "kept: its newest change is of ") // counted as of now
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(r.turned(), 4, "kept: its newest change is of ")
	if left := r.left(); !slices.Contains(left, late) || r.dropped() != 0 {
		t.Errorf("the log has %v, dropped is %d", left, r.dropped())
	}
	r.Exec(t, "update notifyql.ring set newest = newest - interval '24 hours'")
	r.want(r.turned(), 4, "emptied")
	if r.dropped() != late || late < old {
		t.Errorf("dropped is %d, want %d", r.dropped(), late)
	}
}

// Rows whose time is still to come: the clock was set back. Rows whose xid is: the database was restored from a dump.
func TestRowsOfAnotherTime(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.log(4, "-1000 days")
	r.Exec(t, `insert into notifyql.change (slot, xid, at, watch, op, shared)
		select ((date_part('epoch', now())::bigint / 100000000) + 5) % 10, '99999999', now() - interval '2 days', 7, 'I', true`)
	r.log(6, "1 second")
	before := r.dropped()
	r.want(r.turned(), 5, "emptied")
	if r.dropped() != before {
		t.Errorf("dropped is %d: no place can have seen that", r.dropped())
	}
	r.want(r.turned(), 4, "kept: its newest change is of ")
	r.Exec(t, "update notifyql.ring set newest = newest - interval '24 hours'")
	r.want(r.turned(), 4, "emptied")
}

// The settings are those of the moment. What can't be kept in the ring is refused.
func TestRetentionSettings(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.log(4, "25 hours")
	r.log(5, "1 second")
	r.Exec(t, "update notifyql.setting set retention = '2 days'")
	r.want(r.turned(), 4, "kept: its newest change is of ")
	r.Exec(t, "update notifyql.setting set retention = '1 day'")
	r.want(r.turned(), 4, "emptied")

	_, err := r.Pool(t).Exec(t.Context(), "update notifyql.setting set slot_seconds = 3600")
	if err == nil || !strings.Contains(err.Error(), "retention_is_at_most_7_slots") {
		t.Errorf("24 hours in slots of one: %v", err)
	}
	// The same rows, in a ring of other slots.
	r.log(2, "3 hours")
	r.log(3, "10 minutes")
	newest := r.log(4, "20 seconds")
	r.Exec(t, "update notifyql.setting set slot_seconds = 1, retention = '7 seconds'")
	r.Exec(t, "update notifyql.change set at = at - interval '7 seconds'")
	// What happens to be in the present slot and the next stays until the ring has moved on, by the clock.
	for deadline := time.Now().Add(20 * time.Second); len(r.left()) > 1; {
		if r.turned(); time.Now().After(deadline) {
			t.Fatalf("%v are left", r.left())
		}
	}
	if left := r.left(); len(left) != 1 || left[0] != newest {
		t.Errorf("%v are left, want %d", left, newest)
	}
}

// A turn is a transaction of its own.
func TestTurnAlone(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.log(4, "30 hours")
	r.log(5, "1 second")
	for _, begin := range []string{"begin isolation level repeatable read", "begin isolation level serializable", "begin; create table something ()"} {
		conn := r.Conn(t, "postgres")
		_, err := conn.Exec(t.Context(), begin+"; select * from notifyql.turn()")
		if err == nil || !strings.Contains(err.Error(), "turn: not in a transaction") {
			t.Fatalf("%s: %v", begin, err)
		}
	}
	// Another session's turn, in a transaction that goes on.
	other := r.begin()
	if _, err := other.Exec(t.Context(), "select from notifyql.retention for update"); err != nil {
		t.Fatal(err)
	}
	r.want(r.turned(), 4, "kept: another session is turning the ring")
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(r.turned(), 4, "emptied")
}

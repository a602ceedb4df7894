package feed_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Notifications come only after their transaction has committed and can be seen; those of a transaction come together;
// they come in commit order; of what was rolled back, none come.
func TestNotificationsFollowCommits(t *testing.T) {
	t.Parallel()
	db := database(t)
	listener, reader, writer := connect(t, db), connect(t, db), connect(t, db)
	listener.exec("listen log")

	writer.exec("begin; select touch(1); savepoint s; select touch(2); rollback to s; select touch(3)")
	listener.exec("select 1") // would bring a notification
	if n := waiting(listener); n != "" {
		t.Fatalf("%q came before the commit", n)
	}
	writer.exec("commit")
	for _, row := range []int{1, 3} {
		if n := tell(t, listener.next()); n.row != row {
			t.Fatalf("row %d came, want %d", n.row, row)
		}
	}

	wait := writers(t, db, 6, 60)
	done := make(chan int, 1)
	go func() {
		total := wait()
		if _, err := writer.Exec(t.Context(), "notify log, 'end'"); err != nil {
			t.Error(err)
		}
		done <- total
	}()
	count, last := 0, told{}
	ended := map[change.XID]bool{}
	versions := map[int]int{1: 1, 3: 1}
	for payload := listener.next(); payload != "end"; payload = listener.next() {
		n := tell(t, payload)
		count++
		if n.xid != last.xid {
			if ended[n.xid] {
				t.Fatalf("transaction %d comes in two parts", n.xid)
			}
			ended[last.xid] = true
			if seen := reader.text("select count(*)::text from log where xid = $1::text::xid8 and seq = $2", strconv.Itoa(int(n.xid)), n.seq); seen != "1" {
				t.Fatalf("transaction %d is notified and cannot be seen", n.xid)
			}
		} else if n.seq <= last.seq {
			t.Fatalf("transaction %d: seq %d after %d", n.xid, n.seq, last.seq)
		}
		last = n
		// A row's lock is held to the commit: in commit order its versions come one by one.
		if n.ver != versions[n.row]+1 {
			t.Fatalf("row %d: version %d after %d", n.row, n.ver, versions[n.row])
		}
		versions[n.row] = n.ver
	}
	if total := <-done; count != total {
		t.Errorf("%d notifications of %d changes", count, total)
	}
}

// waiting gives the notification that has come already, if any.
func waiting(c client) string {
	ctx, cancel := context.WithCancel(c.t.Context())
	cancel()
	if n, err := c.WaitForNotification(ctx); err == nil {
		return n.Payload
	}
	return ""
}

// Equal payloads of a transaction are one, in the first one's place, over released savepoints too; what a savepoint's
// rollback took away can be said again.
func TestEqualPayloadsCollapse(t *testing.T) {
	t.Parallel()
	db := database(t)
	listener, writer := connect(t, db), connect(t, db)
	listener.exec("listen log")
	writer.exec(`begin; notify log, 'a'; savepoint s; notify log, 'b'; notify log, 'a'; release s; notify log, 'c';
		savepoint s; notify log, 'd'; rollback to s; notify log, 'b'; notify log, 'd'; commit; notify log, 'a'`)
	var got []string
	for range 5 {
		got = append(got, listener.next())
	}
	if want := "a b c d a"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Between transactions seq is not commit order, but for one row it is; and whole transactions in the order of their last
// seq come after all that they could see.
func TestSeqAndCommitOrder(t *testing.T) {
	t.Parallel()
	db := database(t)
	a, b := connect(t, db), connect(t, db)
	a.exec("begin; select touch(1)")
	b.exec("begin; select touch(2)")
	b.exec("commit")
	if seen := a.text("select row::text from log where row = 2"); seen != "2" {
		t.Fatal("what committed cannot be seen")
	}
	a.exec("commit")
	if first := a.text("select row::text from log order by seq limit 1"); first != "1" {
		t.Error("seq is commit order")
	}

	writers(t, db, 6, 60)()
	if wrong := a.text(`select count(*)::text from
		(select ver, lag(ver, 1, 0) over (partition by row order by seq) as before from log) l where ver <> before + 1`); wrong != "0" {
		t.Errorf("%s changes are out of their row's order", wrong)
	}
	if wrong := a.text(`with txn as (select xid, max(seq) as last from log group by xid)
		select count(*)::text from log l join txn own using (xid), txn other
		where l.saw is not null and other.xid <> l.xid and pg_visible_in_snapshot(other.xid, l.saw) and other.last > own.last`); wrong != "0" {
		t.Errorf("%s times a transaction would come before one that it saw", wrong)
	}
	txns := a.text(`select string_agg(row || ':' || ver, ' ' order by last, seq) from
		(select *, max(seq) over (partition by xid) as last from log) l`)
	versions := map[int]int{}
	for _, txt := range strings.Fields(txns) {
		var row, ver int
		if _, err := fmt.Sscanf(txt, "%d:%d", &row, &ver); err != nil || ver != versions[row]+1 {
			t.Fatalf("row %d: version %d after %d, %v", row, ver, versions[row], err)
		}
		versions[row] = ver
	}
}

// The rows that can be seen now and not in S are those with xid >= xmax(S) or xid = any(xip(S)), of prepared transactions
// and of those with many subtransactions too; and our Snapshot sees what pg_visible_in_snapshot sees.
func TestNewSinceSnapshot(t *testing.T) {
	t.Parallel()
	db := database(t)
	c, open, prepared, many := connect(t, db), connect(t, db), connect(t, db), connect(t, db)
	open.exec("begin; insert into log (row) values (0)")
	prepared.exec("begin; insert into log (row) values (0); prepare transaction 'p'")
	many.exec("begin")
	for range 100 {
		many.exec("savepoint s; insert into log (row) values (0)")
	}
	writers(t, db, 1, 1)() // one that ends after those began: from here on snapshots list them
	var snaps []string
	for range 20 {
		snaps = append(snaps, c.text("select pg_current_snapshot()::text"))
		writers(t, db, 2, 3)()
		switch len(snaps) {
		case 8:
			many.exec("commit")
		case 12:
			prepared.exec("commit prepared 'p'")
		case 16:
			open.exec("commit")
		}
	}
	for _, text := range snaps {
		s := parse(t, text)
		differ := c.text(`select count(*)::text from log
			where (xid >= $2::text::xid8 or xid = any($3::text::xid8[])) is distinct from not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)`,
			text, fmt.Sprint(s.Xmax), xids(s.Xip))
		if differ != "0" {
			t.Errorf("%s: %s rows are not where the predicate has them", text, differ)
		}
		for _, pair := range strings.Fields(c.text(`select coalesce(string_agg(distinct xid || ':' || pg_visible_in_snapshot(xid, $1::text::pg_snapshot), ' '), '') from log`, text)) {
			x, seen, _ := strings.Cut(pair, ":")
			if sees := s.Sees(parseXID(t, x)); fmt.Sprint(sees) != seen {
				t.Errorf("%s sees %s: %v, Postgres says %s", text, x, sees, seen)
			}
		}
	}
	if new := c.text("select count(*)::text from log where xid = any($1::text::xid8[])", xids(parse(t, snaps[0]).Xip)); new != "102" {
		t.Errorf("of the three transactions that ran there are %s rows, want 102: subtransactions are logged under other ids", new)
	}
}

func xids(xs []change.XID) string {
	texts := make([]string, len(xs))
	for i, x := range xs {
		texts[i] = fmt.Sprint(x)
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// What a snapshot in a notifying transaction sees was queued before that notification; and a listener that takes a
// snapshot after LISTEN misses nothing that the snapshot does not see.
func TestQueueAndSnapshot(t *testing.T) {
	t.Parallel()
	db := database(t)
	listener, prober := connect(t, db), connect(t, db)
	listener.exec("listen log")
	wait := writers(t, db, 6, 60)
	for range 60 {
		prober.exec("begin; select pg_notify('log', 'probe ' || pg_current_snapshot()); commit")
	}
	starts := starters(t, db, 20)
	wait()
	prober.exec("notify log, 'end'")

	got := map[change.XID]bool{}
	logged := map[change.XID]bool{}
	for _, x := range strings.Fields(prober.text("select string_agg(distinct xid::text, ' ') from log")) {
		logged[parseXID(t, x)] = true
	}
	probes := 0
	for payload := listener.next(); payload != "end"; payload = listener.next() {
		text, probe := strings.CutPrefix(payload, "probe ")
		if !probe {
			got[tell(t, payload).xid] = true
			continue
		}
		probes++
		s := parse(t, text)
		for x := range logged {
			if s.Sees(x) && !got[x] {
				t.Fatalf("the snapshot %s of a notification saw %d, whose notification comes later", text, x)
			}
		}
	}
	if probes != 60 {
		t.Errorf("%d probes came", probes)
	}

	for _, s := range starts {
		have := map[change.XID]bool{}
		for payload := s.next(); payload != "end"; payload = s.next() {
			if !strings.HasPrefix(payload, "probe") {
				have[tell(t, payload).xid] = true
			}
		}
		for x := range logged {
			if !s.from.Sees(x) && !have[x] {
				t.Errorf("a listener that started at %v never heard of %d", s.from, x)
			}
		}
	}
}

type starter struct {
	client
	from change.Snapshot
}

// starters are listeners that start one after the other: LISTEN, then in a later transaction a snapshot.
func starters(t *testing.T, db *pgtest.DB, n int) []starter {
	t.Helper()
	var out []starter
	for range n {
		c := connect(t, db)
		c.exec("listen log")
		c.exec("begin isolation level read committed, read only")
		s := c.snapshot()
		if x := c.text("select coalesce(pg_current_xact_id_if_assigned()::text, '')"); x != "" {
			t.Fatalf("a READ ONLY transaction has the xid %s", x)
		}
		c.exec("commit")
		out = append(out, starter{c, s})
	}
	return out
}

// A snapshot's xmax is one past the highest xid that has *ended*: what runs may have a higher one, and is in no list. And a
// snapshot leaves out its own transaction, so that it seems to have ended.
func TestSnapshotXmax(t *testing.T) {
	t.Parallel()
	db := database(t)
	// Other tests use up xids too: try until nothing came between.
	for range 100 {
		a, b, c := connect(t, db), connect(t, db), connect(t, db)
		a.exec("begin")
		x := a.xid()
		s := c.snapshot()
		b.exec("begin")
		y := b.xid()
		own := b.snapshot()
		b.exec("commit")
		after := c.snapshot()
		a.exec("rollback")
		if s.Xmax > x || y != x+1 {
			continue
		}
		if s.Sees(x) || slices.Contains(s.Xip, x) {
			t.Errorf("%v lists %d, which is above its xmax", s, x)
		}
		if after.Xmax <= y || after.Sees(x) || !after.Sees(y) || !slices.Contains(after.Xip, x) {
			t.Errorf("%d runs, %d has ended, the snapshot is %v", x, y, after)
		}
		if slices.Contains(own.Xip, y) {
			t.Errorf("the snapshot %v lists its own transaction %d", own, y)
		}
		break
	}
	a, b := connect(t, db), connect(t, db)
	a.exec("begin")
	x := a.xid()
	b.exec("select touch(1)") // a higher one ends
	if own := a.snapshot(); !own.Sees(x) {
		t.Errorf("the snapshot %v of %d does not take it for ended", own, x)
	}
	if other := b.snapshot(); other.Sees(x) {
		t.Errorf("the snapshot %v of another takes %d for ended", other, x)
	}
}

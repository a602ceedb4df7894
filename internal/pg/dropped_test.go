package pg

import (
	"errors"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What the log has lost is never passed over: a sweep from before it fails, and so does a page of a transaction in it.
func TestEmptiedLogIsNoticed(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{}) // others' transactions would run when snapshots are taken
	for _, size := range []int{10, 3000} {     // in one round trip, and in parts
		db := pgtest.NewOn(t, srv)
		s := testSource(t, db)
		before := change.NewFrontier(snapshot(t, db))

		slow, err := db.Pool(t).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Rollback(t.Context())
		var slowXID uint64
		if err := slow.QueryRow(t.Context(), "select pg_current_xact_id()").Scan(&slowXID); err != nil {
			t.Fatal(err)
		}
		x := logRows(t, db, "a", size, 10)
		after := change.NewFrontier(snapshot(t, db))
		logRows(t, db, "a", size, 10)
		db.Exec(t, "update notifyql.retention set dropped = $1", uint64(x)) // as turn does
		sweep := func(f *change.Frontier) error {
			return s.drive.sweeper.sweep(t.Context(), feed.Sweep{From: f.Clone()}, func(in feed.Input) {
				if swept := in.(feed.Swept); !swept.More && f == &before {
					t.Errorf("a sweep with a hole is said to be whole")
				}
			})
		}
		if err := sweep(&before); !errors.Is(err, change.ErrDropped) {
			t.Errorf("a sweep from before what was dropped: %v", err)
		}
		if err := sweep(&after); err != nil {
			t.Errorf("a sweep from behind it: %v", err)
		}
		// One that ran then ends, with an xid that may be among the dropped ones.
		if slowXID > uint64(x) {
			t.Fatal("the slow transaction is not older")
		}
		if err := slow.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := sweep(&after); !errors.Is(err, change.ErrDropped) {
			t.Errorf("a sweep from where an older transaction ran, that has ended: %v", err)
		}
		after.Add(change.XID(slowXID))
		if err := sweep(&after); err != nil {
			t.Errorf("the same, but that had been dispatched: %v", err)
		}
		_, _, err = s.Txn(t.Context(), x, nil, &change.Stub{}, []change.Topic{{Watch: 7}}, []string{"a"}, 10)
		if !errors.Is(err, change.ErrDropped) {
			t.Errorf("a page of it: %v", err)
		}
	}
}

// A source whose place in the log is gone says so, and goes on from where the log is.
func TestSourceGoesOnWhenItsPlaceIsGone(t *testing.T) {
	t.Parallel()
	db := pgtest.NewOn(t, pgtest.Server(t, localpg.Options{})) // a stranger's transaction that ends may void the new place too
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL, Beat: time.Hour}) // nothing folds the frontier
	n.opened(1)
	var next uint64
	if err := db.Pool(t).QueryRow(t.Context(), "select pg_snapshot_xmax(pg_current_snapshot())").Scan(&next); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "insert into ledger values (1, 'a', 1, repeat('x', 9000)), (2, 'b', 1, null)")
	n.until("the large row is there", func() bool { return len(n.txns) == 1 })

	// As if the node had slept for a day.
	n.mu.Lock()
	n.machine.Step(time.Now(), feed.Lost{})
	n.mu.Unlock()
	db.Exec(t, "insert into ledger values (3, 'a', 1)")
	var last uint64
	if err := db.Pool(t).QueryRow(t.Context(), "select xid from notifyql.change order by xid desc limit 1").Scan(&last); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update notifyql.retention set dropped = $1", last)
	n.emit(feed.Opened{Snapshot: snapshot(t, db)})
	n.until("it has noticed", func() bool { return count[feed.Expired](n) == 1 })
	db.Exec(t, "insert into ledger values (4, 'a', 1, repeat('x', 9000))") // only the log has it
	n.until("it goes on", func() bool { return len(n.txns) == 2 })
	if got := n.all()[1]; len(got.Changes) != 1 || got.XID <= change.XID(last) || uint64(got.XID) < next {
		t.Errorf("got %+v", got)
	}
	if st := n.Status(); len(st.Problems) > 0 || n.stats().Expired != 1 {
		t.Errorf("%+v, %+v", st, n.stats())
	}
}

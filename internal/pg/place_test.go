package pg

import (
	"errors"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// lonelyRing is a ring on a server of its own: of others, transactions would run when snapshots are taken.
func lonelyRing(t *testing.T) ring {
	db := pgtest.NewOn(t, pgtest.Server(t, localpg.Options{}))
	db.Exec(t, `update notifyql.setting set slot_seconds = 100000000`)
	return ring{db, t}
}

// sweeps says whether a sweep from f finds the log whole.
func sweeps(t *testing.T, s *Source, f *change.Frontier) bool {
	t.Helper()
	err := s.drive.sweeper.sweep(t.Context(), feed.Sweep{From: f.Clone(), Era: eraOf(t, s)}, func(feed.Input) {})
	if err != nil && !errors.Is(err, change.ErrDropped) {
		t.Error(err)
	}
	return err == nil
}

// eraOf enters the database's era, as the listener does.
func eraOf(t testing.TB, s *Source) change.Era {
	t.Helper()
	var era int64
	if err := inWriting(t.Context(), s.pool, enterEra, &era); err != nil {
		t.Fatal(err)
	}
	return change.Era(era)
}

// A place in the log dies with the first transaction that it lacks and the log has dropped, and not before.
func TestPlacesDie(t *testing.T) {
	t.Parallel()
	r := lonelyRing(t)
	s := testSource(t, r.DB)
	place := func() *change.Frontier {
		f := change.NewFrontier(snapshot(t, r.DB))
		return &f
	}
	is := func(what string, f *change.Frontier, whole bool) {
		t.Helper()
		if got := sweeps(t, s, f); got != whole {
			t.Errorf("%s: whole %v, want %v (dropped %d, place %v)", what, got, whole, r.dropped(), f.Snapshot)
		}
	}

	before := place()
	slow, other := r.begin(), r.begin()
	x := logIn(t, slow, 4, "26 hours")
	y := logIn(t, other, 6, "1 second")
	last := r.log(4, "30 hours")
	between := place() // x and y run
	r.log(6, "1 second")
	if between.Contains(x) || between.Contains(y) || !between.Contains(last) {
		t.Fatalf("the place is %v, where %d and %d run", between.Snapshot, x, y)
	}
	with := between.Clone()
	with.Add(x)
	for _, f := range []*change.Frontier{before, between, &with} {
		is("nothing was dropped", f, true)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := place()
	is("a transaction has ended that ran", between, true)
	r.want(r.turned(), 4, "emptied")
	if r.dropped() != last {
		t.Fatalf("dropped is %d, want %d", r.dropped(), last)
	}
	is("from before all that was dropped", before, false)
	is("from where one of it ran", between, false)
	is("the same, but that one is dispatched; another runs still", &with, true)
	is("from behind it; that other runs still", after, true)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Now that it has ended it can't be told from what was dropped: its rows may have been among that.
	is("that other has ended", after, false)
	after.Add(y)
	is("that other has ended, and is dispatched", after, true)
	is("from now", place(), true)
}

// A sweep whose snapshot is older than the truncation, and that comes to read the slot after it, sees nothing there.
func TestASweepThatMeetsATurn(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{1, 3000} {
		r := newRing(t)
		s := testSource(t, r.DB)
		f := change.NewFrontier(snapshot(t, r.DB))
		r.log(4, "30 hours")
		r.Exec(t, "insert into notifyql.change (slot, watch, op, shared) select "+r.leaf(5)[len("change_"):]+", 7, 'D', true from generate_series(1, $1)", rows)
		turn := r.begin()
		r.Exec(t, "select notifyql.tick()")
		if _, err := turn.Exec(t.Context(), "select * from notifyql.turn()"); err != nil {
			t.Fatal(err)
		}
		swept := make(chan bool)
		go func() { swept <- sweeps(t, s, &f) }()
		r.waiting(1)
		if err := turn.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if <-swept {
			t.Errorf("%d rows: a sweep with a hole is said to be whole", rows)
		}
		if r.dropped() == 0 {
			t.Error("nothing was dropped")
		}
	}
}

// A large transaction is dropped while it is read.
func TestAPageThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	s := testSource(t, r.DB)
	f := change.NewFrontier(snapshot(t, r.DB))
	r.Exec(t, "insert into notifyql.change (slot, at, watch, op, shared) select "+r.leaf(4)[len("change_"):]+", now() - interval '25 hours', 7, 'D', true from generate_series(1, 3000)")
	r.log(5, "1 second")
	swept, _ := sweepFrom(t, s, &f)
	if len(swept.Txns) == 0 || swept.Txns[0].Stub == nil {
		t.Fatalf("swept %+v, want a stub first", swept)
	}
	page := func(after *change.Change) ([]change.Change, error) {
		cs, _, err := s.Txn(t.Context(), swept.Txns[0].XID, after, swept.Txns[0].Stub, []change.Topic{{Watch: 7}}, nil, 1000)
		return cs, err
	}
	first, err := page(nil)
	if err != nil || len(first) != 1000 {
		t.Fatalf("%d changes, %v", len(first), err)
	}
	r.want(r.turned(), 4, "emptied")
	if rest, err := page(&first[999]); !errors.Is(err, change.ErrDropped) {
		t.Errorf("%d changes, %v", len(rest), err)
	}

	// A turn between a sweep's first look, which found too much for one answer, and its reading.
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	r.log(5, "1 second")
	l := lackingIn(&f)
	err = s.drive.sweeper.sweepLarge(t.Context(), conn.Conn(), &feed.Sweep{ID: 1, From: f, Era: eraOf(t, s)}, &l, func(in feed.Input) {
		if !in.(feed.Swept).More {
			t.Error("it is said to be whole")
		}
	})
	if !errors.Is(err, change.ErrDropped) {
		t.Errorf("a sweep in parts: %v", err)
	}
}

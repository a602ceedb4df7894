package pg

import (
	"errors"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// turning is a log in which two slots are old, the first one of them with n rows, and one is not, with places before and behind.
func turning(t *testing.T, srv *localpg.Server, n int) (ring, *chronicle) {
	r := ring{pgtest.NewOn(t, srv), t}
	r.Exec(t, `update notifyql.setting set slot_seconds = 100000000`)
	c := newChronicle(t, r.DB)
	c.tick(t)
	c.spot(t)
	c.Exec(t, "insert into notifyql.change (slot, at, watch, op, shared) select "+r.leaf(4)[len("change_"):]+", now() - interval '30 hours', 7, 'D', true from generate_series(1, $1)", n)
	c.tick(t)
	c.spot(t)
	r.log(5, "28 hours")
	c.tick(t)
	c.spot(t)
	r.log(6, "1 second")
	c.tick(t)
	c.spot(t)
	c.learn(t)
	return r, c
}

// While a page is read, or between two pages, what was to be read is dropped: there is never a page with a hole.
func TestSinceMeetsATurn(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{}) // as for lonelyRing
	for _, rows := range []int{3, 3000} {
		r, c := turning(t, srv, rows)
		from, to := c.at(c.spots[0]), c.at(c.spots[3])
		page, err := c.page(t, from, to)
		if err != nil {
			t.Fatal(err)
		}
		inside := page.Next
		if rows < wholeRows {
			inside = from.Toward(c.spots[1].tick.Stamp)
		} else if inside.Part.XID == 0 {
			t.Fatalf("the page does not end inside of a transaction: %+v", inside)
		}
		turn := r.begin()
		if _, err := turn.Exec(t.Context(), "select * from notifyql.turn()"); err != nil {
			t.Fatal(err)
		}
		// One who knows nothing yet, one who knows all that is there, and one who is in the midst of it.
		fresh := testSource(t, r.DB)
		errs := make(chan error)
		read := func(s *Source, from change.Cursor) {
			page, err := s.Since(t.Context(), from, to, seven.topics, nil, 100)
			if err == nil {
				t.Errorf("%d rows: a page with a hole: %+v", rows, page)
			}
			errs <- err
		}
		go read(fresh, from)
		go read(c.src, from)
		go read(testSource(t, r.DB), inside)
		r.waiting(3)
		if err := turn.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := <-errs; !errors.Is(err, change.ErrCursorExpired) {
				t.Errorf("%d rows: %v", rows, err)
			}
		}
		if r.dropped() == 0 {
			t.Fatal("nothing was dropped")
		}
		c.refused(t, "from before what was dropped", from, to, change.ErrCursorExpired)
		c.refused(t, "from the midst of it", inside, to, change.ErrCursorExpired)
		c.refused(t, "from before it, to before it", from, from, change.ErrCursorExpired)
		c.learn(t)
		c.follow(t, c.at(c.spots[1]), to, seven)
	}
}

// What ran when the cursor's tick was taken is missed by those only who did not get it.
func TestSinceAfterATurn(t *testing.T) {
	t.Parallel()
	r := lonelyRing(t)
	c := newChronicle(t, r.DB)
	slow, other := r.begin(), r.begin()
	x := logIn(t, slow, 4, "26 hours")
	y := logIn(t, other, 6, "1 second")
	r.log(4, "30 hours")
	c.tick(t) // x and y run
	c.spot(t)
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.spot(t) // x is listed
	c.tick(t)
	r.log(6, "1 second")
	c.tick(t)
	c.spot(t)
	c.learn(t)
	lacks, has, to := c.at(c.spots[0]), c.at(c.spots[1]), c.at(c.spots[2])
	if len(has.Done) != 1 || has.Done[0] != x || len(lacks.Done) != 0 {
		t.Fatalf("%+v, %+v", lacks, has)
	}
	c.follow(t, lacks, to, seven)
	r.want(r.turned(), 4, "emptied")
	c.refused(t, "what ran then is gone", lacks, to, change.ErrCursorExpired)
	c.follow(t, has, to, seven)

	// What runs still may have logged something that is gone, once it has ended.
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.refused(t, "another one that ran then has ended", has, to, change.ErrCursorExpired)
	c.learn(t)
	c.follow(t, has.Past(c.mark(y)), to.Past(c.mark(y)), seven)
}

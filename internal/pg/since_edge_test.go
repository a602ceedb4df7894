package pg

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// log commits a transaction of n rows of topic 7 and returns it.
func (c *chronicle) log(t testing.TB, n int) change.XID {
	t.Helper()
	return logRows(t, c.DB, "a", n, 10)
}

// seven is who reads what logRows writes.
var seven = &reader{topics: []change.Topic{{Watch: 7}}, tenants: []string{"a"}, limit: 100}

// page reads one page.
func (c *chronicle) page(t testing.TB, from, to change.Cursor) (change.Page, error) {
	return c.src.Since(t.Context(), from, to, seven.topics, seven.tenants, seven.limit)
}

// refused wants an error, and nothing else.
func (c *chronicle) refused(t testing.TB, what string, from, to change.Cursor, want error) {
	t.Helper()
	page, err := c.page(t, from, to)
	if !errors.Is(err, want) || page.Txns != nil || page.Next.Tick.ID != 0 || page.Arrived {
		t.Errorf("%s: %+v, %v; want %v", what, page, err, want)
	}
}

// newEra restarts the server, as far as anybody can tell.
func (c *chronicle) newEra(t testing.TB) {
	t.Helper()
	c.Exec(t, "delete from notifyql.life")
	c.enter(t)
}

// In another era what the cursor says was delivered is looked for in the log.
func TestSinceInAnotherEra(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	c.tick(t)
	c.spot(t)
	one, two := c.log(t, 3), c.log(t, 3)
	c.spot(t)
	three := c.log(t, 3)
	c.tick(t)
	four := c.log(t, 3)
	c.spot(t)
	c.learn(t)
	from := c.at(c.spots[1]).In(change.PartOf(&c.txns[three][1]))
	if !slices.Equal(from.Done, []change.XID{one, two}) {
		t.Fatalf("%+v", from)
	}
	old := c.at(c.spots[2])
	c.follow(t, from, old, seven)
	c.newEra(t)
	to := c.at(c.spots[2])
	if to.Era == old.Era || !slices.Equal(to.Done, []change.XID{four}) {
		t.Fatalf("%+v, %+v", old, to)
	}
	c.refused(t, "to a place of another era", from, old, change.ErrOtherEra)
	for _, at := range c.follow(t, from, to, seven) {
		if at.Era != to.Era {
			t.Errorf("%+v is of the era that is over", at)
		}
	}
	c.follow(t, to, to, seven)
	c.follow(t, old, to, seven)

	// What has another time is something else, whatever numbers it has.
	lose := func(what string, x change.XID, seq int64, from change.Cursor, lost bool) {
		t.Helper()
		c.Exec(t, "update notifyql.change set at = at + interval '1 microsecond' where xid = $1 and seq = $2", uint64(x), seq)
		if lost {
			c.refused(t, what, from, to, change.ErrCursorExpired)
		} else {
			c.follow(t, from, to, seven)
		}
		c.Exec(t, "update notifyql.change set at = at - interval '1 microsecond' where xid = $1 and seq = $2", uint64(x), seq)
	}
	lose("a transaction delivered whole is gone", one, c.mark(one).Seq, from, true)
	lose("the change delivered last is gone", three, from.Part.Seq, from, true)
	lose("another change", three, from.Part.Seq+1, from, false)
	c.Exec(t, "update notifyql.change set xid = $1 where xid = $2", uint64(two)+1_000_000, uint64(two))
	c.refused(t, "a transaction delivered whole is not there", from, to, change.ErrCursorExpired)
	c.Exec(t, "delete from notifyql.life")
	c.refused(t, "nobody has entered the era", from, to, change.ErrOtherEra)
}

// Cursors that nobody was given, and places that are not reached.
func TestSinceRefuses(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	c.tick(t)
	before := c.log(t, 1)
	c.tick(t)
	c.spot(t)
	one := c.log(t, 3)
	c.spot(t)
	two := c.log(t, 3)
	c.tick(t)
	c.spot(t)
	three := c.log(t, 3)
	c.spot(t)
	c.tick(t)
	c.spot(t)
	c.learn(t)
	at := func(i int) change.Cursor { return c.at(c.spots[i]) }
	stamp := func(i int) change.Stamp { return c.spots[i].tick.Stamp }
	part := func(x change.XID, i int) change.Part { return change.PartOf(&c.txns[x][i]) }
	future := change.XID(1 << 40)
	edit := func(c change.Cursor, f func(*change.Cursor)) change.Cursor { f(&c); return c }
	for _, k := range []struct {
		name     string
		from, to change.Cursor
		want     error
	}{
		{"another tick's bits", edit(at(1), func(c *change.Cursor) { c.Tick.Bits++ }), at(2), change.ErrCursorExpired},
		{"no such tick", edit(at(1), func(c *change.Cursor) { c.Tick.ID = 1000 }), at(2), change.ErrCursorExpired},
		{"another upper tick's bits", edit(at(1).Toward(stamp(2)), func(c *change.Cursor) { c.Upper.Bits++ }), at(2), change.ErrCursorExpired},
		{"no such upper tick", at(1).Toward(change.Stamp{ID: 1000}), at(2), change.ErrCursorExpired},
		{"the upper tick is the lower one", at(1).Toward(stamp(1)), at(2), change.ErrCursorInvalid},
		{"done what its tick sees", edit(at(1), func(c *change.Cursor) { c.Done = append([]change.XID{before}, c.Done...) }), at(2), change.ErrCursorInvalid},
		{"in what its tick sees", at(1).In(part(before, 0)), at(2), change.ErrCursorInvalid},
		{"in what is done", at(1).In(part(one, 1)), at(2), change.ErrCursorInvalid},
		{"in what the upper tick does not see", at(0).Toward(stamp(2)).In(part(three, 1)), at(3), change.ErrCursorInvalid},
		{"done what has yet to come", at(1).Past(change.Mark{XID: future}), at(2), change.ErrCursorInvalid},
		{"in what has yet to come", at(1).In(change.Part{XID: future, Seq: 1}), at(2), change.ErrCursorInvalid},
		{"a wrong sum", edit(at(3), func(c *change.Cursor) { c.Sum++ }), at(3), change.ErrCursorInvalid},
		{"a newer tick", at(2), at(1), errAhead},
		{"a newer upper tick", at(0).Toward(stamp(2)), at(1), errAhead},
		{"more is done", at(1), at(0), errAhead},
		{"done what the node has only a part of", at(3), at(2).In(part(three, 1)), errAhead},
		{"in what the node lacks", at(1).In(part(two, 1)), at(1), errAhead},
		{"further in what the node is in", at(1).In(part(two, 2)), at(1).In(part(two, 1)), errAhead},
		{"in what the node is in, without what was before", at(0).In(part(two, 0)), at(1).In(part(two, 1)), errAhead},
		{"the same, and an interval is between", at(0).In(part(three, 0)), at(2).In(part(three, 1)), errAhead},
		{"to a tick that is not there", at(1), edit(at(2), func(c *change.Cursor) { c.Tick.ID = 1000 }), errNoTick},
		{"to a tick of other bits", at(1), edit(at(2), func(c *change.Cursor) { c.Tick.Bits++ }), errNoTick},
	} {
		for _, knows := range []bool{false, true} {
			if !knows {
				c.src.history = newHistory(c.src.pool, 4)
			} else {
				c.follow(t, at(0), at(4), seven)
			}
			c.refused(t, k.name, k.from, k.to, k.want)
		}
	}
	if _, err := c.page(t, at(0), at(4)); err != nil {
		t.Error(err)
	}
}

// Whatever a cursor says, the answer is a page that leads on, or a word on the cursor.
func TestSinceOfAnyCursor(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	c.tick(t)
	for range 10 {
		c.log(t, 2)
		c.tick(t)
		c.spot(t)
		c.log(t, 1)
	}
	c.spot(t)
	c.learn(t)
	rnd := rand.New(rand.NewPCG(3, 3))
	tr := newTraveller(c, 3)
	numbers := []uint64{0, 1, 1 << 31, 1 << 32, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	xid := func() change.XID {
		if rnd.IntN(2) == 0 {
			return tr.xids[rnd.IntN(len(tr.xids))]
		}
		return change.XID(numbers[rnd.IntN(len(numbers))])
	}
	seq := func() int64 {
		if rnd.IntN(2) == 0 {
			return c.mark(tr.xids[rnd.IntN(len(tr.xids))]).Seq
		}
		return int64(numbers[rnd.IntN(len(numbers))] >> 1)
	}
	to := c.at(c.spots[len(c.spots)-1])
	pages := 0
	for range 1000 {
		from := c.at(c.spots[rnd.IntN(len(c.spots))])
		for range 1 + rnd.IntN(3) {
			switch rnd.IntN(6) {
			case 0:
				from.Done = append(slices.Clone(from.Done), xid())
				slices.Sort(from.Done)
				from.Done = slices.Compact(from.Done)
			case 1:
				from.Sum = rnd.Uint64()
			case 2:
				from.Part = change.Part{XID: xid(), Seq: seq(), Sum: rnd.Uint64()}
			case 3:
				from.Upper, from.Last = c.spots[rnd.IntN(len(c.spots))].tick.Stamp, seq()
			case 4:
				from.Tick.ID = max(1, from.Tick.ID+int64(rnd.IntN(3))-1)
			case 5:
				from.Era = change.Era(rnd.Uint64())
			}
		}
		page, err := c.page(t, from, to)
		switch {
		case err == nil && (page.Arrived || !sameCursor(&page.Next, &from)):
			pages++
		case !isPlace(err):
			t.Errorf("%+v: %+v, %v", from, page, err)
		}
	}
	t.Logf("%d pages", pages)
	if pages < 50 {
		t.Error("too few cursors were good")
	}
}

// A caller who has no time left gets an error, and others are not kept from reading.
func TestSinceCancelled(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	c.tick(t)
	c.spot(t)
	c.log(t, 3)
	c.tick(t)
	c.spot(t)
	c.learn(t)
	from, to := c.at(c.spots[0]), c.at(c.spots[1])
	lock, err := c.Conn(t, "postgres").Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "lock table notifyql.change in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	const readers = 6 // more than may read at a time
	errs := make(chan error, readers)
	for range readers {
		go func() {
			_, err := c.src.Since(ctx, from, to, seven.topics, seven.tenants, 10)
			errs <- err
		}()
	}
	ring{c.DB, t}.waiting(2)
	cancel()
	for range readers {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	if err := lock.Rollback(t.Context()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		t.Fatal(err)
	}
	c.follow(t, from, to, seven)
}

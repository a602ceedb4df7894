package pg

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// resumes follows a reader, and then from some of the places where he was, so many, also as if nothing were known there.
func (c *chronicle) resumes(t testing.TB, rnd *rand.Rand, from, to change.Cursor, r *reader, n int) []change.Cursor {
	t.Helper()
	places := c.follow(t, from, to, r)
	for range n {
		if sizes := *c.src.history; rnd.IntN(2) == 0 {
			c.src.history = newHistory(c.src.pool, 4)
			c.src.history.lookRows, c.src.history.listMost = sizes.lookRows, sizes.listMost
		}
		c.follow(t, places[rnd.IntN(len(places))], to, r)
	}
	return places
}

// Transactions of any size are read in pages of what is looked at, whoever's the changes are, in canonical order.
func TestSinceInLargeTransactions(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	c.tick(t)
	c.spot(t)
	for _, sql := range []string{
		// Few of many.
		`insert into notifyql.change (watch, op, shared, tenant)
		 select case i when 1 then 7 when 9000 then 7 when 9001 then 7 else 8 end, 'D', false, 'a' from generate_series(1, 12000) i`,
		// Each row is updated once more inside of its update, and what happens to the first one comes last.
		`insert into notifyql.change (watch, op, shared, tenant, leaf, flags, old_ctid, new_ctid)
		 select 7, 'U', false, case row % 100 when 0 then 'a' else 'b' end, 1, 2 * n,
		        format('(%s,%s)', row, 1 + n)::tid, format('(%s,%s)', row, 2 + n)::tid
		 from (select i / 2 + 1 as row, 1 - i % 2 as n, i from generate_series(0, 2999) i) x
		 order by case when row > 1 then 2 else n end desc, i`,
		// Large images.
		`insert into notifyql.change (watch, op, shared, tenant, new)
		 select 7, 'I', false, 'a', json_build_object('x', (select string_agg(md5(random()::text), '') from generate_series(1, 30000 + i * 0))) from generate_series(1, 6) i`,
		// Images that are much larger than they are stored.
		`insert into notifyql.change (watch, op, shared, tenant, new)
		 select 7, 'I', false, 'a', json_build_object('x', repeat('x', 3000000)) from generate_series(1, 7) i`,
	} {
		c.log(t, 1)
		c.Exec(t, sql)
		c.tick(t)
	}
	c.spot(t)
	c.learn(t)
	c.src.history.lookRows = 5000
	rnd := rand.New(rand.NewPCG(1, 2))
	from, to := c.at(c.spots[0]), c.at(c.spots[1])
	for _, r := range []*reader{
		{[]change.Topic{{Watch: 7}}, []string{"a"}, 1000},
		{[]change.Topic{{Watch: 7}}, []string{"a"}, 10},
		{[]change.Topic{{Watch: 7}}, []string{"a", "b"}, 400},
		{[]change.Topic{{Watch: 8}}, []string{"a"}, 1000},
		{[]change.Topic{{Watch: 9}}, nil, 1000},
	} {
		places := c.resumes(t, rnd, from, to, r, 1)
		if inside := slices.ContainsFunc(places, func(p change.Cursor) bool { return p.Part.XID != 0 && p.Upper.ID != 0 }); !inside {
			t.Errorf("%+v: no page ends inside of a transaction", r)
		}
	}
	size := 0
	for at, arrived := from, false; !arrived; {
		page, err := c.src.Since(t.Context(), at, to, []change.Topic{{Watch: 7}}, []string{"a"}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for _, p := range page.Txns {
			for _, l := range p.Changes {
				bytes += len(l.New)
			}
		}
		size, at, arrived = max(size, bytes), page.Next, page.Arrived
	}
	if most := wholeBytes + rawBytes + 3_000_000; size > most || size < wholeBytes {
		t.Errorf("the largest page has %d bytes, want at most %d", size, most)
	}
}

// weavers write transactions that are open at the same time.
type weavers struct {
	*rand.Rand
	conns [8]*pgx.Conn
	open  [8]pgx.Tx
}

func newWeavers(t testing.TB, c *chronicle, seed uint64) *weavers {
	t.Helper()
	w := &weavers{Rand: rand.New(rand.NewPCG(seed, 7))}
	for i := range w.conns {
		w.conns[i] = c.Conn(t, "postgres")
		if _, err := w.conns[i].Exec(t.Context(), "set synchronous_commit = off"); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// write commits n transactions of a few rows each. Others stay open.
func (w *weavers) write(t testing.TB, n int) {
	t.Helper()
	for n > 0 {
		i := w.IntN(len(w.open))
		var err error
		if w.open[i] == nil {
			w.open[i], err = w.conns[i].Begin(t.Context())
		}
		if err == nil {
			_, err = w.open[i].Exec(t.Context(), "insert into notifyql.change (watch, op, shared, tenant) values ($1, 'D', false, 'a')", 7+w.IntN(2))
		}
		if err == nil && w.IntN(2) == 0 {
			err = w.open[i].Commit(t.Context())
			w.open[i] = nil
			n--
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// end ends what is open.
func (w *weavers) end(t testing.TB) {
	t.Helper()
	for _, tx := range w.open {
		if tx != nil {
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Between two ticks there is more than is listed in one go.
func TestSinceLongWithoutTick(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	w := newWeavers(t, c, 1)
	c.tick(t)
	c.spot(t)
	w.write(t, 300)
	w.end(t)
	c.tick(t)
	c.spot(t)
	c.learn(t)
	c.src.history.listMost, c.src.history.lookRows = 50, 100
	places := c.resumes(t, w.Rand, c.at(c.spots[0]), c.at(c.spots[1]), &reader{[]change.Topic{{Watch: 7}}, []string{"a"}, 23}, 10)
	for _, p := range places {
		if p.Upper.ID != 0 && p.Upper.ID != c.spots[1].tick.ID {
			t.Errorf("%+v", p)
		}
	}
}

// Those who come from different ticks go by the same intervals after a while, and have them listed once.
func TestSinceSharesIntervals(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	w := newWeavers(t, c, 2)
	for range 64 {
		c.tick(t)
		c.spot(t)
		w.write(t, 5)
	}
	w.end(t)
	c.tick(t)
	c.spot(t)
	c.learn(t)
	c.src.history.lookRows = 80
	to := c.at(c.spots[len(c.spots)-1])
	c.follow(t, c.at(c.spots[0]), to, seven)
	kept := func() int { return len(c.src.history.intervals.keys) }
	all := kept()
	c.follow(t, c.at(c.spots[0]), to, &reader{[]change.Topic{{Watch: 8}}, []string{"a"}, 10})
	if kept() != all || all < 64*5*3/2/80 {
		t.Errorf("%d intervals were listed for the first, and %d for another", all, kept()-all)
	}
	for i := 1; i < 8; i++ {
		c.src.history.intervals.most = 1000
		before := kept()
		c.follow(t, c.at(c.spots[i]), to, seven)
		if more := kept() - before; more > 4 {
			t.Errorf("%d intervals more were listed for one who came from the tick %d after", more, i)
		}
	}
}

// A transaction is open for long, and many others come and go meanwhile.
func TestSinceBesideAnOldTransaction(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	const logOne = "insert into notifyql.change (watch, op, shared, tenant) values (7, 'D', false, 'a')"
	c.tick(t)
	c.spot(t)
	old, err := c.Conn(t, "postgres").Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Exec(t.Context(), logOne); err != nil {
		t.Fatal(err)
	}
	c.write(t, 20_000, 20)
	c.spot(t)
	if _, err := old.Exec(t.Context(), logOne); err != nil {
		t.Fatal(err)
	}
	if err := old.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.tick(t)
	c.write(t, 499, 7) // no tick behind them
	c.spot(t)
	c.learn(t)
	rnd := rand.New(rand.NewPCG(1, 5))
	at := func(i int) change.Cursor { return c.at(c.spots[i]) }
	if n := len(at(2).Done); n != 499 {
		t.Fatalf("%d transactions are listed beside the tick", n)
	}
	for _, from := range []change.Cursor{at(0), at(1)} {
		for _, p := range c.resumes(t, rnd, from, at(2), &reader{[]change.Topic{{Watch: 7}}, []string{"a"}, 256}, 4) {
			if text := p.String(); len(text) > 2000 {
				t.Errorf("a cursor has %d characters: %s", len(text), text)
			}
		}
	}
	c.tick(t)
	c.spot(t)
	c.follow(t, at(2), at(3), seven)
}

// A day in which nothing was written is passed in one go, however many ticks it has.
func TestSinceOverAnEmptyDay(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	c.tick(t)
	c.spot(t)
	c.log(t, 2)
	c.Exec(t, "insert into notifyql.tick (snapshot) select pg_current_snapshot() from generate_series(1, 86400)")
	c.log(t, 2)
	c.tick(t)
	c.spot(t)
	c.learn(t)
	places := c.follow(t, c.at(c.spots[0]), c.at(c.spots[1]), seven)
	if pages := len(places) - 4; pages > 20 { // 1 or 2, or more where a page's time ends it; tick by tick it would be 86,400
		t.Errorf("it took %d pages", pages)
	}
}

package pg

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// chronicle is a log whose history is known: what each transaction wrote, and where somebody could have been in it.
type chronicle struct {
	*pgtest.DB
	src   *Source
	era   change.Era
	txns  map[change.XID][]change.Change // in canonical order, as SQL without a filter gives them
	spots []spot                         // in the order of time
	ticks map[change.Stamp]*change.Tick
}

// spot is a moment, before which the last seq had been given out.
type spot struct {
	place
	last int64
}

func newChronicle(t testing.TB, db *pgtest.DB) *chronicle {
	c := &chronicle{DB: db, src: testSource(t, db), ticks: map[change.Stamp]*change.Tick{}}
	c.enter(t)
	return c
}

// enter begins an era.
func (c *chronicle) enter(t testing.TB) {
	t.Helper()
	var era int64
	if err := c.Pool(t).QueryRow(t.Context(), "select notifyql.enter()").Scan(&era); err != nil {
		t.Fatal(err)
	}
	c.era = change.Era(era)
}

func (c *chronicle) tick(t testing.TB) {
	t.Helper()
	c.Exec(t, "select notifyql.tick()")
}

// spot notes the present moment.
func (c *chronicle) spot(t testing.TB) {
	t.Helper()
	var text string
	if err := c.Pool(t).QueryRow(t.Context(), readPlace).Scan(&text); err != nil {
		t.Fatal(err)
	}
	p, err := parsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	s := spot{place: p}
	if err := c.Pool(t).QueryRow(t.Context(), "select last_value from notifyql.change_seq").Scan(&s.last); err != nil {
		t.Fatal(err)
	}
	c.spots = append(c.spots, s)
}

// at is the cursor of a moment.
func (c *chronicle) at(p spot) change.Cursor {
	return change.NewPosition(c.era, p.tick, p.done).Point().Cursor()
}

// learn reads what was written.
func (c *chronicle) learn(t testing.TB) {
	t.Helper()
	rows, err := c.Pool(t).Query(t.Context(), "select "+logColumns+", c.old, c.new from notifyql.change c order by c.xid, c.seq")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	c.txns = map[change.XID][]change.Change{}
	var row logRow
	for rows.Next() {
		if err := row.scan(rows); err != nil {
			t.Fatal(err)
		}
		c.txns[change.XID(row.xid)] = append(c.txns[change.XID(row.xid)], row.change())
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	for _, cs := range c.txns {
		change.Canonical(cs)
	}
}

func (c *chronicle) mark(x change.XID) (m change.Mark) {
	for i := range c.txns[x] {
		if l := &c.txns[x][i]; l.Seq > m.Seq {
			m = change.MarkOf(l)
		}
	}
	return m
}

// reader is whom a catch-up is for.
type reader struct {
	topic   change.Topic
	tenants []string
	limit   int
}

func (r *reader) wants(c *change.Change) bool {
	return c.Topic == r.topic && (c.Shared || c.Op == change.Truncate || slices.Contains(r.tenants, c.Tenant) || slices.Contains(r.tenants, c.OldTenant))
}

// holds reports which changes of a transaction a cursor is behind: so many of its canonical order.
func (c *chronicle) holds(t testing.TB, cur *change.Cursor, x change.XID) int {
	t.Helper()
	tick, upper := c.tickOf(t, cur.Tick), (*change.Tick)(nil)
	if cur.Upper.ID != 0 {
		upper = c.tickOf(t, cur.Upper)
	}
	if cur.Part.XID == x {
		return slices.IndexFunc(c.txns[x], func(l change.Change) bool { return l.Seq == cur.Part.Seq }) + 1
	}
	if cur.Delivered(c.mark(x), tick, upper) {
		return len(c.txns[x])
	}
	return 0
}

// tickOf reads a tick.
func (c *chronicle) tickOf(t testing.TB, s change.Stamp) *change.Tick {
	t.Helper()
	if c.ticks[s] == nil {
		rows, err := c.Pool(t).Query(t.Context(), "select id, bits, snapshot::text from notifyql.tick where id = $1", s.ID)
		if err == nil {
			c.ticks[s], err = scanTick(rows)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c.ticks[s]
}

// follow catches up and checks what comes. It returns the cursors behind each change, and behind each page.
func (c *chronicle) follow(t testing.TB, from, to change.Cursor, r *reader) (places []change.Cursor) {
	t.Helper()
	got := map[change.XID][]change.Change{}
	var order []change.XID
	var open change.XID // of which more may follow
	at := from
	for pages := 0; ; pages++ {
		parsed, err := change.ParseCursor(at.String())
		if err != nil {
			t.Fatal(err)
		}
		page, err := c.src.Since(t.Context(), parsed, to, r.topic, r.tenants, r.limit)
		if err != nil {
			t.Fatalf("from %+v to %+v, at %+v: %v", from, to, at, err)
		}
		n := 0
		for _, p := range page.Txns {
			x := p.Changes[0].XID
			if open != 0 && open != x {
				t.Errorf("%d comes inside of %d", x, open)
			}
			if len(got[x]) == 0 {
				order = append(order, x)
			} else if open != x {
				t.Errorf("%d comes in two pieces", x)
			}
			open = x
			if p.Whole {
				open = 0
			}
			got[x] = append(got[x], p.Changes...)
			n += len(p.Changes)
			for i := range p.Changes {
				places = append(places, p.Before.Behind(&p.Changes[i]))
			}
		}
		if n > r.limit+wholeRows {
			t.Errorf("%d changes in a page of %d", n, r.limit)
		}
		if sameCursor(&page.Next, &at) && !page.Arrived {
			t.Fatalf("no progress from %+v", at)
		}
		at = page.Next
		places = append(places, at)
		if page.Arrived {
			break
		}
		if pages > 10000 {
			t.Fatal("it does not end")
		}
	}
	if at.String() != to.String() {
		t.Errorf("it ends at %+v, not at %+v", at, to)
	}
	c.check(t, from, to, r, got, order)
	return places
}

// check holds what came against the log.
func (c *chronicle) check(t testing.TB, from, to change.Cursor, r *reader, got map[change.XID][]change.Change, order []change.XID) {
	t.Helper()
	for x, cs := range c.txns {
		var want []int64
		for _, l := range cs[c.holds(t, &from, x):max(c.holds(t, &from, x), c.holds(t, &to, x))] {
			if r.wants(&l) {
				want = append(want, l.Seq)
			}
		}
		var seqs []int64
		for i := range got[x] {
			seqs = append(seqs, got[x][i].Seq)
		}
		if !slices.Equal(seqs, want) {
			t.Errorf("from %+v to %+v: of %d came %v, want %v", from, to, x, seqs, want)
		}
		delete(got, x)
	}
	if len(got) > 0 {
		t.Errorf("there came what is not in the log: %v", got)
	}
	for i, b := range order {
		first := slices.MinFunc(c.txns[b], func(a, b change.Change) int { return int(a.Seq - b.Seq) }).Seq
		for _, a := range order[i+1:] {
			for k := range c.spots {
				if s := &c.spots[k]; s.snapshot.Sees(a) && first > s.last {
					t.Errorf("%d comes before %d, which had committed before it began", b, a)
				}
			}
		}
	}
}

// story writes random transactions from many connections, and ticks and notes moments meanwhile.
func story(t testing.TB, c *chronicle, seed uint64, writers, each int) {
	t.Helper()
	c.Exec(t, `
		create table ledger (id int primary key, tenant_id text not null, version int not null, fill text);
		create table notes (id int primary key, tenant_id text, n int);
		create function ripple() returns trigger language plpgsql as $$
		begin
		  if pg_trigger_depth() < 3 and new.id % 5 = 0 then
		    update ledger set version = version + 1 where id in (new.id, new.id + 1);
		  end if;
		  return null;
		end $$;
		create trigger a after insert on ledger for each row execute function ripple();
		select notifyql.watch('ledger');
		select notifyql.watch('notes');`)
	c.tick(t)
	c.spot(t)
	var wg sync.WaitGroup
	for i := range writers {
		conn, err := pgx.Connect(t.Context(), c.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "set deadlock_timeout = '10ms'"); err != nil {
			t.Fatal(err)
		}
		w := &writer{Rand: rand.New(rand.NewPCG(seed, uint64(i))), conn: conn, ids: 30}
		wg.Go(func() {
			defer conn.Close(context.Background())
			for range each {
				if err := w.transaction(t.Context()); err != nil && !retry(err) {
					t.Errorf("a writer failed: %v", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	rnd := rand.New(rand.NewPCG(seed, 99))
	long := c.Conn(t, "postgres")
	var tx pgx.Tx
	for i := 0; ; i++ {
		select {
		case <-done:
			if tx != nil {
				_ = tx.Commit(t.Context())
			}
			c.tick(t)
			c.spot(t)
			c.learn(t)
			return
		default:
		}
		var err error
		if rnd.IntN(3) > 0 {
			c.spot(t)
		}
		switch rnd.IntN(4) {
		case 0:
			c.tick(t)
		case 1:
			c.Exec(t, "select notifyql.publish('news', '{}', tenant => $1)", []string{"a", "b"}[rnd.IntN(2)])
			if rnd.IntN(20) == 0 {
				c.Exec(t, "insert into notes select 10000 * $1 + i, case i % 3 when 0 then 'a' when 1 then 'b' end, 1 from generate_series(1, 1500) i", i)
			}
		case 2:
			if tx == nil {
				tx, err = long.Begin(t.Context())
			} else {
				_, err = tx.Exec(t.Context(), "insert into notes values ($1, 'a', 0)", -i)
			}
		case 3:
			if tx != nil && rnd.IntN(6) == 0 {
				err, tx = tx.Commit(t.Context()), nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// topics are what was watched, and the channel.
func (c *chronicle) topics(t testing.TB) []change.Topic {
	t.Helper()
	rows, err := c.Pool(t).Query(t.Context(), "select id from notifyql.watch order by id")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		t.Fatal(err)
	}
	topics := []change.Topic{{Channel: "news"}}
	for _, id := range ids {
		topics = append(topics, change.Topic{Watch: change.WatchID(id)})
	}
	return topics
}

// Whoever leaves anywhere and comes back gets what he has not got, once and in order.
func TestSince(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.NewOn(t, pgtest.Server(t, localpg.Options{})))
	story(t, c, 1, 4, 120)
	topics := c.topics(t)
	rnd := rand.New(rand.NewPCG(5, 5))
	t.Logf("%d transactions, %d moments", len(c.txns), len(c.spots))
	moments := slices.Clone(c.spots)
	for range 20 {
		i := rnd.IntN(len(moments))
		j := i + rnd.IntN(len(moments)-i)
		from, to := c.at(moments[i]), c.at(moments[j])
		r := &reader{
			topic: topics[rnd.IntN(len(topics))], tenants: [][]string{{"a"}, {"b"}, {"a", "b"}, {"x"}, nil}[rnd.IntN(5)],
			limit: []int{7, 50, 1000}[rnd.IntN(3)],
		}
		places := c.follow(t, from, to, r)
		for range 2 {
			c.follow(t, places[rnd.IntN(len(places))], to, r)
		}
		if t.Failed() {
			t.Fatalf("%+v", r)
		}
	}
}

package pg

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
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

	topics []change.Topic // of the watched tables, and a channel
	ledger change.Topic
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

// mark is that of a transaction.
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
	topics  []change.Topic
	tenants []string
	limit   int
}

func (r *reader) wants(c *change.Change) bool {
	return slices.Contains(r.topics, c.Topic) && (c.Shared || c.Op == change.Truncate || slices.Contains(r.tenants, c.Tenant) || slices.Contains(r.tenants, c.OldTenant))
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
		page, err := c.src.Since(t.Context(), parsed, to, r.topics, r.tenants, r.limit)
		if err != nil {
			t.Fatalf("from %+v to %+v, at %+v: %v", from, to, at, err)
		}
		n := 0
		for _, p := range page.Txns {
			x := p.Changes[0].XID
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
		if n > min(r.limit, maxPage)+wholeRows {
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
	}
	versions := map[int]int{}
	for i, b := range order {
		if c.txns[b] == nil {
			t.Fatalf("%d came, which is not in the log", b)
		}
		c.checkVersions(t, versions, got[b])
		first := slices.MinFunc(c.txns[b], func(a, b change.Change) int { return int(a.Seq - b.Seq) }).Seq
		later := slices.IndexFunc(c.spots, func(s spot) bool { return s.last >= first })
		if later < 0 {
			later = len(c.spots)
		}
		for _, a := range order[i+1:] {
			if later > 0 && c.spots[later-1].snapshot.Sees(a) {
				t.Errorf("%d comes before %d, which had committed before it began", b, a)
			}
		}
	}
}

// checkVersions looks whether each change of the ledger replaces the version of its row that came last.
func (c *chronicle) checkVersions(t testing.TB, last map[int]int, cs []change.Change) {
	t.Helper()
	for i := range cs {
		if cs[i].Topic != c.ledger {
			continue
		}
		var old, now ledgerRow
		if json.Unmarshal(cs[i].Old, &old) == nil {
			if version, known := last[old.ID]; known && version != old.Version {
				t.Errorf("version %d of row %d is replaced, and version %d came last", old.Version, old.ID, version)
			}
			last[old.ID] = 0 // gone
		}
		if json.Unmarshal(cs[i].New, &now) == nil {
			last[now.ID] = now.Version
		}
	}
}

package pg

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// traveller makes up places in a history where somebody could be.
type traveller struct {
	*rand.Rand
	c    *chronicle
	xids []change.XID
}

func newTraveller(c *chronicle, seed uint64) *traveller {
	tr := &traveller{Rand: rand.New(rand.NewPCG(seed, 5)), c: c}
	for x := range c.txns {
		tr.xids = append(tr.xids, x)
	}
	slices.Sort(tr.xids)
	return tr
}

// reader is some reader.
func (tr *traveller) reader() *reader {
	topics := slices.Clone(tr.c.topics)
	tr.Shuffle(len(topics), func(i, j int) { topics[i], topics[j] = topics[j], topics[i] })
	return &reader{
		topics:  topics[:1+tr.IntN(2)*tr.IntN(len(topics))],
		tenants: [][]string{{"a"}, {"b"}, {"a", "b"}, {"x"}, nil}[tr.IntN(5)],
		limit:   []int{7, 50, 1000, math.MaxInt}[tr.IntN(4)],
	}
}

// sent moves a cursor behind some of what a later moment has seen, in the order of their last seq, as a node would send them. It
// returns the first one that was not.
func (tr *traveller) sent(t testing.TB, c change.Cursor, seen change.Snapshot, most int) (change.Cursor, change.XID) {
	var lacking []change.XID
	for _, x := range tr.xids {
		if seen.Sees(x) && tr.c.holds(t, &c, x) == 0 {
			lacking = append(lacking, x)
		}
	}
	slices.SortFunc(lacking, func(a, b change.XID) int { return cmp.Compare(tr.c.mark(a).Seq, tr.c.mark(b).Seq) })
	n := min(tr.IntN(most+1), len(lacking))
	for _, x := range lacking[:n] {
		c = c.Past(tr.c.mark(x))
	}
	if n == len(lacking) {
		return c, 0
	}
	return c, lacking[n]
}

// journey is from some place to a later one.
func (tr *traveller) journey(t testing.TB) (from, to change.Cursor) {
	var at [4]int // moments
	for i := range at {
		at[i] = tr.IntN(len(tr.c.spots))
	}
	slices.Sort(at[:])
	spots := tr.c.spots
	to, open := tr.sent(t, tr.c.at(spots[at[2]]), spots[at[3]].snapshot, 8)
	if open != 0 && tr.IntN(2) == 0 {
		to = to.In(change.PartOf(&tr.c.txns[open][tr.IntN(len(tr.c.txns[open]))]))
	}
	if to.Part.XID != 0 && tr.IntN(2) == 0 { // the client is where the node is, but for what follows in that transaction
		from = tr.c.at(spots[at[0]])
		for _, x := range tr.xids {
			if tr.c.holds(t, &to, x) > 0 && x != open && tr.c.holds(t, &from, x) == 0 {
				from = from.Past(tr.c.mark(x))
			}
		}
		return from.In(change.PartOf(&tr.c.txns[open][tr.IntN(tr.c.holds(t, &to, open))])), to
	}
	from, begun := tr.sent(t, tr.c.at(spots[at[0]]), spots[at[1]].snapshot, 8)
	if begun != 0 && tr.IntN(3) > 0 {
		from = from.In(change.PartOf(&tr.c.txns[begun][tr.IntN(len(tr.c.txns[begun]))]))
	}
	return from, to
}

// Whoever leaves anywhere and comes back gets what he has not got, once and in order.
func TestSince(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	story(t, c, 1, 4, 120)
	tr := newTraveller(c, 1)
	t.Logf("%d transactions, %d moments", len(c.txns), len(c.spots))
	for range 20 {
		from, to := tr.journey(t)
		r := tr.reader()
		if tr.IntN(3) == 0 {
			c.src.history = newHistory(c.src.pool, 4) // nothing is known yet
			c.src.history.lookRows = int64(30 + tr.IntN(3)*tr.IntN(500))
			c.src.history.listMost = 40 + tr.IntN(2)*1000
		}
		places := c.follow(t, from, to, r)
		for range 2 {
			c.follow(t, places[tr.IntN(len(places))], to, r)
		}
		if t.Failed() {
			t.Fatalf("%+v", r)
		}
	}
}

// The same through a transaction pooler, as a login that may run the server and nothing else.
func TestSinceThroughPooler(t *testing.T) {
	t.Parallel()
	c := newChronicle(t, pgtest.New(t))
	story(t, c, 2, 2, 40)
	url := serverLogin(t, c.DB)
	src, err := New(Config{DatabaseURL: url, PoolURL: through(t, url, pgtest.Pooler(t, url, 3))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	c.src = src
	tr := newTraveller(c, 2)
	for range 10 {
		from, to := tr.journey(t)
		c.follow(t, from, to, tr.reader())
	}
}

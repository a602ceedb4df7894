package nemesis

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// made is a history and what a perfect product made of it. Each change's transaction commits a second after the one before.
type made struct {
	truth   Truth
	sub     Subscription
	rnd     *rand.Rand
	rows    map[int64]*Row
	clock   time.Time
	stamp   int64
	empties bool // some transactions TRUNCATE
	// of the subscriber
	begun bool
}

// history makes a random one: three tenants, a filter, rows that move between tenants and into the set and out of it, an expiry.
func history(seed uint64) *made {
	m := unlived(seed)
	m.live()
	return m
}

// unlived is one in which nothing has happened yet.
func unlived(seed uint64) *made {
	return &made{
		truth: Truth{Txns: map[uint64]Txn{}, Rows: map[string][]Row{}}, rnd: rand.New(rand.NewPCG(seed, 7)), rows: map[int64]*Row{}, clock: noon,
		sub: Subscription{Name: "s", Table: "t", Tenant: "a", Filter: Filter{Below: 60}},
	}
}

// live lets the history happen.
func (m *made) live() {
	xid := uint64(100)
	for range 20 {
		m.transaction(xid)
		xid++
	}
	m.begin()
	for i := range 300 {
		m.transaction(xid)
		xid++
		if i == 150 {
			m.note(Note{Kind: Expired, Cause: Retention})
			m.begun = false
			m.transaction(xid)
			xid++
			m.begin()
		}
	}
	for _, r := range m.rows {
		m.truth.Rows["t"] = append(m.truth.Rows["t"], *r)
	}
}

func (m *made) note(n Note) {
	n.At = m.clock.Add(100 * time.Millisecond)
	m.sub.Notes = append(m.sub.Notes, n)
}

func (m *made) begin() {
	m.begun = true
	m.note(Note{Kind: Begun})
	if m.sub.Channel {
		return
	}
	for _, r := range m.rows {
		if m.sub.match(r) {
			m.note(Note{Kind: Initial, New: r})
		}
	}
	m.note(Note{Kind: Synced})
}

// transaction commits up to five changes.
func (m *made) transaction(xid uint64) {
	m.clock = m.clock.Add(time.Second)
	m.truth.Txns[xid] = Txn{Before: Snapshot{Xmax: xid}, Committed: m.clock}
	for i := range 1 + m.rnd.IntN(5) {
		if m.sub.Channel {
			m.publish(xid)
			continue
		}
		if m.empties && i == 1 && m.rnd.IntN(25) == 0 {
			m.truncate(xid)
		}
		id := m.rnd.Int64N(40)
		old := m.rows[id]
		m.stamp += 2
		next := &Row{ID: id, Version: 1, Stamp: m.stamp, Tenant: []string{"a", "b", "c"}[m.rnd.IntN(3)], N: m.rnd.IntN(100), Group: "g"}
		switch {
		case old == nil:
			next.Version = 1000 * m.stamp // a new row, of an id that was used before
		case m.rnd.IntN(6) == 0:
			next = nil
		default:
			next.Version = old.Version + 1
			if m.rnd.IntN(4) > 0 {
				next.Tenant = old.Tenant
			}
		}
		m.write(xid, old, next)
	}
}

func (m *made) write(xid uint64, old, next *Row) {
	m.truth.Written = append(m.truth.Written, Written{Table: "t", XID: xid, Seq: int64(len(m.truth.Written)), Old: old, New: next})
	if next != nil {
		m.rows[next.ID] = next
	} else {
		delete(m.rows, old.ID)
	}
	n := Note{XID: xid}
	switch was, is := m.sub.match(old), m.sub.match(next); {
	case was && is:
		n.Kind, n.Old, n.New = Update, old, next
	case is:
		n.Kind, n.New = Insert, next
	case was:
		n.Kind, n.Old = Delete, old
	default:
		return
	}
	if m.begun {
		m.note(n)
	}
}

func (m *made) check() []Violation { return Check(&m.truth, []*Subscription{&m.sub}) }

func TestCheckIsSilent(t *testing.T) {
	t.Parallel()
	findsNothing(t, history)
}

// findsNothing expects that nothing is found where there is nothing to be found.
func findsNothing(t *testing.T, history func(seed uint64) *made) {
	t.Helper()
	for seed := range uint64(200) {
		m := history(seed)
		if seed%2 == 0 {
			m.batched()
		}
		if vs := m.check(); len(vs) > 0 {
			t.Fatalf("seed %d: %v", seed, vs)
		}
	}
}

// pick is a random note's index of those that fit, or -1.
func (m *made) pick(fits func(i int, n *Note) bool) int {
	var is []int
	for i := range m.sub.Notes {
		if fits(i, &m.sub.Notes[i]) {
			is = append(is, i)
		}
	}
	if len(is) == 0 {
		return -1
	}
	return is[m.rnd.IntN(len(is))]
}

func isChange(_ int, n *Note) bool {
	return n.Kind == Insert || n.Kind == Update || n.Kind == Delete || n.Kind == Truncate || n.Kind == Event
}

func expired(n Note) bool { return n.Kind == Expired }

func (m *made) after(i int, n Note) {
	n.At = m.sub.Notes[i].At
	m.sub.Notes = slices.Insert(m.sub.Notes, i+1, n)
}

func (m *made) drop(i int) { m.sub.Notes = slices.Delete(m.sub.Notes, i, i+1) }

// swap changes what came at two times.
func (m *made) swap(i, k int) {
	a, b := &m.sub.Notes[i], &m.sub.Notes[k]
	a.At, b.At = b.At, a.At
	*a, *b = *b, *a
}

// batched makes batches of it: of each transaction two, if it has more than two changes.
func (m *made) batched() {
	for i := range m.sub.Notes {
		n := &m.sub.Notes[i]
		if !isChange(i, n) {
			continue
		}
		left := slices.IndexFunc(m.sub.Notes[i:], func(o Note) bool { return o.XID != n.XID })
		n.Complete = left >= 0 && left <= 2 || left < 0 && len(m.sub.Notes)-i <= 2
		n.Batch = int(n.XID)*2 + btoi(n.Complete)
	}
}

// later is where the row that the change i is of changes next, in the same segment and another transaction; 0: nowhere.
func (m *made) later(i int) int {
	n := &m.sub.Notes[i]
	for k := i + 1; k < len(m.sub.Notes) && isChange(k, &m.sub.Notes[k]); k++ {
		o := &m.sub.Notes[k]
		if keyOf(o.Old, o.New).id == keyOf(n.Old, n.New).id {
			return k
		}
	}
	return 0
}

func (m *made) changes(from, to int) bool {
	for i := from; i < to; i++ {
		if !isChange(i, &m.sub.Notes[i]) {
			return false
		}
	}
	return true
}

// What the database itself has lost may have been seen, if the subscriber is told so.
func TestCheckAllowsWhatWasWithdrawn(t *testing.T) {
	t.Parallel()
	m := history(1)
	i := slices.IndexFunc(m.sub.Notes, func(n Note) bool { return n.Kind == Expired })
	m.truth.Lost = []time.Time{m.sub.Notes[i].At.Add(-time.Millisecond)}
	m.sub.Notes[i].Cause = LostTail
	m.after(i-2, Note{Kind: Insert, New: &Row{ID: 77, Version: 1, Stamp: 1e9, Tenant: "a"}, XID: 110})
	if vs := m.check(); len(vs) > 0 {
		t.Errorf("%v", vs)
	}
}

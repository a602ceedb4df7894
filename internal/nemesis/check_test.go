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

// mistake is one that a product could make, put into what a subscriber received.
type mistake struct {
	rules []Rule             // any of which may find it
	spoil func(m *made) bool // reports whether there was a place for it
}

var seeded = map[string]mistake{
	"a change is dropped": {[]Rule{Lost}, func(m *made) bool {
		// The last before an expiry it need not have got.
		i := m.pick(func(i int, n *Note) bool {
			return isChange(i, n) && !slices.ContainsFunc(m.sub.Notes[i:min(i+8, len(m.sub.Notes))], expired)
		})
		m.sub.Notes = slices.Delete(m.sub.Notes, i, i+1)
		return true
	}},
	"the last change is dropped": {[]Rule{Lost, SetDiffers}, func(m *made) bool {
		m.sub.Notes = m.sub.Notes[:len(m.sub.Notes)-1]
		return true
	}},
	"a change comes twice": {[]Rule{Repeated}, func(m *made) bool {
		i := m.pick(isChange)
		m.after(i, m.sub.Notes[i])
		return true
	}},
	"a change comes again much later": {[]Rule{Repeated}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool { return isChange(i, n) && i > len(m.sub.Notes)*3/4 })
		m.sub.Notes = append(m.sub.Notes, m.sub.Notes[i])
		return true
	}},
	"versions are swapped": {[]Rule{Order, Lost}, func(m *made) bool {
		next := 0
		i := m.pick(func(i int, n *Note) bool {
			return isChange(i, n) && m.later(i) > 0
		})
		if i < 0 {
			return false
		}
		next = m.later(i)
		m.sub.Notes[i], m.sub.Notes[next] = m.sub.Notes[next], m.sub.Notes[i]
		return true
	}},
	"another tenant's row": {[]Rule{Foreign}, func(m *made) bool {
		for _, w := range m.truth.Written {
			if w.New != nil && w.New.Tenant == "b" && w.Old == nil {
				m.after(m.pick(isChange), Note{Kind: Insert, New: w.New, XID: w.XID})
				return true
			}
		}
		return false
	}},
	"another tenant's row among those that stand": {[]Rule{Foreign}, func(m *made) bool {
		for _, w := range m.truth.Written {
			if w.New != nil && w.New.Tenant == "c" {
				m.after(0, Note{Kind: Initial, New: w.New})
				return true
			}
		}
		return false
	}},
	"the filter is forgotten": {[]Rule{OutOfSet}, func(m *made) bool {
		for _, w := range m.truth.Written {
			if w.New != nil && w.New.Tenant == "a" && w.New.N >= 60 {
				m.after(m.pick(isChange), Note{Kind: Insert, New: w.New, XID: w.XID})
				return true
			}
		}
		return false
	}},
	"a row that leaves the set comes as an update": {[]Rule{OutOfSet}, func(m *made) bool {
		i := m.pick(func(_ int, n *Note) bool { return n.Kind == Delete })
		m.sub.Notes[i].Kind = Update
		return true
	}},
	"a value is another": {[]Rule{OutOfSet}, func(m *made) bool {
		i := m.pick(func(_ int, n *Note) bool { return n.Kind == Update })
		r := *m.sub.Notes[i].New
		r.N = (r.N + 1) % 60
		m.sub.Notes[i].New = &r
		return true
	}},
	"a change comes before its commit": {[]Rule{Early}, func(m *made) bool {
		i := m.pick(isChange)
		m.sub.Notes[i].At = m.sub.Notes[i].At.Add(-time.Second)
		return true
	}},
	"a row that was rolled back": {[]Rule{RolledBack}, func(m *made) bool {
		m.after(m.pick(isChange), Note{Kind: Insert, New: &Row{ID: 77, Version: 1, Stamp: 1e9 + 1, Tenant: "a"}, XID: 110})
		return true
	}},
	"a row that never was": {[]Rule{Phantom}, func(m *made) bool {
		m.after(m.pick(isChange), Note{Kind: Insert, New: &Row{ID: 77, Version: 1, Stamp: 1e9, Tenant: "a"}, XID: 110})
		return true
	}},
	"a delete that never was": {[]Rule{Phantom}, func(m *made) bool {
		i := m.pick(func(_ int, n *Note) bool { return n.Kind == Insert })
		m.after(i, Note{Kind: Delete, Old: m.sub.Notes[i].New, XID: 9999})
		return true
	}},
	"a phantom is kept": {[]Rule{Phantom}, func(m *made) bool {
		m.truth.Lost = []time.Time{m.clock.Add(time.Second)}
		m.after(len(m.sub.Notes)-1, Note{Kind: Insert, New: &Row{ID: 77, Version: 1, Stamp: 1e9, Tenant: "a"}, XID: 110})
		return true
	}},
	"an expiry without a cause": {[]Rule{NoCause}, func(m *made) bool {
		m.sub.Notes[m.pick(func(_ int, n *Note) bool { return n.Kind == Expired })].Cause = Unknown
		return true
	}},
	"an expiry by a loss that there was not": {[]Rule{NoCause}, func(m *made) bool {
		m.sub.Notes[m.pick(func(_ int, n *Note) bool { return n.Kind == Expired })].Cause = LostTail
		return true
	}},
	"what came at the seam is left out": {[]Rule{Lost}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool { return isChange(i, n) && i+8 < len(m.sub.Notes) && m.changes(i, i+5) })
		m.sub.Notes = slices.Delete(m.sub.Notes, i, i+5)
		return true
	}},
	"what came before the seam comes again": {[]Rule{Repeated}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool { return isChange(i, n) && i+8 < len(m.sub.Notes) && m.changes(i, i+5) })
		m.sub.Notes = slices.Insert(m.sub.Notes, i+5, slices.Clone(m.sub.Notes[i:i+5])...)
		return true
	}},
	"a transaction is split": {[]Rule{Split}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool {
			return isChange(i, n) && i+2 < len(m.sub.Notes) && m.changes(i, i+3) && m.sub.Notes[i+1].XID == n.XID && m.sub.Notes[i+2].XID != n.XID &&
				keyOf(m.sub.Notes[i+1].Old, m.sub.Notes[i+1].New).id != keyOf(m.sub.Notes[i+2].Old, m.sub.Notes[i+2].New).id
		})
		if i < 0 {
			return false
		}
		m.sub.Notes[i+1], m.sub.Notes[i+2] = m.sub.Notes[i+2], m.sub.Notes[i+1]
		return true
	}},
	"a transaction comes before one that it had seen": {[]Rule{Before}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool {
			return isChange(i, n) && i > 0 && i+2 < len(m.sub.Notes) && m.changes(i-1, i+3) && m.sub.Notes[i-1].XID != n.XID &&
				m.sub.Notes[i+1].XID > n.XID && m.sub.Notes[i+2].XID > m.sub.Notes[i+1].XID &&
				keyOf(m.sub.Notes[i+1].Old, m.sub.Notes[i+1].New).id != keyOf(n.Old, n.New).id
		})
		if i < 0 {
			return false
		}
		m.sub.Notes[i], m.sub.Notes[i+1] = m.sub.Notes[i+1], m.sub.Notes[i]
		return true
	}},
	"a batch is not the last, and none follows": {[]Rule{Parts}, func(m *made) bool {
		m.batched()
		i := m.pick(func(i int, n *Note) bool {
			return isChange(i, n) && i+1 < len(m.sub.Notes) && m.changes(i, i+2) && m.sub.Notes[i+1].XID != n.XID
		})
		for x := m.sub.Notes[i].XID; m.sub.Notes[i].XID == x; i-- {
			m.sub.Notes[i].Complete = false
		}
		return true
	}},
	"rows of two moments stand": {[]Rule{Lost, Repeated, Order, SetDiffers}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool { return n.Kind == Initial && i > 60 })
		if i < 0 {
			return false
		}
		for _, w := range m.truth.Written {
			if w.Old != nil && w.Old.Stamp == m.sub.Notes[i].New.Stamp && m.sub.match(w.New) {
				m.sub.Notes[i].New = w.New
				return true
			}
		}
		return false
	}},
	"a row is missing among those that stand": {[]Rule{Lost, SetDiffers}, func(m *made) bool {
		i := m.pick(func(i int, n *Note) bool { return n.Kind == Initial && i > 60 })
		if i < 0 {
			return false
		}
		m.sub.Notes = slices.Delete(m.sub.Notes, i, i+1)
		return true
	}},
	"a row that is gone still stands": {[]Rule{SetDiffers, Lost, Repeated, Order}, func(m *made) bool {
		last := m.pick(func(i int, n *Note) bool { return n.Kind == Begun && i > 0 })
		for _, w := range slices.Backward(m.truth.Written) {
			if w.New == nil && m.sub.match(w.Old) && m.truth.Txns[w.XID].Committed.Before(m.sub.Notes[last].At) {
				m.after(last, Note{Kind: Initial, New: w.Old})
				return true
			}
		}
		return false
	}},
	"it begins anew and does not say why": {[]Rule{Unfinished}, func(m *made) bool {
		i := m.pick(func(_ int, n *Note) bool { return n.Kind == Expired })
		m.sub.Notes = slices.Delete(m.sub.Notes, i, i+1)
		return true
	}},
	"it never gets all rows": {[]Rule{Unfinished}, func(m *made) bool {
		m.sub.Notes = slices.DeleteFunc(m.sub.Notes, func(n Note) bool { return n.Kind == Synced })
		return true
	}},
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

func TestCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	finds(t, history, seeded)
}

// finds puts each mistake into many histories.
func finds(t *testing.T, history func(seed uint64) *made, mistakes map[string]mistake) {
	t.Helper()
	for name, bug := range mistakes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			places := 0
			for seed := range uint64(50) {
				m := history(seed)
				if !bug.spoil(m) {
					continue
				}
				places++
				vs := m.check()
				if !slices.ContainsFunc(vs, func(v Violation) bool { return slices.Contains(bug.rules, v.Rule) }) {
					t.Fatalf("seed %d: not found; what was found: %v", seed, vs)
				}
			}
			if places < 10 {
				t.Errorf("there was a place for it in %d histories only", places)
			}
		})
	}
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

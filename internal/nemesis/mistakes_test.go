package nemesis

import (
	"slices"
	"testing"
	"time"
)

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
	"a change whose commit was lost, and came again, is kept": {[]Rule{Phantom}, func(m *made) bool {
		n := &m.sub.Notes[m.pick(func(i int, n *Note) bool {
			return isChange(i, n) && !slices.ContainsFunc(m.sub.Notes[i:], func(n Note) bool { return n.Kind == Expired })
		})]
		n.At = n.At.Add(-time.Second)
		m.truth.Lost = []time.Time{n.At.Add(time.Millisecond)}
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

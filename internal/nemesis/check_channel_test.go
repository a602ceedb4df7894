package nemesis

import "testing"

// publish publishes an event of one of ten publishers, on the channel that is subscribed to.
func (m *made) publish(xid uint64) {
	id := m.rnd.Int64N(10)
	m.stamp += 2
	r := &Row{ID: id, Version: 1, Stamp: m.stamp, Tenant: []string{"a", "b"}[m.rnd.IntN(2)], Group: "g"}
	if was := m.rows[id]; was != nil {
		r.Version = was.Version + 1
	}
	m.rows[id] = r
	m.truth.Written = append(m.truth.Written, Written{Table: "news", XID: xid, Seq: int64(len(m.truth.Written)), New: r})
	if m.begun && m.sub.match(r) {
		m.note(Note{Kind: Event, New: r, XID: xid})
	}
}

// published is a history of a channel.
func published(seed uint64) *made {
	m := unlived(seed)
	m.sub = Subscription{Name: "s", Table: "news", Channel: true, Tenant: "a"}
	m.live()
	return m
}

func TestCheckOfChannelsIsSilent(t *testing.T) {
	t.Parallel()
	findsNothing(t, published)
}

// second reports whether it is the second thing that came.
func (m *made) second(i int) bool { return i > 1 && m.sub.Notes[i-2].Kind == Begun }

func TestCheckFindsMistakesOfChannels(t *testing.T) {
	t.Parallel()
	finds(t, published, map[string]mistake{
		"an event is dropped": {[]Rule{Lost}, func(m *made) bool {
			// One that was due: behind the first, and not the last before an expiry.
			i := m.pick(func(i int, n *Note) bool {
				return n.Kind == Event && i+10 < len(m.sub.Notes) && m.changes(i-1, i+10)
			})
			m.drop(i)
			return true
		}},
		"the first events of a publisher are dropped": {[]Rule{Lost}, func(m *made) bool {
			from := m.pick(func(i int, n *Note) bool { return n.Kind == Event && m.second(i) && m.sub.Notes[i+1].XID != n.XID }) + 1
			if from == 0 {
				return false
			}
			id := m.sub.Notes[from].New.ID
			for i := from; i < len(m.sub.Notes) && isChange(i, &m.sub.Notes[i]); i++ {
				if m.sub.Notes[i].New.ID == id {
					m.drop(i)
					return true
				}
			}
			return false
		}},
		"the last event is dropped": {[]Rule{Lost}, func(m *made) bool {
			m.drop(len(m.sub.Notes) - 1)
			return true
		}},
		"an event comes twice": {[]Rule{Repeated}, func(m *made) bool {
			i := m.pick(isChange)
			m.after(i, m.sub.Notes[i])
			return true
		}},
		"a publisher's events are swapped": {[]Rule{Order, Lost}, func(m *made) bool {
			i := m.pick(func(i int, n *Note) bool { return isChange(i, n) && m.later(i) > 0 })
			if i < 0 {
				return false
			}
			m.swap(i, m.later(i))
			return true
		}},
		"another tenant's event": {[]Rule{Foreign}, func(m *made) bool {
			for _, w := range m.truth.Written {
				if w.New.Tenant == "b" {
					m.after(m.pick(isChange), Note{Kind: Event, New: w.New, XID: w.XID})
					return true
				}
			}
			return false
		}},
		"an event that was rolled back": {[]Rule{RolledBack}, func(m *made) bool {
			m.after(m.pick(isChange), Note{Kind: Event, New: &Row{ID: 3, Version: 7, Stamp: 1e9 + 1, Tenant: "a"}, XID: 110})
			return true
		}},
		"an event comes before its commit": {[]Rule{Early}, func(m *made) bool {
			i := m.pick(isChange)
			m.sub.Notes[i].At = m.truth.Txns[m.sub.Notes[i].XID].Committed.Add(-1)
			return true
		}},
	})
}

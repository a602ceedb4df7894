package nemesis

import "testing"

// truncate empties the table.
func (m *made) truncate(xid uint64) {
	m.truth.Written = append(m.truth.Written, Written{Table: "t", XID: xid, Seq: int64(len(m.truth.Written))})
	clear(m.rows)
	if m.begun {
		m.note(Note{Kind: Truncate, XID: xid})
	}
}

// emptying is a history in which the table is emptied now and then.
func emptying(seed uint64) *made {
	m := unlived(seed)
	m.empties = true
	m.live()
	return m
}

func TestCheckOfTruncateIsSilent(t *testing.T) {
	t.Parallel()
	findsNothing(t, emptying)
}

func isTruncate(_ int, n *Note) bool { return n.Kind == Truncate }

func TestCheckFindsMistakesAtTruncate(t *testing.T) {
	t.Parallel()
	finds(t, emptying, map[string]mistake{
		"a TRUNCATE is dropped": {[]Rule{Lost}, func(m *made) bool {
			i := m.pick(isTruncate)
			if i < 0 {
				return false
			}
			m.drop(i)
			return true
		}},
		"a TRUNCATE comes twice": {[]Rule{Repeated}, func(m *made) bool {
			i := m.pick(isTruncate)
			if i < 0 {
				return false
			}
			m.after(i, m.sub.Notes[i])
			return true
		}},
		"a TRUNCATE comes before a change that it undoes": {[]Rule{Lost, Order, Before, Split}, func(m *made) bool {
			i := m.pick(func(i int, n *Note) bool {
				return n.Kind == Truncate && isChange(i-1, &m.sub.Notes[i-1]) && m.sub.Notes[i-1].New != nil
			})
			if i < 0 {
				return false
			}
			m.swap(i-1, i)
			return true
		}},
		"a TRUNCATE comes behind what was written after it": {[]Rule{Order, Lost}, func(m *made) bool {
			i := m.pick(func(i int, n *Note) bool {
				return n.Kind == Truncate && i+1 < len(m.sub.Notes) && m.sub.Notes[i+1].Kind == Insert
			})
			if i < 0 {
				return false
			}
			m.swap(i, i+1)
			return true
		}},
		"a TRUNCATE that was rolled back": {[]Rule{Phantom}, func(m *made) bool {
			m.after(m.pick(isChange), Note{Kind: Truncate, XID: 9999})
			return true
		}},
	})
}

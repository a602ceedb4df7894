package feed

import "github.com/notifyql/notifyql/internal/change"

// relay takes what another node has dispatched, as if it were notified or swept here.
func (m *Machine) relay(n *Notice) {
	switch {
	case n.Folded != nil:
		m.fold(*n.Folded)
	case n.Txn.Whole:
		m.sweptTxn(*n.Txn)
	default:
		m.relayedPart(*n.Txn)
	}
}

// relayedPart dispatches what is new of a part of a transaction of which more may come.
func (m *Machine) relayedPart(t change.Txn) {
	if m.f.Contains(t.XID) {
		m.stats.Duplicates += uint64(len(t.Changes))
		return
	}
	open, seq := m.f.Open()
	t.Continued = open == t.XID
	if t.Continued {
		t = behind(t, seq)
	}
	if len(t.Changes) == 0 {
		return
	}
	m.f.Receive(t.XID, t.LastSeq())
	m.dispatch(t, false)
}

// fold moves the frontier and the place behind all that a snapshot sees, which is dispatched. Where nodes fold after one another and
// sweep besides, one snapshot can be older than what the frontier was folded to before: that is left as it is.
func (m *Machine) fold(to Folded) {
	if !to.Snapshot.Covers(m.f.Snapshot) {
		return
	}
	m.f.Fold(to.Snapshot)
	if m.pos != nil {
		m.pos.Swept(to.Snapshot, to.Tick)
	}
}

// Folded is how far the machine is: what its frontier was folded to. Like Step, it is the owner's to call.
func (m *Machine) Folded() Folded {
	to := Folded{Snapshot: m.f.Snapshot}
	if m.pos != nil {
		t := m.pos.Newest()
		to.Tick = &t
	}
	return to
}

package feed

import (
	"cmp"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// begin asks for a sweep from where the frontier is.
func (m *Machine) begin(now time.Time, s sweep) {
	m.sweeps++
	s.id, s.lastSeq, s.began = m.sweeps, m.lastSeq, now
	s.open, _ = m.f.Open()
	s.ticket, s.tick, m.ticked = m.joining, m.ticked, false
	m.sweep = s
	m.stats.Sweeps++
	m.acts = append(m.acts, Sweep{ID: s.id, From: m.f.Clone(), Era: m.era, Wait: s.wait, Abandon: m.torn})
}

// swept dispatches what the sweep found and the frontier has not got by now, and with its last part folds the frontier.
func (m *Machine) swept(now time.Time, in Swept) {
	if in.ID == 0 || in.ID != m.sweep.id {
		return
	}
	m.sweep.finds = m.sweep.finds || len(in.Txns) > 0
	if open, _ := m.f.Open(); open != 0 && slices.Contains(in.Torn, open) {
		m.torn, m.sweep.void = true, true
		m.owe()
	}
	if in.More {
		m.long()
	}
	if !m.sweep.void {
		for _, t := range m.ordered(in.Txns) {
			m.sweptTxn(t)
		}
	}
	if in.More {
		return
	}
	s := m.sweep
	m.sweep = sweep{}
	m.pace(s.finds, now.Sub(s.began)-s.wait)
	if s.void {
		return
	}
	m.fold(Folded{in.Snapshot, in.Tick})
	m.sweptSeq, m.sweptAt = s.lastSeq, s.began
	held := m.release()
	for i := range held {
		delete(s.found, held[i].Change.XID)
	}
	m.await(now, s.found)
	m.receive(held)
	if s.ticket > m.joined {
		m.joined = s.ticket
		m.acts = append(m.acts, Joined{Ticket: s.ticket, At: m.Place()})
	}
}

// Place is the place behind all that was dispatched; nil where there are no places. Like Step, it is the owner's to call.
func (m *Machine) Place() *change.Point {
	if m.pos == nil {
		return nil
	}
	return m.pos.Point()
}

// long makes a sweep that nothing waits for, but that has more to tell than fits into one answer, a barrier: between its parts
// no transaction may be opened, or others would come between the parts of that one. If one was opened since it began, it is
// too late for that, and another sweep does it.
func (m *Machine) long() {
	open, _ := m.f.Open()
	switch {
	case m.sweep.barrier || m.sweep.void:
	case open == 0 || open == m.sweep.open:
		m.sweep.barrier = !m.debt
	default:
		m.owe()
		m.sweep.void = true
	}
}

// ordered gives whole transactions in the order of their last changes: every row's order and every happened-before. The
// one that is partly dispatched goes first, to stay together: whatever committed before it was dispatched before it, so
// the others here all committed after it.
func (m *Machine) ordered(txns []change.Txn) []change.Txn {
	type placed struct {
		t    change.Txn
		last int64
	}
	open, _ := m.f.Open()
	ps := make([]placed, len(txns))
	for i := range txns {
		ps[i] = placed{txns[i], txns[i].LastSeq()}
		if txns[i].XID == open {
			ps[i].last = -1
		}
	}
	slices.SortStableFunc(ps, func(a, b placed) int { return cmp.Compare(a.last, b.last) })
	out := make([]change.Txn, len(ps))
	for i := range ps {
		out[i] = ps[i].t
	}
	return out
}

// sweptTxn dispatches what of a swept transaction the frontier has not got.
func (m *Machine) sweptTxn(t change.Txn) {
	if m.f.Contains(t.XID) {
		m.stats.Duplicates++
		return
	}
	open, seq := m.f.Open()
	t.Continued = open == t.XID
	if t.Continued {
		t = behind(t, seq)
	}
	m.f.Add(t.XID)
	if t.Stub == nil && len(t.Changes) == 0 {
		return
	}
	if m.sweep.watch && len(m.sweep.found) < m.limits.late {
		if m.sweep.found == nil {
			m.sweep.found = map[change.XID]struct{}{}
		}
		m.sweep.found[t.XID] = struct{}{}
	}
	m.dispatch(t, true)
}

// behind gives what of t comes after seq. What was dispatched of a transaction by its notifications is a beginning of its
// canonical order, so the rest keeps its order.
func behind(t change.Txn, seq int64) change.Txn {
	had := func(c change.Change) bool { return c.Seq <= seq }
	if slices.ContainsFunc(t.Changes, had) {
		t.Changes = slices.DeleteFunc(slices.Clone(t.Changes), had)
	}
	if t.Stub != nil {
		s := *t.Stub
		s.AfterSeq = max(s.AfterSeq, seq)
		t.Stub = &s
		if s.LastSeq <= s.AfterSeq {
			t.Stub = nil
		}
	}
	return t
}

// sweepFailed makes a debt of a barrier that failed. A heartbeat's sweep is not asked for again: the next one will be.
func (m *Machine) sweepFailed(in SweepFailed) {
	if in.ID == 0 || in.ID != m.sweep.id {
		return
	}
	m.stats.SweepsFailed++
	barrier := m.sweep.barrier
	m.sweep = sweep{}
	if barrier {
		m.owe()
	}
}

// expired ends the sweep as one that found nothing: what its snapshot sees and is not dispatched is given up.
func (m *Machine) expired(now time.Time, in Expired) {
	if in.ID == 0 || in.ID != m.sweep.id {
		return
	}
	m.stats.Expired++
	m.torn, m.sweep.void = false, false // the frontier is dead: it must go on from here, whatever was wrong with the sweep
	switch {
	case m.pos != nil && in.Tick != nil:
		m.pos.Skip(in.Snapshot, *in.Tick, in.Done)
	default:
		m.pos = nil
	}
	m.swept(now, Swept{ID: in.ID, Snapshot: in.Snapshot})
}

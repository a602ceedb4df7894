package feed

import (
	"fmt"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// beat asks for a sweep if there may be something to find or to fold. Nothing received waits for it. While the listener
// is away it is what goes on delivering.
func (m *Machine) beat(now time.Time, in Beat) {
	m.lastSeq = in.LastSeq
	if in.Free && m.started && m.mode == Quiet && in.Number >= m.number { // with a lower one it was read before the newest announcement
		m.deserted()
	}
	behind := in.Number > m.number
	if (len(m.late) > 0 || m.behind && behind) && now.Sub(m.heard) >= m.limits.halfOpen {
		m.missed("nothing comes over it although the log moved or the mode changed")
	}
	m.behind = behind
	if m.started && m.check == nil && m.sweep.id == 0 && !(m.debt && m.up) && m.moved(now, in) {
		m.begin(now, sweep{watch: m.up && !m.relayed})
	}
	if m.pos != nil && m.check == nil && m.pos.Len() > 0 {
		m.tick()
	}
}

// moved reports whether a sweep may find or fold something. That no seq was given out since the last one is not enough to
// leave it out: a transaction may have been running then. That no transaction has ended since is.
func (m *Machine) moved(now time.Time, in Beat) bool {
	open, _ := m.f.Open()
	return m.f.Len() > 0 || open != 0 || in.LastSeq != m.sweptSeq ||
		now.Sub(m.sweptAt) >= m.limits.idle && !in.Snapshot.Equal(m.f.Snapshot)
}

// await remembers what a heartbeat's sweep found before its notification came. Mostly the notification is on its way; that
// it is not shows when a later one overtakes it, or when nothing comes at all.
func (m *Machine) await(now time.Time, found map[change.XID]struct{}) {
	if len(found) == 0 {
		return
	}
	m.heard = now
	if m.late == nil {
		m.late = found
		return
	}
	for x := range found {
		if len(m.late) < m.limits.late {
			m.late[x] = struct{}{}
		}
	}
}

// confirm takes note of the notices that came. Notifications come in commit order: one of a transaction that the frontier's
// snapshot does not see comes after those of all that it sees, the awaited ones among them.
func (m *Machine) confirm(ns []Notice) {
	if len(m.late) == 0 && len(m.sweep.found) == 0 {
		return
	}
	for i := range ns {
		x := ns[i].Change.XID
		delete(m.sweep.found, x)
		delete(m.late, x)
		if len(m.late) > 0 && !m.f.Snapshot.Sees(x) {
			m.missed(fmt.Sprintf("transaction %d overtook what it had to bring before", x))
		}
	}
}

// missed asks for a new connection: the notifications awaited will not come over this one.
func (m *Machine) missed(what string) {
	m.stats.Anomalies += uint64(len(m.late))
	m.late = nil
	if m.up && !m.reopening {
		m.reopening = true
		m.acts = append(m.acts, Reopen{Reason: "the listener's connection is dead or has a gap: " + what})
	}
}

package feed

import (
	"math"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// modeBugs are mistakes with the modes: of the trigger and the leader, of the driver, of the machine.
var modeBugs = []bug{
	{name: "who has notified does not tell that the leader is gone", from: 7_000, world: &modeWorld{writers: "ab b", faults: mvcctest.ModeFaults{Crashes: 1}, quiet: true}, driver: driverBugs{modes: mvcctest.ModeBugs{Untold: true}}},
	{name: "quiet announced before K is granted", driver: driverBugs{modes: mvcctest.ModeBugs{EarlyQuiet: true}}},
	{name: "a new leader does not announce busy", world: &modeWorld{writers: "a a", faults: mvcctest.ModeFaults{Crashes: 1, Cycles: 1}, quiet: true}, driver: driverBugs{modes: mvcctest.ModeBugs{NoTakeover: true}}},
	{name: "K not kept", driver: driverBugs{modes: mvcctest.ModeBugs{KeepsNothing: true}}},
	{name: "K not tried again behind a savepoint that it went with", world: &modeWorld{writers: "sara a", faults: mvcctest.ModeFaults{Cycles: 1}}, driver: driverBugs{modes: mvcctest.ModeBugs{Remembers: true}}},
	{name: "PREPARE gives K back", world: &modeWorld{writers: "ap a", faults: mvcctest.ModeFaults{Cycles: 1}}, driver: driverBugs{modes: mvcctest.ModeBugs{PrepareFrees: true}}},

	{name: "the row on the mode is not read", driver: driverBugs{noModeRow: true}},
	{name: "heartbeats do not try K", driver: driverBugs{neverTries: true}},
	{name: "heartbeats try K before they look at the row", driver: driverBugs{triesFirst: true}},

	{name: "dispatched although busy", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		mode := m.mode
		if n, ok := in.(Notified); ok && !slices.ContainsFunc(n.Notices, func(n Notice) bool { return n.Announced != nil }) {
			m.mode = Quiet
		}
		txns, acts := m.Step(now, in)
		m.mode = max(m.mode, mode)
		return txns, acts
	}},
	{name: "an announcement is dropped with what comes with it", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if n, ok := in.(Notified); ok && (m.debt || m.mode == Busy) && len(n.Notices) > 1 {
			in = Notified{slices.DeleteFunc(slices.Clone(n.Notices), func(n Notice) bool { return n.Announced != nil })}
		}
		return m.Step(now, in)
	}},
	{name: "no sweep at the beginning of the quiet mode", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		mode, debt := m.mode, m.debt
		if mode == Busy {
			m.debt = true // so that no sweep is asked for
		}
		txns, acts := m.Step(now, in)
		if _, ok := in.(Notified); ok && mode == Busy && m.mode == Quiet {
			m.debt, m.sweep, acts = false, sweep{}, nil
		} else if mode == Busy {
			m.debt = m.debt && debt
		}
		return txns, acts
	}},
	{name: "the quiet mode content with the sweep under way", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		mode, id := m.mode, m.sweep.id
		txns, acts := m.Step(now, in)
		if _, ok := in.(Notified); ok && mode == Busy && m.mode == Quiet && id != 0 {
			m.debt, m.sweep.barrier = false, true
		}
		return txns, acts
	}},
	{name: "the row on the mode counts at the first opening only", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if o, ok := in.(Opened); ok && m.started {
			o.Mode = ModeRow{m.mode, m.number}
			in = o
		}
		return m.Step(now, in)
	}},
	{name: "that a writer found the leader gone is ignored", from: 7_000, world: &modeWorld{writers: "ab b", faults: mvcctest.ModeFaults{Crashes: 1}, quiet: true}, step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if n, ok := in.(Notified); ok {
			in = Notified{slices.DeleteFunc(slices.Clone(n.Notices), func(n Notice) bool { return n.Announced != nil && n.Announced.Number == 0 })}
		}
		return m.Step(now, in)
	}},
	{name: "who found the leader gone is dispatched as far as he notified", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if n, ok := in.(Notified); ok {
			n.Notices = slices.Clone(n.Notices)
			for i := range n.Notices {
				if a := n.Notices[i].Announced; a != nil && a.Number == 0 {
					n.Notices[i].Announced = &ModeRow{Busy, m.number}
				}
			}
			in = n
		}
		return m.Step(now, in)
	}},
	{name: "a heartbeat of before the announcement is believed", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if b, ok := in.(Beat); ok && b.Free {
			number := m.number
			m.number = math.MinInt64
			txns, acts := m.Step(now, in)
			m.number = number
			return txns, acts
		}
		return m.Step(now, in)
	}},
	{name: "what was found before the mode changed is awaited", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		mode, late := m.mode, m.late
		txns, acts := m.Step(now, in)
		if mode == Quiet && m.mode == Busy && m.late == nil {
			m.late = late
		}
		return txns, acts
	}},
	{name: "what the sweep under way finds is awaited although the mode changed", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		mode, watch, id := m.mode, m.sweep.watch, m.sweep.id
		txns, acts := m.Step(now, in)
		if mode == Quiet && m.mode == Busy && id != 0 && m.sweep.id == id {
			m.sweep.watch = watch
		}
		return txns, acts
	}},
	{name: "what a sweep of a busy stream finds is awaited", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if len(acts) > 0 && m.mode == Busy && m.up && !m.sweep.barrier {
			m.sweep.watch = true
		}
		return txns, acts
	}},
	{name: "a dead connection is not noticed while busy", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		m.behind = false
		return m.Step(now, in)
	}},
	{name: "no sweeps while the listener is down", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if !m.up && m.mode == Busy {
			m.sweep, acts = sweep{}, nil
		}
		return txns, acts
	}},
}

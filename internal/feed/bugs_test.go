package feed

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// mutant is a Machine with a bug put in from outside: around a Step it changes the input, the output or the machine's
// fields. The machine itself has no switch for it, so nothing of this can be left on in production, and a bug is put in
// where a programmer would make it: at a line that forgets something.
type mutant struct {
	*Machine
	bug func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action)
}

func (m mutant) Step(now time.Time, in Input) ([]change.Txn, []Action) {
	return m.bug(m.Machine, now, in)
}

func machineOf(s stepper) *Machine {
	if m, ok := s.(mutant); ok {
		return m.Machine
	}
	return s.(*Machine)
}

type bug struct {
	name   string
	driver driverBugs
	from   uint64     // the seed to begin with, where those before it find nothing
	world  *modeWorld // if not nil, it is looked for in schedules of this one
	step   func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action)
}

// machine has the bug, if it is one of the machine.
func (b *bug) machine() stepper {
	if b.step != nil {
		return mutant{New(), b.step}
	}
	return New()
}

var bugs = []bug{
	{name: "LISTEN after the snapshot", driver: driverBugs{snapshotFirst: true}},
	{name: "sweep's snapshot newer than its rows", driver: driverBugs{snapshotLater: true}},
	{name: "sweep reads from xmax on only", driver: driverBugs{runningUnread: true}},

	{name: "frontier forgets what a sweep dispatched", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		before := m.f.Clone()
		txns, acts := m.Step(now, in)
		if _, ok := in.(Swept); ok {
			m.f = before
		}
		return txns, acts
	}},
	{name: "duplicates not recognized", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Notified); !ok || !m.started {
			return m.Step(now, in)
		}
		f := m.f
		m.f = change.Frontier{}
		txns, acts := m.Step(now, in)
		for _, t := range txns {
			f.Receive(t.XID, t.LastSeq())
		}
		m.f = f
		return txns, acts
	}},
	{name: "sweep ordered by xid", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if _, ok := in.(Swept); ok {
			slices.SortStableFunc(txns, func(a, b change.Txn) int { return cmp.Compare(a.XID, b.XID) })
		}
		return txns, acts
	}},
	{name: "open transaction not first", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if _, ok := in.(Swept); ok {
			slices.SortStableFunc(txns, func(a, b change.Txn) int { return cmp.Compare(a.LastSeq(), b.LastSeq()) })
		}
		return txns, acts
	}},
	{name: "between the parts of a heartbeat's answer a transaction is opened", from: 29_000, step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		barrier := m.sweep.barrier
		if s, ok := in.(Swept); ok && s.More {
			m.sweep.open, _ = m.f.Open()
		}
		txns, acts := m.Step(now, in)
		if s, ok := in.(Swept); ok && s.More && !barrier {
			m.sweep.barrier = false
		}
		return txns, acts
	}},
	{name: "first part of an answer taken for all of it", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if s, ok := in.(Swept); ok {
			s.More = false
			in = s
		}
		return m.Step(now, in)
	}},
	{name: "what is held is forgotten", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Swept); ok {
			m.release()
		}
		return m.Step(now, in)
	}},
	{name: "nothing is held", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Notified); ok && m.sweep.barrier {
			m.sweep.barrier = false
		}
		return m.Step(now, in)
	}},
	{name: "what was too much to hold is not looked for", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		barrier := m.sweep.barrier
		txns, acts := m.Step(now, in)
		if _, ok := in.(Notified); ok && barrier {
			m.debt = false
		}
		return txns, acts
	}},
	{name: "part taken for whole", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		m.f.Close()
		return txns, acts
	}},
	{name: "place in the open transaction ignored", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Swept); ok {
			f := change.NewFrontier(m.f.Snapshot)
			for _, x := range m.f.Done() {
				f.Add(x)
			}
			m.f = f
		}
		return m.Step(now, in)
	}},
	{name: "marker ignored", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if n, ok := in.(Notified); ok {
			in = Notified{slices.DeleteFunc(slices.Clone(n.Notices), func(n Notice) bool { return n.Marker })}
		}
		return m.Step(now, in)
	}},
	{name: "marker content with the sweep under way", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if _, ok := in.(Notified); ok && m.debt && m.sweep.id != 0 {
			m.debt, m.sweep.barrier = false, true
		}
		return txns, acts
	}},
	{name: "no sweep after a reconnect", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Opened); ok && m.started {
			m.debt, m.up = false, true
			return nil, nil
		}
		return m.Step(now, in)
	}},
	{name: "reconnect content with the sweep under way", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if _, ok := in.(Opened); ok && m.debt && m.sweep.id != 0 {
			m.debt, m.sweep.barrier = false, true
		}
		return txns, acts
	}},
	{name: "failed sweep forgotten", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if f, ok := in.(SweepFailed); ok && f.ID == m.sweep.id {
			m.sweep = sweep{}
			return nil, nil
		}
		return m.Step(now, in)
	}},
	{name: "what was dispatched is forgotten where the log was emptied", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if e, ok := in.(Expired); ok {
			m.f = change.NewFrontier(e.Snapshot)
		}
		return m.Step(now, in)
	}},
	{name: "what is given up comes all the same", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		before := m.f.Clone()
		txns, acts := m.Step(now, in)
		if _, ok := in.(Expired); ok {
			m.f = before
		}
		return txns, acts
	}},
	{name: "a log that was emptied pays the debt of later", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Expired); ok && m.up {
			m.debt = false
		}
		return m.Step(now, in)
	}},
	{name: "no heartbeat", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if _, ok := in.(Beat); ok {
			return nil, nil
		}
		return m.Step(now, in)
	}},
	{name: "heartbeat looks at the seq only", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		if b, ok := in.(Beat); ok && b.LastSeq == m.sweptSeq && m.f.Len() == 0 {
			return nil, nil
		}
		return m.Step(now, in)
	}},
	{name: "late taken for lost", step: func(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
		txns, acts := m.Step(now, in)
		if len(m.late) > 0 {
			acts = append(acts, Reopen{})
		}
		return txns, acts
	}},
}

// TestSimulatorFindsBugs shows that the simulator would find each of the mistakes that the machine must not make.
func TestSimulatorFindsBugs(t *testing.T) {
	t.Parallel()
	for i, b := range slices.Concat(bugs, modeBugs) {
		b.driver.with = modesOnly
		if i < len(bugs) {
			b.driver.with = noModes
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for seed := b.from + 1; seed <= b.from+30_000; seed++ {
				var err error
				if b.world != nil {
					err = b.world.schedule(b.machine(), seed, b.driver)
				} else {
					err = schedule(b.machine(), seed, b.driver, nil)
				}
				if err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}

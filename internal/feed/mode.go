package feed

import "time"

// Mode is what the stream of notifications does.
type Mode byte

// The modes. The zero one is that of a source without modes.
const (
	Quiet Mode = iota // all that is committed is notified
	Busy              // writers may be silent: the log has what is committed, and it is swept
)

func (m Mode) String() string { return [...]string{"quiet", "busy"}[m] }

// ModeRow is the database's row on the mode: what the leader announced last. Each announcement's Number is greater than that
// of the one before, but for those that a crash of the server undid.
type ModeRow struct {
	Mode   Mode
	Number int64
}

// announced goes into the mode that is announced at this place of the stream. What is held was notified before it, so it is
// committed: the sweeps of a busy stream find it, and the one that the quiet stream begins with.
func (m *Machine) announced(r ModeRow) {
	switch {
	case !m.started: // Opened has the row, and this may be newer
		m.early = &r
		m.stats.LeftToSweep += uint64(len(m.release()))
	case r.Mode == Quiet:
		m.mode, m.number = Quiet, r.Number
		m.owe()
	case r.Number != 0:
		m.number = r.Number
		m.busy()
	case m.mode == Quiet:
		m.deserted()
	}
}

// enterMode goes into the mode of the row, whatever its number: a crash may have undone announcements.
func (m *Machine) enterMode(r ModeRow) {
	m.mode, m.number = r.Mode, r.Number
	if r.Mode == Busy {
		m.busy()
	}
}

// busy begins to sweep rather than to receive. What a sweep finds is not awaited any more: it may never have been notified.
func (m *Machine) busy() {
	m.mode, m.pause = Busy, 0
	m.late = nil
	m.sweep.watch, m.sweep.found = false, nil
	m.stats.Ignored += uint64(len(m.release()))
}

// deserted goes busy because nobody keeps the writers from being silent, and has not said so: some may have been.
func (m *Machine) deserted() {
	m.stats.Deserted++
	m.busy()
	m.owe()
}

// pace says how long the next sweep of a busy stream waits, after one that took so long: a fifth of the time is for sweeps, and
// where they find nothing, less and less.
func (m *Machine) pace(found bool, took time.Duration) {
	wait := 2 * m.pause
	if found {
		wait = 4 * took
	}
	m.pause = min(max(wait, m.limits.shortest), m.limits.longest)
}

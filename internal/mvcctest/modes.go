package mvcctest

import (
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// ModeRow is the row on the mode of the stream.
type ModeRow struct {
	Busy   bool
	Number int64
}

// Modes are what decides whether writers notify: the lock K, the leader that holds it exclusively to make them, and the row that
// it announces its modes in. In a database without Modes the writers always notify.
type Modes struct {
	On       bool
	First    ModeRow // as it is before anything is announced
	Leader   LeaderState
	HasK     bool // the leader has K; it does not know when it loses it
	Stranger Stranger
	Faults   ModeFaults
	Still    bool // nothing happens any more that need not happen
	Bugs     ModeBugs

	announcing int // the transaction of the announcement under way
	said       []said
	bare       bool // the row says quiet, and K was to be had since
}

// said is an announcement; that of a transaction that has not committed is nobody's to see.
type said struct {
	tx  int
	row ModeRow
}

// Stranger is somebody who plays with the locks.
type Stranger struct{ Shared, Asks, HasK, HasPlace bool }

// ModeFaults bound what is not bound to happen.
type ModeFaults struct {
	Cycles    int // times that the leader asks for K
	Crashes   int // of the leader
	Losses    int // times that the leader gives up on K or lets it go, or loses it without knowing
	Strangers int // times that a stranger does something
}

// ModeBugs are mistakes in the trigger and in the leader.
type ModeBugs struct {
	Untold       bool // who has notified and is granted K does not say so
	EarlyQuiet   bool // quiet is announced when K is asked for
	NoTakeover   bool // a new leader that finds the row quiet does not announce busy
	KeepsNothing bool // a trigger gives K back at once
	Remembers    bool // a trigger that was granted K once does not try again, also behind a savepoint that K went with
	PrepareFrees bool // PREPARE gives K back
}

// LeaderState is how far the leader is.
type LeaderState byte

// The states of the leader.
const (
	Nobody     LeaderState = iota
	Elected                // and has not got K
	Asks                   // waits for K
	Granted                // has K
	SaysQuiet              // its announcement is about to commit
	LeadsQuiet             // it is announced
	SaysBusy
	SaidBusy // still has K
)

// ModeMove is one thing that a leader or a stranger does.
type ModeMove byte

// The moves.
const (
	Elect ModeMove = iota
	Ask
	GiveUp // waiting for K, or K
	Grant
	Announce
	CommitMode
	Release
	Desert // K is given back, and nothing announced
	LoseK
	Die
	StrangerShares
	StrangerAsks
	StrangerGets
	StrangerLets
	StrangerLeads
)

func (m ModeMove) String() string {
	return [...]string{
		"a leader is elected", "leader asks for K", "leader gives up on K", "leader gets K", "leader announces", "announcement commits",
		"leader releases K", "leader releases K without a word", "leader loses K", "leader dies", "stranger shares K", "stranger asks for K",
		"stranger gets K", "stranger lets go", "stranger takes the leader's place",
	}[m]
}

// ModeMoves lists what can happen to the modes next; must says that it will sooner or later.
func (w *World) ModeMoves(yield func(m ModeMove, must bool)) {
	m := &w.Modes
	if !m.On {
		return
	}
	may := func(mv ModeMove, ok bool) {
		if ok && !m.Still {
			yield(mv, false)
		}
	}
	must := func(mv ModeMove, ok bool) {
		if ok {
			yield(mv, true)
		}
	}
	taken := m.Stranger.Shared || m.Stranger.HasK
	for i := range w.Writers {
		wr := &w.Writers[i]
		taken = taken || wr.Tx >= 0 && w.Txs[wr.Tx].HasK
	}
	switch m.Leader {
	case Nobody:
		may(Elect, !m.Stranger.HasPlace)
	case Elected:
		quiet := !w.Mode().Busy && !m.Bugs.NoTakeover
		must(Announce, quiet && w.Notifier < 0)
		may(Ask, !quiet && m.Faults.Cycles > 0)
	case Asks:
		may(GiveUp, m.Faults.Losses > 0)
		must(Grant, !taken && !m.Bugs.EarlyQuiet)
		must(Announce, m.Bugs.EarlyQuiet && w.Notifier < 0)
	case Granted:
		may(GiveUp, m.Faults.Losses > 0)
		must(Announce, w.Notifier < 0)
	case SaysQuiet, SaysBusy:
		must(CommitMode, true)
	case LeadsQuiet:
		may(Announce, w.Notifier < 0)
		may(Desert, m.Faults.Losses > 0)
	case SaidBusy:
		must(Release, true)
	}
	may(LoseK, m.HasK && m.Faults.Losses > 0)
	may(Die, m.Leader != Nobody && m.Faults.Crashes > 0)

	s := &m.Stranger
	idle := *s == Stranger{}
	may(StrangerShares, idle && m.Faults.Strangers > 0 && w.Free())
	may(StrangerAsks, idle && m.Faults.Strangers > 0 && !m.bare)
	may(StrangerLeads, idle && m.Faults.Strangers > 0 && m.Leader == Nobody)
	must(StrangerGets, s.Asks && !taken && !m.HasK)
	must(StrangerLets, !idle && !s.Asks)
}

// DoMode does a move.
func (w *World) DoMode(mv ModeMove) {
	m := &w.Modes
	switch mv {
	case Elect:
		m.Leader = Elected
	case Ask:
		m.Faults.Cycles--
		m.Leader = Asks
	case GiveUp:
		m.Faults.Losses--
		m.Leader, m.HasK = Elected, false
	case Grant:
		m.Leader, m.HasK = Granted, true
	case Announce:
		w.announce()
	case CommitMode:
		w.commitMode()
	case Release:
		m.Leader, m.HasK = Elected, false
	case Desert:
		m.Faults.Losses--
		m.Leader, m.HasK = Elected, false
	case LoseK:
		m.Faults.Losses--
		m.HasK = false
	case Die:
		m.Faults.Crashes--
		w.die()
	case StrangerShares, StrangerAsks, StrangerLeads:
		m.Faults.Strangers--
		m.Stranger = Stranger{Shared: mv == StrangerShares, Asks: mv == StrangerAsks, HasPlace: mv == StrangerLeads}
	case StrangerGets:
		m.Stranger = Stranger{HasK: true}
	case StrangerLets:
		m.Stranger = Stranger{}
	}
	m.bare = !w.Mode().Busy && (m.bare || w.Free())
}

// announce queues the announcement of the other mode.
func (w *World) announce() {
	m := &w.Modes
	row := ModeRow{m.Leader == Elected || m.Leader == LeadsQuiet, w.Mode().Number + 1}
	switch {
	case row.Busy:
		m.Leader = SaysBusy
	default:
		m.Leader, m.HasK = SaysQuiet, m.HasK || m.Bugs.EarlyQuiet
	}
	i := w.assign(Tx{State: Queued, nested: -1, Notices: []Note{{Says: true, Mode: row}}})
	m.announcing, m.said = i, append(m.said, said{i, row})
	w.Notifier = i
	w.Queue = append(w.Queue, i)
}

func (w *World) commitMode() {
	m := &w.Modes
	t := &w.Txs[m.announcing]
	t.State = Committed
	w.Ends = append(w.Ends, m.announcing)
	w.ended(t.XID)
	w.Notifier = -1
	switch {
	case m.Leader == SaysQuiet:
		m.Leader = LeadsQuiet
	case m.HasK:
		m.Leader = SaidBusy
	default:
		m.Leader = Elected
	}
}

// die ends the leader's session: its locks are free, and what it was about to announce is rolled back.
func (w *World) die() {
	m := &w.Modes
	if m.Leader == SaysQuiet || m.Leader == SaysBusy {
		t := &w.Txs[m.announcing]
		t.State, t.Notices = Aborted, nil
		w.ended(t.XID)
		w.Notifier = -1
		w.Queue = w.Queue[:len(w.Queue)-1]
		m.said = m.said[:len(m.said)-1]
	}
	m.Leader, m.HasK = Nobody, false
}

// Free reports whether somebody who has not got K is granted it in shared mode now.
func (w *World) Free() bool {
	m := &w.Modes
	return m.On && !m.HasK && !m.Stranger.HasK && m.Leader != Asks && !m.Stranger.Asks
}

// Mode is the row as it stands.
func (w *World) Mode() ModeRow {
	return w.modeOf(func(*Tx) bool { return true })
}

// ModeAt is the row as a snapshot sees it.
func (w *World) ModeAt(s change.Snapshot) ModeRow {
	return w.modeOf(func(t *Tx) bool { return s.Sees(t.XID) })
}

func (w *World) modeOf(seen func(*Tx) bool) ModeRow {
	for i := len(w.Modes.said) - 1; i >= 0; i-- {
		s := &w.Modes.said[i]
		if t := &w.Txs[s.tx]; t.State == Committed && seen(t) {
			return s.row
		}
	}
	return w.Modes.First
}

// try is what the trigger does behind the log: granted K, the change stays silent, and K is kept as long as the change is.
func (w *World) try(t *Tx, n Note) {
	bugs := &w.Modes.Bugs
	silent := t.HasK || w.Free() || bugs.Remembers && t.silent
	switch {
	case !silent:
		t.notified = true
		t.notify(n)
	case t.notified && !t.told && !bugs.Untold:
		t.told = true
		t.Notices = append(t.Notices, Note{Says: true, Mode: ModeRow{Busy: true}})
	}
	if silent {
		t.HasK, t.silent = t.HasK || w.Free() && !bugs.KeepsNothing, true
	}
}

// Prepared reports whether writer i has a prepared transaction.
func (w *World) Prepared(i int) bool {
	at := w.Writers[i].Tx
	return at >= 0 && w.Txs[at].State == Prepared
}

// Untried reports whether writer i has logged a change and not tried K for it yet.
func (w *World) Untried(i int) bool { return w.Writers[i].untried.Seq != 0 }

// Told is how many of t's notices come up to the one that says that the leader is gone; zero if there is none.
func (t *Tx) Told() int {
	return 1 + slices.IndexFunc(t.Notices, func(n Note) bool { return n.Says && n.Mode == ModeRow{Busy: true} })
}

// crashed ends the sessions of the leader and the stranger; announcements that are lost never were.
func (m *Modes) crashed(survives map[int]bool) {
	m.Leader, m.HasK, m.Stranger = Nobody, false, Stranger{}
	m.said = slices.DeleteFunc(slices.Clone(m.said), func(s said) bool { return !survives[s.tx] })
}

// appendModes appends what tells this state of the modes from any other.
func (w *World) appendModes(num func(...int)) {
	m := &w.Modes
	if !m.On {
		return
	}
	flags := 0
	for i, f := range []bool{m.HasK, m.Stranger.Shared, m.Stranger.Asks, m.Stranger.HasK, m.Stranger.HasPlace, m.bare, m.Still} {
		if f {
			flags |= 1 << i
		}
	}
	num(int(m.Leader), flags, m.Faults.Cycles, m.Faults.Crashes, m.Faults.Losses, m.Faults.Strangers, len(m.said))
	for _, s := range m.said {
		num(s.tx)
		if s.row.Busy {
			num(1)
		}
	}
	for i := range w.Writers {
		wr := &w.Writers[i]
		if wr.Tx < 0 {
			continue
		}
		num(w.Txs[wr.Tx].flags(), int(wr.untried.Seq), len(wr.saved))
		for _, s := range wr.saved {
			num(s.notices, s.silence.flags())
		}
	}
}

// silence is what a transaction knows of its own: undone with a savepoint.
type silence struct {
	HasK     bool // shared
	notified bool
	told     bool // it has notified that the leader is gone
	silent   bool // it was granted K
}

func (s silence) flags() (n int) {
	for i, f := range []bool{s.HasK, s.notified, s.told, s.silent} {
		if f {
			n |= 1 << i
		}
	}
	return n
}

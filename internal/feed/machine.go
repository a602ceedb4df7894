package feed

import (
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// limits are a Machine's bounds; tests use smaller ones.
type limits struct {
	heldNotices int           // notices held while a sweep is under way; beyond, the log gives them
	heldBytes   int           // bytes of those
	frontier    int           // transactions that the frontier lists before a sweep is asked for to fold them
	late        int           // transactions whose notifications are awaited
	halfOpen    time.Duration // a connection that owes notifications and is silent for so long is dead
	beside      int           // transactions dispatched beside the newest tick before another is asked for
	idle        time.Duration // between heartbeats' sweeps while only strangers write to the cluster
	shortest    time.Duration // that a sweep of a busy stream waits after the one before
	longest     time.Duration
}

// Machine decides what is dispatched, in which order, and once. See the package comment for who may call it.
//
// Received notifications meet one of three states. At rest they are dispatched as they come. With a debt, something is
// missing that a sweep will find and that must go first: they are dropped, since a sweep begun later finds them too.
// While that sweep, the barrier, is under way they are held: it may have begun before they were committed. All that is of the
// quiet mode. In the busy one notifications are dropped, but for the announcement that ends it, and sweep follows sweep.
type Machine struct {
	limits  limits
	f       change.Frontier
	pos     *change.Position // moves with f; nil: there are no places
	era     change.Era       // in which f was made
	check   *change.Point    // what stands for f is looked for in another era: nothing is dispatched until it is known
	started bool             // there was an Opened: f counts
	relayed bool             // by another node: nothing is awaited
	up      bool             // the listener listens; if not, there is a debt
	debt    bool             // a sweep must be begun before anything more is dispatched from notifications
	torn    bool             // the rest of the open transaction does not follow its beginning: what f lacks is to be abandoned
	sweep   sweep
	sweeps  int // the ID given last

	mode   Mode
	number int64         // of the newest announcement, or of the row when the listener was Opened
	early  *ModeRow      // announced before the first Opened
	pause  time.Duration // before the next sweep of a busy stream
	behind bool          // the newest Beat knew of an announcement that has not come

	held      []Notice // while sweep.barrier, and until there is a frontier
	heldBytes int

	lastSeq  int64     // as the newest Beat has it
	sweptSeq int64     // what lastSeq was when the newest answered sweep began
	sweptAt  time.Time // when that was

	late      map[change.XID]struct{} // dispatched by a heartbeat's sweep, the notification not here yet; the frontier's snapshot sees them
	heard     time.Time               // when a notification came last, or late grew
	reopening bool                    // Reopen is asked for

	ticking bool // a Tick is asked for
	ticked  bool // a sweep is to find the tick that was made
	joining int  // the highest ticket
	joined  int  // tickets up to this one have been answered

	stats Stats
	txns  []change.Txn // of this Step
	acts  []Action     // of this Step
}

// sweep is the Sweep under way; with a zero id there is none.
type sweep struct {
	id      int
	barrier bool                    // what is received is held until it has answered
	void    bool                    // its answer does not count
	open    change.XID              // open in the frontier when it began
	ticket  int                     // those who asked until it began
	tick    bool                    // it finds the tick that was made
	watch   bool                    // what it finds tells whether the listener misses something
	found   map[change.XID]struct{} // by it, if watch, the notification not here yet
	lastSeq int64                   // as known when it began
	began   time.Time
	wait    time.Duration // before it begins
	finds   bool          // there was something in its answer
}

// New returns a machine that waits for its first Opened.
func New() *Machine {
	return &Machine{limits: limits{
		heldNotices: 20_000,
		heldBytes:   16 << 20,
		frontier:    10_000,
		beside:      500,
		late:        1_000,
		halfOpen:    500 * time.Millisecond,
		idle:        10 * time.Second,
		shortest:    time.Millisecond,
		longest:     20 * time.Millisecond,
	}}
}

// Step takes one input and returns the transactions to dispatch, in this order, and the actions to carry out.
func (m *Machine) Step(now time.Time, in Input) ([]change.Txn, []Action) {
	switch in := in.(type) {
	case Opened:
		m.opened(in)
	case Lost:
		m.lost()
	case Notified:
		m.notified(now, in.Notices)
	case Swept:
		m.swept(now, in)
	case SweepFailed:
		m.sweepFailed(in)
	case Expired:
		m.expired(now, in)
	case Beat:
		m.beat(now, in)
	case Ticked:
		m.ticking, m.ticked = false, true
	case Joining:
		m.joining = max(m.joining, in.Ticket)
	}
	m.ask(now)
	txns, acts := m.txns, m.acts
	m.txns, m.acts = nil, nil
	return txns, acts
}

// ask asks for what is due now.
func (m *Machine) ask(now time.Time) {
	if !m.started || m.check != nil {
		return
	}
	if m.sweep.id == 0 {
		switch {
		case m.torn:
			m.begin(now, sweep{})
		case m.debt && m.up:
			m.debt = false
			m.begin(now, sweep{barrier: true})
		case m.mode == Busy:
			m.begin(now, sweep{wait: m.pause})
		case m.f.Len() > m.limits.frontier, m.ticked, m.joining > m.joined:
			m.begin(now, sweep{watch: m.up && !m.relayed})
		}
	}
	if m.pos != nil && m.pos.Len() > m.beside() {
		m.tick()
	}
}

// beside is how many transactions may be listed before a tick is asked for. A node that relays asks first, for all.
func (m *Machine) beside() int {
	if m.relayed && m.up {
		return 4 * m.limits.beside
	}
	return m.limits.beside
}

// tick asks for a tick, if none is being made or looked for.
func (m *Machine) tick() {
	if m.ticking || m.ticked || m.sweep.id != 0 && m.sweep.tick {
		return
	}
	m.ticking = true
	m.acts = append(m.acts, Tick{After: m.pos.Tick().ID})
}

func (m *Machine) opened(in Opened) {
	m.up, m.reopening, m.behind, m.check = true, false, false, nil
	m.relayed = in.Relayed
	if m.started && !in.Gone {
		if m.pos != nil { // cursors that are given out before this are of the era before
			m.pos.Enter(m.era)
		}
		m.connectionGone()
		m.enterMode(in.Mode)
		return
	}
	m.f, m.pos = change.NewFrontier(in.Snapshot), nil
	if in.Tick.ID != 0 {
		m.pos = change.NewPosition(m.era, in.Tick, in.Done)
	}
	if m.started { // what comes was sent after Snapshot was taken, or is in it
		m.stats.Expired++
		m.late, m.sweep, m.debt, m.torn = nil, sweep{}, false, false
	}
	m.started = true
	m.enterMode(in.Mode)
	if m.early != nil {
		m.announced(*m.early)
		m.early = nil
	}
	m.receive(m.release())
}

// Enter says in which era the database is, before the listener is Opened there. If it is another one than that in which the
// frontier was made, Enter returns the place that stands for all that was dispatched, or nil where there was none: the driver looks
// whether all that is still there, and says so with Opened. Until then nothing more is dispatched.
func (m *Machine) Enter(era change.Era) (check *change.Point) {
	if era == m.era {
		return m.check
	}
	m.era = era
	if !m.started || m.pos == nil {
		return nil
	}
	m.check = m.pos.Point()
	// An xid that no tick vouches for may be given out again, to a transaction that logs this time.
	m.f = m.pos.Frontier()
	m.sweep = sweep{} // the answer would be of the life before
	m.up = false
	m.connectionGone()
	return m.check
}

func (m *Machine) lost() {
	m.up = false
	m.connectionGone()
}

// connectionGone forgets what was known of the connection before: what it missed only a sweep can find.
func (m *Machine) connectionGone() {
	m.late, m.sweep.found = nil, nil
	if m.started {
		m.owe()
	} else {
		m.release()
	}
}

// owe makes a debt. The sweep under way does not pay it: it may have begun too early. What is held is committed, so the
// sweep that pays finds it.
func (m *Machine) owe() {
	m.debt = true
	m.sweep.barrier, m.sweep.watch, m.sweep.found = false, false, nil
	m.stats.LeftToSweep += uint64(len(m.release()))
}

// notified takes the announcements out of the notices, so that whatever becomes of these no announcement is lost.
func (m *Machine) notified(now time.Time, ns []Notice) {
	if m.started && !m.up {
		return
	}
	m.heard = now
	for len(ns) > 0 {
		n := 0
		for n < len(ns) && ns[n].Announced == nil {
			n++
		}
		if n == len(ns) {
			m.changed(ns)
			return
		}
		r, before := *ns[n].Announced, ns[:n]
		if r.Number == 0 && r.Mode == Busy {
			before = m.withoutLast(before)
		}
		m.changed(before)
		m.announced(r)
		ns = ns[n+1:]
	}
}

// withoutLast leaves the last transaction to the sweep: it found the leader gone, and may have gone on behind silent ones. If it
// were begun here, its rest would have to come before them.
func (m *Machine) withoutLast(ns []Notice) []Notice {
	n := len(ns)
	for n > 0 && ns[n-1].Change.XID == ns[len(ns)-1].Change.XID {
		n--
	}
	m.stats.Ignored += uint64(len(ns) - n)
	return ns[:n]
}

// changed takes notices of changes.
func (m *Machine) changed(ns []Notice) {
	m.confirm(ns)
	switch {
	case !m.started:
		m.hold(ns)
	case m.mode == Busy:
		m.stats.Ignored += uint64(len(ns))
	case m.debt:
		m.stats.LeftToSweep += uint64(len(ns))
	case m.sweep.barrier:
		m.hold(ns)
	default:
		m.receive(ns)
	}
}

// hold keeps the notices for later, or, where they are too many, leaves all that is held to another sweep.
func (m *Machine) hold(ns []Notice) {
	for i := range ns {
		m.heldBytes += ns[i].size()
		if len(m.held) == m.limits.heldNotices || m.heldBytes > m.limits.heldBytes {
			m.owe()
			m.stats.LeftToSweep += uint64(len(ns) - i)
			return
		}
		m.held = append(m.held, ns[i])
	}
}

// release gives what is held.
func (m *Machine) release() []Notice {
	held := m.held
	m.held, m.heldBytes = nil, 0
	return held
}

// receive dispatches notices, up to the first that only a sweep can follow.
func (m *Machine) receive(ns []Notice) {
	for len(ns) > 0 && !m.debt {
		if n := &ns[0]; n.Txn != nil || n.Folded != nil {
			m.relay(n)
			ns = ns[1:]
			continue
		}
		if ns[0].Marker && ns[0].Change.XID == 0 { // it may be of the open transaction, which therefore stays open
			m.owe()
			break
		}
		n := 1
		for n < len(ns) && ns[n].Change.XID == ns[0].Change.XID {
			n++
		}
		m.receiveTxn(ns[0].Change.XID, ns[:n])
		ns = ns[n:]
	}
	m.stats.LeftToSweep += uint64(len(ns))
}

// receiveTxn dispatches what of x is new in ns, which are all of x.
func (m *Machine) receiveTxn(x change.XID, ns []Notice) {
	if m.f.Contains(x) {
		m.stats.Duplicates += uint64(len(ns))
		return
	}
	open, _ := m.f.Open()
	t := change.Txn{XID: x, Continued: open == x}
	for i := range ns {
		if ns[i].Marker {
			if o, _ := m.f.Open(); o != x {
				m.f.Close() // the one before is complete: a transaction's notifications come together
			}
			m.owe()
			m.stats.LeftToSweep += uint64(len(ns) - i)
			break
		}
		c := ns[i].Change
		if m.f.ContainsChange(x, c.Seq) {
			m.stats.Duplicates++
			continue
		}
		if t.Changes == nil {
			t.Changes = make([]change.Change, 0, len(ns)-i)
		}
		t.Changes = append(t.Changes, c)
		m.f.Receive(x, c.Seq)
	}
	if t.Changes != nil {
		m.dispatch(t, false)
	}
}

func (m *Machine) dispatch(t change.Txn, whole bool) {
	if m.pos != nil {
		t.Before = m.pos.Dispatched(t.Mark(), whole)
	}
	t.Whole = whole
	m.stats.Dispatched++
	m.stats.Changes += uint64(len(t.Changes))
	m.txns = append(m.txns, t)
}

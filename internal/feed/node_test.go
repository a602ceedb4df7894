package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// stepper is a Machine, or one with a bug put in.
type stepper interface {
	Step(now time.Time, in Input) ([]change.Txn, []Action)
	Stats() Stats
}

// node is a machine, the driver around it, and the oracle that watches it. All that can happen to it next is a move.
type node struct {
	w      *mvcctest.World
	m      stepper
	oracle oracle
	bugs   driverBugs

	conn      byte // closed, listening (no snapshot yet), open
	early     change.Snapshot
	pos, sub  int  // what of the queue was received: transactions, and notices of the next one
	dead      bool // half-open: nothing comes any more, and nobody says so
	reopen    bool // the machine wants a new connection
	sweep     asked
	beatRead  bool // the heartbeat's statement has its snapshot
	tried     bool // and has tried K
	beat      Beat
	now       time.Time
	received  time.Time // a notification
	faults    budget
	firstOpen bool // done
	cuts      bool // notices are cut also where a transaction goes on to say that the leader is gone
	coarse    bool // sweeps and heartbeats are one step each, and notices arrive one by one: as small a world as tells all about the modes

	relay *relaying // not nil: what comes is what other nodes have dispatched, not what is notified

	stepped func(in Input, txns []change.Txn) // if not nil, is told of each step
	joined  func(Joined)                      // if not nil, of each that is dispatched
	ticking bool                              // the machine wants a tick
	lied    bool                              // it has dispatched what a crash undid
	gone    bool                              // what was dispatched in another era is not there any more

	err   error
	trace func(format string, args ...any) // nil: none
}

const (
	closed = iota
	listening
	open
)

// asked is the Sweep that the driver works on.
type asked struct {
	id   int // zero: none
	from change.Frontier
	read bool
	late bool // the log was emptied, as the statement of snap says, or what it lacks is abandoned
	gone bool // it is to be abandoned
	torn []change.XID
	era  change.Era
	tick *change.Tick
	snap change.Snapshot
	txns []change.Txn
}

// budget bounds what is not bound to happen.
type budget struct{ drops, deaths, failures, beats, expiries int }

// driverBugs are bugs of a driver, and of the database's part, for the test of the oracle.
type driverBugs struct {
	with  with
	modes mvcctest.ModeBugs

	snapshotFirst bool // the snapshot is taken before LISTEN
	snapshotLater bool // the sweep's rows are read in one statement, its snapshot taken in a later one
	unverified    bool // in another era it is not looked whether what was dispatched is still there
	notRewound    bool // in another era what the frontier's snapshot saw counts as dispatched, whoever has the xid now
	runningUnread bool // the sweep does not read the transactions that the frontier's snapshot saw running
	noModeRow     bool // the row on the mode is not read
	neverTries    bool // K is not tried
	triesFirst    bool // K is tried before the snapshot is taken
}

func newNode(w *mvcctest.World, m stepper, faults budget) *node {
	return &node{w: w, m: m, oracle: newOracle(), faults: faults, now: time.Unix(1_700_000_000, 0)}
}

type move struct {
	kind byte
	n    int
}

// Kinds of move. Those in capitals need not happen.
const (
	mListen  = 'l'
	mOpen    = 'o'
	mReceive = 'r' // n notices
	mRead    = 's' // the sweep's statement runs
	mAnswer  = 'a' // the sweep answers, or with n > 0 in part
	mBeat    = 'b' // the heartbeat's statement, if it was done, reaches the machine
	mClose   = 'c' // as the machine asked
	mDrop    = 'D'
	mDie     = 'H' // half-open from here
	mFail    = 'F'
	mPulse   = 'P' // the heartbeat's statement takes its snapshot
	mTry     = 'y' // and tries K
	mExpire  = 'E' // the sweep's statement that says that the log was emptied runs
)

// moves lists what can happen to the node next.
func (n *node) moves(out []move) []move {
	if n.relay != nil {
		return n.sweepMoves(n.relayMoves(out))
	}
	switch n.conn {
	case closed:
		out = append(out, move{mListen, 0})
	case listening:
		out = append(out, move{mOpen, 0})
	case open:
		if !n.dead {
			waiting, first := n.w.Waiting(n.pos, n.sub), len(out)
			most := 3
			if n.coarse {
				most = 1
			}
			for k := 1; k <= waiting && len(out) < first+most; k++ {
				if n.cuts || n.together(k) {
					out = append(out, move{mReceive, k})
				}
			}
			if n.faults.deaths > 0 {
				out = append(out, move{mDie, 0})
			}
		}
		if n.reopen {
			out = append(out, move{mClose, 0})
		}
	}
	if n.conn != closed && n.faults.drops > 0 {
		out = append(out, move{mDrop, 0})
	}
	return n.sweepMoves(out)
}

// sweepMoves lists what can happen to its sweep and its heartbeat next.
func (n *node) sweepMoves(out []move) []move {
	if n.sweep.id != 0 {
		if !n.sweep.read {
			if !n.coarse || !n.sweeps() || n.sweep.gone || len(n.w.Read(&n.sweep.from, n.w.Snapshot())) > 0 {
				out = append(out, move{mRead, 0})
			}
		} else {
			out = append(out, move{mAnswer, 0})
			if len(n.sweep.txns) > 1 {
				out = append(out, move{mAnswer, 1})
			}
		}
		if n.faults.failures > 0 {
			out = append(out, move{mFail, 0})
		}
		if n.faults.expiries > 0 && !n.sweep.late {
			out = append(out, move{mExpire, 0})
		}
	}
	if n.coarse {
		if n.m.Stats().Mode == Quiet && n.w.Free() {
			out = append(out, move{mTry, 0})
		}
	} else if n.beatRead && !n.tried {
		out = append(out, move{mTry, 0})
	} else if n.beatRead {
		out = append(out, move{mBeat, 0})
	} else if n.faults.beats > 0 {
		out = append(out, move{mPulse, 0})
	}
	return out
}

func (n *node) do(mv move) {
	if n.relay != nil && n.relayDo(mv) {
		return
	}
	switch mv.kind {
	case mListen:
		n.listen()
	case mOpen:
		n.open()
	case mReceive:
		n.receive(mv.n)
	case mDrop:
		n.faults.drops--
		n.lose()
	case mClose:
		n.lose()
	case mDie:
		n.faults.deaths--
		n.dead = true
	case mRead:
		n.readSweep()
		if n.coarse && n.sweep.read {
			n.answer(0)
		}
	case mAnswer:
		n.answer(mv.n)
	case mFail:
		n.faults.failures--
		id := n.sweep.id
		n.sweep = asked{}
		n.emit(SweepFailed{ID: id})
	case mExpire:
		n.faults.expiries--
		n.sweep = asked{id: n.sweep.id, read: true, late: true, snap: n.w.Snapshot()}
	case mPulse:
		n.faults.beats--
		n.beatRead, n.tried = true, !n.w.Modes.On
		n.beat = Beat{LastSeq: n.w.LastSeq(), Snapshot: n.w.Snapshot(), Number: n.w.Mode().Number, Free: n.w.Free()}
		if n.relay != nil {
			n.tried, n.beat.Number, n.beat.Free = true, 0, false
		}
	case mTry:
		if n.coarse && !n.beatRead {
			n.beat = Beat{LastSeq: n.w.LastSeq(), Snapshot: n.w.Snapshot(), Number: n.w.Mode().Number, Free: !n.bugs.neverTries}
			n.emit(n.beat)
			return
		}
		n.tried = true
		if n.bugs.triesFirst {
			n.beat.Number = n.w.Mode().Number
		} else {
			n.beat.Free = n.w.Free()
		}
		n.beat.Free = n.beat.Free && !n.bugs.neverTries
	case mBeat:
		n.beatRead = false
		n.now = n.now.Add(time.Second)
		n.emit(n.beat)
	}
}

// listen registers behind what is visible already.
func (n *node) listen() {
	n.conn, n.sub, n.dead, n.reopen = listening, 0, false, false
	n.gone = n.enter()
	if n.bugs.snapshotFirst {
		n.early = n.w.Snapshot()
		return // LISTEN comes with the next move
	}
	n.pos = n.w.Listen()
}

// enter tells the machine in which era it is, and looks whether what it dispatched in another one is still there.
func (n *node) enter() (gone bool) {
	m := machineOf(n.m)
	before := m.f.Clone()
	at := m.Enter(n.w.Era)
	if at == nil || n.bugs.unverified {
		return false
	}
	if n.bugs.notRewound {
		m.f = before
	}
	c := at.Cursor()
	recheck, err := c.Check(n.w.Tick(c.Tick.ID), nil, n.w.Standing())
	if err == nil && recheck {
		err = recheckIn(n.w, &c)
	}
	if err == nil && n.oracle.phantom && n.err == nil {
		n.err = errors.New("the node goes on with changes that a crash undid")
	}
	return err != nil
}

func (n *node) open() {
	snap := n.w.Snapshot()
	if n.bugs.snapshotFirst {
		snap = n.early
		n.pos = n.w.Listen()
	}
	n.conn = open
	if !n.firstOpen || n.gone {
		n.firstOpen, n.lied = true, n.oracle.phantom
		n.oracle = newOracle()
		n.oracle.start(n.w, snap)
	}
	in := Opened{Snapshot: snap, Gone: n.gone}
	switch {
	case n.relay != nil:
		in.Relayed, in.Mode = true, n.relay.mode
	case !n.bugs.noModeRow:
		in.Mode = modeRow(n.w.ModeAt(snap))
	}
	if tick := n.w.NewestTick(snap); tick != nil {
		in.Tick, in.Done = *tick, marksSince(n.w, snap, tick)
	}
	n.emit(in)
}

// marksSince are those of the logged transactions that snap sees and tick does not.
func marksSince(w *mvcctest.World, snap change.Snapshot, tick *change.Tick) (done []change.Mark) {
	for i := range w.Txs {
		if t := &w.Txs[i]; w.Readable(t) && snap.Sees(t.XID) && !tick.Snapshot.Sees(t.XID) {
			done = append(done, w.Mark(t))
		}
	}
	return done
}

func modeRow(r mvcctest.ModeRow) ModeRow {
	if r.Busy {
		return ModeRow{Busy, r.Number}
	}
	return ModeRow{Quiet, r.Number}
}

// together reports whether after so many notices none is missing of a transaction that goes on to say that the leader is gone:
// they are taken to come together up to there.
func (n *node) together(count int) bool {
	pos, sub := n.pos, n.sub+count
	for ; pos < len(n.w.Queue); pos++ {
		have := len(n.w.Txs[n.w.Queue[pos]].Notices)
		if sub < have {
			return sub == 0 || sub >= n.w.Txs[n.w.Queue[pos]].Told()
		}
		sub -= have
	}
	return true
}

func (n *node) receive(count int) {
	var ns []Notice
	for ; count > 0; count-- {
		t := &n.w.Txs[n.w.Queue[n.pos]]
		note := t.Notices[n.sub]
		switch {
		case note.Says:
			r := modeRow(note.Mode)
			ns = append(ns, Notice{Announced: &r})
		case note.Marker:
			ns = append(ns, Notice{Change: change.Change{XID: t.XID}, Marker: true})
		default:
			ns = append(ns, Notice{Change: n.w.Change(note.Seq)})
		}
		if n.sub++; n.sub == len(t.Notices) {
			n.pos, n.sub = n.pos+1, 0
		}
	}
	n.received = n.now
	n.emit(Notified{Notices: ns})
}

func (n *node) lose() {
	was := n.conn
	n.conn, n.reopen = closed, false
	if was == open {
		if n.relay != nil {
			n.emit(Notified{Notices: []Notice{{Announced: &ModeRow{Busy, 1}}}})
		}
		n.emit(Lost{})
	}
}

func (n *node) readSweep() {
	a := &n.sweep
	if a.era != n.w.Era && machineOf(n.m).pos != nil {
		id := a.id
		*a = asked{}
		n.emit(SweepFailed{ID: id})
		return
	}
	a.read, a.late, a.snap = true, a.gone, n.w.Snapshot()
	a.tick = n.w.NewestTick(a.snap)
	from := a.from
	if n.bugs.runningUnread {
		from = change.NewFrontier(change.Snapshot{Xmin: from.Snapshot.Xmax, Xmax: from.Snapshot.Xmax})
		for _, x := range a.from.Done() {
			from.Add(x)
		}
	}
	a.txns = n.w.Read(&from, a.snap)
	for _, t := range a.txns {
		if n.w.Txs[n.w.Index(t.XID)].Told() > 0 {
			a.torn = append(a.torn, t.XID)
		}
	}
}

func (n *node) answer(part int) {
	a := &n.sweep
	if a.late {
		n.expire()
		return
	}
	in := Swept{ID: a.id, Snapshot: a.snap, Tick: a.tick, Torn: a.torn}
	if part > 0 {
		in.Txns, in.More = a.txns[:part:part], true
		a.txns = a.txns[part:]
	} else {
		in.Txns = a.txns
		if n.bugs.snapshotLater {
			in.Snapshot = n.w.Snapshot()
		}
		*a = asked{}
	}
	n.emit(in)
}

// expire ends the sweep with what is to be given up.
func (n *node) expire() {
	in := Expired{ID: n.sweep.id, Snapshot: n.sweep.snap}
	if in.Tick = n.w.NewestTick(in.Snapshot); in.Tick != nil {
		in.Done = marksSince(n.w, in.Snapshot, in.Tick)
	}
	n.sweep = asked{}
	n.oracle.giveUp(n.w, in.Snapshot)
	n.emit(in)
}

// emit gives the machine an input, checks what it dispatches and takes its actions.
func (n *node) emit(in Input) {
	txns, acts := n.m.Step(n.now, in)
	if n.trace != nil {
		n.trace("    %s, %s", n.m.Stats().State, n.m.Stats().Mode)
	}
	for _, t := range txns {
		if n.trace != nil {
			n.trace("    dispatches %s", describe(t))
		}
		if err := n.oracle.dispatched(n.w, t); err != nil && n.err == nil {
			n.err = err
		}
	}
	if n.stepped != nil {
		n.stepped(in, txns)
	}
	for _, a := range acts {
		switch a := a.(type) {
		case Sweep:
			if n.sweep.id != 0 && n.sweep.era == a.Era && n.err == nil {
				n.err = fmt.Errorf("sweep %d is asked for while %d is under way", a.ID, n.sweep.id)
			}
			if a.Abandon && !n.cuts && n.err == nil {
				n.err = errors.New("nothing was cut, and yet it is given up")
			}
			n.sweep = asked{id: a.ID, from: a.From, era: a.Era, gone: a.Abandon}
		case Tick:
			n.ticking = true
		case Joined:
			if n.joined != nil {
				n.joined(a)
			}
		case Reopen:
			n.reopen = true
			if !n.dead && !n.slow(in) && n.err == nil {
				n.err = fmt.Errorf("the connection is well, and is to be opened again: %s", a.Reason)
			}
		}
		if n.trace != nil {
			n.trace("    asks for %T", a)
		}
	}
}

// sweeps reports whether the sweep is one of a busy stream, which has no end, and nothing waits for it.
func (n *node) sweeps() bool {
	m := machineOf(n.m)
	return n.sweep.id != 0 && m.mode == Busy && !m.debt && !m.sweep.barrier && m.joining == m.joined && !m.ticked && !m.sweep.tick
}

// inMode reports whether the node is in the mode that the stream is in, when all has come to rest.
func (n *node) inMode() bool {
	if n.relay != nil {
		return n.conn == open && n.m.Stats().Mode == Quiet
	}
	return n.w.Free() == (n.m.Stats().Mode == Busy)
}

// slow reports whether the connection looks dead: notifications are due, and none came for long.
func (n *node) slow(in Input) bool {
	_, beat := in.(Beat)
	return beat && n.w.Waiting(n.pos, n.sub) > 0 && n.now.Sub(n.received) >= 500*time.Millisecond
}

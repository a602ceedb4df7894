package feed

import (
	"fmt"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// stepper is a Machine, or one with a bug put in.
type stepper interface {
	Step(now time.Time, in Input) ([]change.Txn, []Action)
	Stats() Stats
}

// sim is the world, one node's driver around a machine, and the oracle. Everything that can happen next is a move.
type sim struct {
	world
	m      stepper
	oracle oracle
	driverBug

	conn      byte // closed, listening (no snapshot yet), open
	early     change.Snapshot
	pos, sub  int  // what of the queue was received: transactions, and notices of the next one
	dead      bool // half-open: nothing comes any more, and nobody says so
	reopen    bool // the machine wants a new connection
	sweep     asked
	beatRead  bool
	beat      Beat
	now       time.Time
	received  time.Time // a notification
	faults    budget
	firstOpen bool // done

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
	snap change.Snapshot
	txns []change.Txn
}

// budget bounds what is not bound to happen.
type budget struct{ drops, deaths, failures, beats int }

// driverBug are bugs of a driver or of the database's model, for the test of the oracle.
type driverBug struct {
	snapshotFirst bool // the snapshot is taken before LISTEN
	snapshotLater bool // the sweep's rows are read in one statement, its snapshot taken in a later one
	runningUnread bool // the sweep does not read the transactions that the frontier's snapshot saw running
}

func newSim(m stepper, writers []writer, faults budget) *sim {
	return &sim{world: *newWorld(writers), m: m, oracle: newOracle(), faults: faults, now: time.Unix(1_700_000_000, 0)}
}

type move struct {
	kind byte
	n    int
}

// Kinds of move. Those in capitals need not happen.
const (
	mWrite   = 'w' // writer n does its next thing
	mVictim  = 'v' // writer n is rolled back, to end a deadlock
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
	mPulse   = 'P' // the heartbeat's statement runs
)

// moves lists what can happen next.
func (s *sim) moves(out []move) []move {
	for i := range s.writers {
		if s.writerCan(i) {
			out = append(out, move{mWrite, i})
		} else if s.deadlocked(i) {
			out = append(out, move{mVictim, i})
		}
	}
	switch s.conn {
	case closed:
		out = append(out, move{mListen, 0})
	case listening:
		out = append(out, move{mOpen, 0})
	case open:
		if !s.dead {
			for n := 1; n <= min(s.waiting(), 3); n++ {
				out = append(out, move{mReceive, n})
			}
			if s.faults.deaths > 0 {
				out = append(out, move{mDie, 0})
			}
		}
		if s.reopen {
			out = append(out, move{mClose, 0})
		}
	}
	if s.conn != closed && s.faults.drops > 0 {
		out = append(out, move{mDrop, 0})
	}
	if s.sweep.id != 0 {
		if !s.sweep.read {
			out = append(out, move{mRead, 0})
		} else {
			out = append(out, move{mAnswer, 0})
			if len(s.sweep.txns) > 1 {
				out = append(out, move{mAnswer, 1})
			}
		}
		if s.faults.failures > 0 {
			out = append(out, move{mFail, 0})
		}
	}
	if s.beatRead {
		out = append(out, move{mBeat, 0})
	} else if s.faults.beats > 0 {
		out = append(out, move{mPulse, 0})
	}
	return out
}

// writerCan reports whether writer i has something to do and waits for nothing.
func (s *sim) writerCan(i int) bool {
	wr := &s.writers[i]
	if wr.tx < 0 {
		return wr.done < len(wr.plans)
	}
	p, t := &wr.plans[wr.done], &s.txs[wr.tx]
	if wr.pc < len(p.ops) && !wr.lost {
		o := p.ops[wr.pc]
		h := -1
		if o.kind != savepoint && o.kind != rollback {
			h = s.rows[o.row].holder
		}
		return h < 0 || h == wr.tx
	}
	return p.abort || wr.lost || t.state == queued || len(t.notices) == 0 || s.notifier < 0
}

// waiting is how many notices can be received now.
func (s *sim) waiting() int {
	n := -s.sub
	for p := s.pos; p < len(s.queue) && s.txs[s.queue[p]].state == committed; p++ {
		n += len(s.txs[s.queue[p]].notices)
	}
	return n
}

func (s *sim) do(mv move) {
	if s.trace != nil {
		s.trace("%s", s.describe(mv))
	}
	switch mv.kind {
	case mWrite:
		s.step(mv.n)
	case mVictim:
		s.writers[mv.n].lost = true
		s.step(mv.n)
	case mListen:
		s.listen()
	case mOpen:
		s.open()
	case mReceive:
		s.receive(mv.n)
	case mDrop:
		s.faults.drops--
		s.lose()
	case mClose:
		s.lose()
	case mDie:
		s.faults.deaths--
		s.dead = true
	case mRead:
		s.readSweep()
	case mAnswer:
		s.answer(mv.n)
	case mFail:
		s.faults.failures--
		id := s.sweep.id
		s.sweep = asked{}
		s.emit(SweepFailed{ID: id})
	case mPulse:
		s.faults.beats--
		s.beatRead, s.beat = true, Beat{LastSeq: int64(len(s.log)), Snapshot: s.snapshot()}
	case mBeat:
		s.beatRead = false
		s.now = s.now.Add(time.Second)
		s.emit(s.beat)
	}
}

// listen registers behind what is visible already.
func (s *sim) listen() {
	if s.snapshotFirst {
		s.early = s.snapshot()
	}
	s.conn, s.pos, s.sub, s.dead, s.reopen = listening, 0, 0, false, false
	if s.snapshotFirst {
		return // LISTEN comes with the next move
	}
	s.register()
}

func (s *sim) register() {
	for s.pos < len(s.queue) && s.txs[s.queue[s.pos]].state == committed {
		s.pos++
	}
}

func (s *sim) open() {
	snap := s.snapshot()
	if s.snapshotFirst {
		snap = s.early
		s.register()
	}
	s.conn = open
	if !s.firstOpen {
		s.firstOpen = true
		s.oracle.start(&s.world, snap)
	}
	s.emit(Opened{Snapshot: snap})
}

func (s *sim) receive(n int) {
	var ns []Notice
	for ; n > 0; n-- {
		t := &s.txs[s.queue[s.pos]]
		ns = append(ns, t.notice(s.sub))
		if s.sub++; s.sub == len(t.notices) {
			s.pos, s.sub = s.pos+1, 0
		}
	}
	s.received = s.now
	s.emit(Notified{Notices: ns})
}

func (s *sim) lose() {
	was := s.conn
	s.conn, s.reopen = closed, false
	if was == open {
		s.emit(Lost{})
	}
}

func (s *sim) readSweep() {
	a := &s.sweep
	a.read, a.snap = true, s.snapshot()
	from := a.from
	if s.runningUnread {
		from = change.NewFrontier(change.Snapshot{Xmin: from.Snapshot.Xmax, Xmax: from.Snapshot.Xmax})
		for _, x := range a.from.Done() {
			from.Add(x)
		}
	}
	a.txns = s.world.read(&from, a.snap)
}

func (s *sim) answer(n int) {
	a := &s.sweep
	in := Swept{ID: a.id, Snapshot: a.snap}
	if n > 0 {
		in.Txns, in.More = a.txns[:n:n], true
		a.txns = a.txns[n:]
	} else {
		in.Txns = a.txns
		if s.snapshotLater {
			in.Snapshot = s.snapshot()
		}
		*a = asked{}
	}
	s.emit(in)
}

// emit gives the machine an input, checks what it dispatches and takes its actions.
func (s *sim) emit(in Input) {
	txns, acts := s.m.Step(s.now, in)
	if s.trace != nil {
		s.trace("    %s", s.m.Stats().State)
	}
	for _, t := range txns {
		if s.trace != nil {
			s.trace("    dispatches %s", describe(t))
		}
		if err := s.oracle.dispatched(&s.world, t); err != nil && s.err == nil {
			s.err = err
		}
	}
	for _, a := range acts {
		switch a := a.(type) {
		case Sweep:
			if s.sweep.id != 0 && s.err == nil {
				s.err = fmt.Errorf("sweep %d is asked for while %d is under way", a.ID, s.sweep.id)
			}
			s.sweep = asked{id: a.ID, from: a.From}
		case Reopen:
			s.reopen = true
			if !s.dead && !s.slow(in) && s.err == nil {
				s.err = fmt.Errorf("the connection is well, and is to be opened again: %s", a.Reason)
			}
		}
		if s.trace != nil {
			s.trace("    asks for %T", a)
		}
	}
}

// slow reports whether the connection looks dead: notifications are due, and none came for long.
func (s *sim) slow(in Input) bool {
	_, beat := in.(Beat)
	return beat && s.waiting() > 0 && s.now.Sub(s.received) >= time.Second
}

// settle lets everything end: no more faults, every writer to its end, the heart beating until nothing is left to do.
func (s *sim) settle() {
	s.faults = budget{}
	var buf []move
	const (
		idleBeats = 12 // a second each: beyond the time between sweeps of an idle log
		beats     = 30
	)
	for n := 0; s.err == nil; {
		buf = s.moves(buf[:0])
		if len(buf) > 0 {
			s.do(buf[0])
			continue
		}
		if n++; n > beats || n > idleBeats && s.atRest() {
			break
		}
		s.do(move{mPulse, 0})
	}
	if s.err == nil {
		s.err = s.oracle.rest(&s.world)
	}
	if s.err == nil && !s.atRest() {
		s.err = fmt.Errorf("not at rest: %+v", s.m.Stats())
	}
}

func (s *sim) atRest() bool {
	st := s.m.Stats()
	return st.State == Listening && st.Held == 0 && st.Frontier == 0 && s.sweep.id == 0
}

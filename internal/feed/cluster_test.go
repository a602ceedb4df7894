package feed

import (
	"fmt"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// cluster is a database, its writers, some nodes and some clients that subscribe, leave and resume anywhere.
type cluster struct {
	w       *mvcctest.World
	servers []*server
	clients []*client
	faults  clusterBudget
	bugs    clusterBugs
	stream  *stream // not nil: the first so many nodes relay to the others
	leaders int
	relays  relayBugs

	steps   int
	dropped bool
	err     error
	trace   func(string, ...any)
}

// clusterBudget bounds what is not bound to happen.
type clusterBudget struct{ leaves, ticks, drops, crashes, restarts, overflows int }

// clusterBugs are mistakes in what is built over the feed: the tail, cursors, catching up. Each is put in where it would be
// made; the code of internal/change has no switch for them.
type clusterBugs struct {
	with with

	cursorEarly   bool // a change's cursor is given out before the change
	tickHeardOf   bool // a tick is a cursor's base from its commit on
	stubSeen      bool // a stub counts as read when it is passed
	partWhole     bool // a cursor inside of a transaction claims all of it
	eraIgnored    bool // a cursor of another era is not compared with the log
	retention     bool // only what was after the tick counts as dropped, not what ran when it was taken
	noJoin        bool // a resuming client goes live where the node is, without a sweep of the node that began after it came
	intervalXID   bool // inside of an interval transactions come by xid, and their place is a seq all the same
	beyondLost    bool // with the next tick, what was delivered and it does not see is forgotten
	rightHere     bool // behind a place in the canonical order is taken to be: with a higher seq
	checkedFirst  bool // what was dropped is looked at before the log is read
	unverified    bool // a node goes on in another era without a look whether what it has dispatched is still there
	notRewound    bool // or with a frontier that no tick vouches for
	keptUnchecked bool // a page's place is the client's before it is known that nothing was gone when the page was read
}

// server is a node and its tail.
type server struct {
	*node
	c       *cluster
	tail    []entry
	expired bool // its session has a gap
	session int  // it relays
	number  int  // of the record passed on last
	folded  change.Snapshot

	base int // so many entries were thrown away before tail

	tickets int
}

// entry is a transaction, or a part of one, in the tail.
type entry struct {
	change.Txn
	before change.Cursor // the place before it, as seen from within it
	after  change.Cursor // the place behind it, for the test of a mistake
}

func (s *server) end() int { return s.base + len(s.tail) }

// place is where the node is; nil before it is anywhere.
func (s *server) place() *change.Point { return machineOf(s.m).Place() }

func (c *cluster) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *cluster) start(i int) {
	m := New()
	m.limits.beside = 2
	s := &server{node: newNode(c.w, m, budget{drops: 1, failures: 1, beats: 3}), c: c}
	s.bugs = driverBugs{unverified: c.bugs.unverified, notRewound: c.bugs.notRewound}
	s.stepped, s.joined, s.trace = s.step, s.join, c.trace
	c.servers[i] = s
	c.startRelay(i)
}

// step takes to the tail what the machine gave.
func (s *server) step(in Input, txns []change.Txn) {
	w := s.c.w
	if o, ok := in.(Opened); ok && o.Gone {
		if !s.c.dropped && !s.lied {
			s.c.fail("nothing is lost for the node, and yet its subscribers are told so")
		}
		s.base += len(s.tail)
		s.tail = nil
		for _, cl := range s.c.clients {
			if cl.at == s && cl.state != away {
				cl.anew()
			}
		}
	}
	s.pass(in, txns)
	for _, t := range txns {
		e := entry{Txn: t, before: t.Before.Cursor()}
		e.after = e.before.Past(w.Mark(&w.Txs[w.Index(t.XID)]))
		s.tail = append(s.tail, e)
	}
	if m := machineOf(s.m); s.c.bugs.tickHeardOf && m.pos != nil {
		if t := w.Tick(int64(len(w.Ticks))); t != nil {
			m.pos.Swept(change.Snapshot{}, t)
		}
	}
}

// join lets those go on who wait for a sweep of s that began after they came.
func (s *server) join(j Joined) {
	for _, cl := range s.c.clients {
		if cl.at == s && cl.state == joining && cl.ticket <= j.Ticket {
			cl.follow(s, j.At)
		}
	}
}

// overflow throws the older half of the tail away.
func (s *server) overflow() {
	n := (len(s.tail) + 1) / 2
	s.tail, s.base = s.tail[n:], s.base+n
	for _, cl := range s.c.clients {
		if cl.at == s && cl.state >= catching && cl.place < s.base {
			cl.attach(s)
		}
	}
}

// moves lists what can happen next. A move of a server has its index in the hundreds of n, of a client too.
func (c *cluster) moves(out []move) []move {
	ready := len(c.w.Ticks) > 0 && !c.w.Ticking() || len(c.w.Ticks) > 1
	out = worldMoves(c.w, out)
	if c.w.Ticking() {
		out = append(out, move{mTicked, 0})
	} else if c.faults.ticks > 0 || !ready || c.wantsTick() {
		out = append(out, move{mTick, 0})
	}
	if !ready {
		return out
	}
	for i, s := range c.servers {
		from := len(out)
		out = s.moves(out)
		for k := range out[from:] {
			out[from+k].n += 100 * i
		}
		if c.faults.overflows > 0 && len(s.tail) > 0 {
			out = append(out, move{mOverflow, 100 * i})
		}
		if c.faults.restarts > 0 && s.place() != nil {
			out = append(out, move{mRestart, 100 * i})
		}
	}
	for i, cl := range c.clients {
		out = cl.moves(out, i)
	}
	if c.faults.drops > 0 {
		for seq := c.w.Kept + 1; c.w.MayDrop(seq); seq++ {
			if c.nobodyMisses(seq) {
				out = append(out, move{mDropSlot, int(seq)})
			}
		}
	}
	if c.faults.crashes > 0 {
		for _, survive := range []int{0, 1} {
			out = append(out, move{mCrash, 2*len(c.w.Ends) + survive}, move{mCrash, 2*max(0, len(c.w.Ends)-2) + survive})
		}
	}
	return out
}

// wantsTick reports whether a node has asked for a tick.
func (c *cluster) wantsTick() bool {
	return slices.ContainsFunc(c.servers, func(s *server) bool { return s.ticking })
}

// nobodyMisses reports whether all nodes have dispatched what is in the log up to seq.
func (c *cluster) nobodyMisses(seq int64) bool {
	for s := c.w.Kept + 1; s <= seq; s++ {
		l := c.w.Log[s-1]
		if l.Undone {
			continue
		}
		for _, srv := range c.servers {
			m := machineOf(srv.m)
			busy := m.sweep.id != 0 && !(srv.sweeps() && !srv.sweep.read) // its next sweep finds all that is there now dispatched
			if !srv.firstOpen || !m.f.Contains(c.w.Txs[l.Tx].XID) || busy {
				return false
			}
		}
	}
	return true
}

// Moves of a cluster, beside those of writers and of nodes.
const (
	mTick     = 't' // a tick's transaction begins
	mTicked   = 'T' // and commits
	mAttach   = 'A' // a client comes to server n
	mPage     = 'p' // it reads from the log
	mCheck    = 'k' // it looks whether all that it should have read was there
	mTake     = 'e' // it takes the next change
	mLeave    = 'L'
	mOverflow = 'O'
	mRestart  = 'S' // of a server
	mDropSlot = 'X'
	mCrash    = 'C'
)

func (c *cluster) do(mv move) {
	if c.trace != nil {
		c.trace("%c %d", mv.kind, mv.n)
	}
	c.steps++
	w, i, n := c.w, mv.n/100, mv.n%100
	switch mv.kind {
	case mWrite, mPrepared:
		w.Step(mv.n)
	case mVictim:
		w.Victim(mv.n)
	case mMode, mMayDo:
		w.DoMode(mvcctest.ModeMove(mv.n))
	case mTick:
		if !c.wantsTick() {
			c.faults.ticks--
		}
		w.BeginTick()
	case mTicked:
		w.CommitTick()
		for _, s := range c.servers {
			if s.ticking {
				s.ticking = false
				s.emit(Ticked{})
			}
		}
	case mAttach:
		c.clients[i].attach(c.servers[n])
	case mPage:
		c.clients[i].read()
	case mCheck:
		c.clients[i].check()
	case mTake:
		c.clients[i].take()
	case mLeave:
		c.faults.leaves--
		c.clients[i].leave()
	case mOverflow:
		c.faults.overflows--
		c.servers[i].overflow()
	case mRestart:
		c.faults.restarts--
		c.restart(i)
	case mDropSlot:
		c.faults.drops--
		c.dropped = true
		w.Drop(int64(mv.n))
	case mCrash:
		c.faults.crashes--
		c.crash(mv.n/2, mv.n%2 == 1)
	default:
		c.servers[i].do(move{mv.kind, n})
	}
	for i, s := range c.servers {
		if s.err != nil {
			c.fail("%v", s.err)
		}
		if s.expired && c.stream != nil && i < c.leaders { // a session has no gap
			c.restart(i)
		}
	}
}

func (c *cluster) restart(i int) {
	for _, cl := range c.clients {
		if cl.at == c.servers[i] {
			cl.leave()
		}
	}
	c.start(i)
}

// crash ends the database's life. The nodes survive it, or end with it and begin anew with the next one. Where commits were
// lost, who had got them has something that never was.
func (c *cluster) crash(keep int, survive bool) {
	for _, s := range c.servers {
		if s.sweep.read && survive && c.steps%2 == 0 { // the answer was on its way
			s.answer(0)
		}
	}
	lost := c.w.Crash(keep)
	for _, cl := range c.clients {
		cl.lose(lost)
	}
	for i, s := range c.servers {
		if !survive {
			c.restart(i)
			continue
		}
		if c.stream != nil && i < c.leaders { // a session is of one era
			c.restart(i)
			continue
		}
		s.lose()
		s.oracle.crashed(c.w, lost)
		s.dead, s.beatRead, s.tried = false, false, false
		if s.sweep.read {
			id := s.sweep.id
			s.sweep = asked{}
			s.emit(SweepFailed{ID: id})
		}
		if s.ticking {
			s.ticking = false
			s.emit(Ticked{})
		}
	}
}

// settle lets everything end, with every client back and live.
func (c *cluster) settle() {
	c.faults, c.w.Modes.Still = clusterBudget{}, true
	for _, s := range c.servers {
		s.faults = budget{}
	}
	var buf []move
	for rounds := 0; c.err == nil; {
		buf = slices.DeleteFunc(c.moves(buf[:0]), c.endless)
		if len(buf) > 0 {
			c.do(buf[0])
			continue
		}
		if rounds++; rounds > 40 {
			break
		}
		for i, s := range c.servers {
			if s.sweep.id != 0 && !s.sweep.read {
				c.do(move{mRead, 100 * i})
			}
			if s.sweep.read {
				c.do(move{mAnswer, 100 * i})
			}
			c.do(move{mPulse, 100 * i})
		}
		if rounds > 14 && c.atRest() {
			break
		}
	}
	for i, s := range c.servers {
		if !s.inMode() {
			c.fail("node %d takes the stream for %s", i, s.m.Stats().Mode)
		}
	}
	for i, cl := range c.clients {
		if c.err != nil {
			return
		}
		if cl.state != live || cl.place != cl.at.end() {
			c.fail("client %d is %d at %d of %d and does not go on", i, cl.state, cl.place, cl.at.end())
		} else if err := cl.rest(c.w); err != nil {
			c.fail("client %d: %v", i, err)
		}
	}
}

// endless reports whether a move is of a busy node's sweeps, which never end.
func (c *cluster) endless(mv move) bool {
	return (mv.kind == mRead || mv.kind == mAnswer) && c.servers[mv.n/100].sweeps()
}

func (c *cluster) atRest() bool {
	for _, s := range c.servers {
		if !s.inMode() {
			return false
		}
	}
	for _, cl := range c.clients {
		if cl.state != live || cl.place != cl.at.end() {
			return false
		}
	}
	return true
}

// era is the one up to which it is known that all that the node has dispatched is there.
func (s *server) era() change.Era { return machineOf(s.m).pos.Era() }

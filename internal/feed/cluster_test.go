package feed

import (
	"fmt"

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
	keptUnchecked bool // a page's place is the client's before it is known that nothing was gone when the page was read
}

// server is a node and its tail.
type server struct {
	*node
	c    *cluster
	pos  *change.Position // nil until the first Opened
	tail []entry
	base int // so many entries were thrown away before tail

	readAt int // the step in which the newest sweep was read
}

// entry is a transaction, or a part of one, in the tail.
type entry struct {
	change.Txn
	before change.Cursor // the place before it, as seen from within it
	after  change.Cursor // the place behind it, for the test of a mistake
}

func (s *server) end() int { return s.base + len(s.tail) }

func (c *cluster) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *cluster) start(i int) {
	s := &server{node: newNode(c.w, New(), budget{drops: 1, failures: 1, beats: 3}), c: c}
	s.stepped, s.trace = s.step, c.trace
	c.servers[i] = s
}

// step takes to the tail what the machine gave, and moves the position on.
func (s *server) step(in Input, txns []change.Txn) {
	w := s.c.w
	swept, answer := in.(Swept)
	whole := map[change.XID]bool{}
	if answer {
		for _, t := range swept.Txns {
			whole[t.XID] = true
		}
	}
	if o, ok := in.(Opened); ok && s.pos == nil {
		s.begin(o.Snapshot)
	}
	for _, t := range txns {
		e := entry{Txn: t}
		tx := &w.Txs[w.Index(t.XID)]
		m := w.Mark(tx)
		if !whole[t.XID] {
			last := w.Change(t.LastSeq())
			m = change.MarkOf(&last)
		}
		e.before = s.pos.Dispatched(m, whole[t.XID]).Cursor()
		e.after = s.pos.Point().Cursor()
		s.tail = append(s.tail, e)
	}
	if answer && !swept.More && !s.void {
		s.pos.Swept(swept.Snapshot, w.NewestTick(swept.Snapshot))
		s.c.joined(s, swept.Snapshot)
	}
	if s.c.bugs.tickHeardOf && s.pos != nil {
		s.pos.Swept(change.Snapshot{}, w.Tick(int64(len(w.Ticks))))
	}
}

// begin makes the first position: a tick visible in the snapshot, and what of the log the snapshot sees and the tick does not.
func (s *server) begin(snap change.Snapshot) {
	w := s.c.w
	tick := w.NewestTick(snap)
	var done []change.Mark
	for i := range w.Txs {
		if t := &w.Txs[i]; w.Readable(t) && snap.Sees(t.XID) && !tick.Snapshot.Sees(t.XID) {
			done = append(done, w.Mark(t))
		}
	}
	s.pos = change.NewPosition(w.Era, *tick, done)
}

// wantSweep makes the machine sweep, if none is under way, as a heartbeat does that says something has moved.
func (s *server) wantSweep() {
	s.emit(Beat{LastSeq: -int64(s.c.steps), Snapshot: s.w.Snapshot()})
}

// awaited reports whether somebody waits for a sweep.
func (s *server) awaited() bool {
	for _, cl := range s.c.clients {
		if cl.at == s && cl.state == joining {
			return true
		}
	}
	return false
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

// joined lets those go on who wait for a sweep of s under a snapshot of after they came.
func (c *cluster) joined(s *server, snap change.Snapshot) {
	for _, cl := range c.clients {
		if cl.at == s && cl.state == joining && cl.came < s.readAt {
			cl.follow(s)
		}
	}
}

// moves lists what can happen next. A move of a server has its index in the hundreds of n, of a client too.
func (c *cluster) moves(out []move) []move {
	ready := len(c.w.Ticks) > 0 && !c.w.Ticking() || len(c.w.Ticks) > 1
	for i := range c.w.Writers {
		if c.w.Can(i) {
			out = append(out, move{mWrite, i})
		} else if c.w.Deadlocked(i) {
			out = append(out, move{mVictim, i})
		}
	}
	if c.w.Ticking() {
		out = append(out, move{mTicked, 0})
	} else if c.faults.ticks > 0 || !ready {
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
		if c.faults.restarts > 0 && s.pos != nil {
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
		out = append(out, move{mCrash, len(c.w.Ends)}, move{mCrash, max(0, len(c.w.Ends)-2)})
	}
	return out
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
			if !srv.firstOpen || !m.f.Contains(c.w.Txs[l.Tx].XID) || m.sweep.id != 0 {
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
	case mWrite:
		w.Step(mv.n)
	case mVictim:
		w.Victim(mv.n)
	case mTick:
		c.faults.ticks--
		w.BeginTick()
	case mTicked:
		w.CommitTick()
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
		c.crash(mv.n)
	default:
		s := c.servers[i]
		if mv.kind == mRead {
			s.readAt = c.steps
		}
		s.do(move{mv.kind, n})
		if mv.kind == mPulse && s.awaited() {
			s.beat.LastSeq = -int64(c.steps)
		}
	}
	for _, s := range c.servers {
		if s.err != nil {
			c.fail("%v", s.err)
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

// crash ends the database's life and the nodes', which begin anew with the next one; where commits were lost, who had got
// them has something that never was.
func (c *cluster) crash(keep int) {
	lost := c.w.Crash(keep)
	for i := range c.servers {
		c.restart(i)
	}
	for _, cl := range c.clients {
		cl.lose(lost)
	}
}

// settle lets everything end, with every client back and live.
func (c *cluster) settle() {
	c.faults = clusterBudget{}
	for _, s := range c.servers {
		s.faults = budget{}
	}
	var buf []move
	for rounds := 0; c.err == nil; {
		buf = c.moves(buf[:0])
		if len(buf) > 0 {
			c.do(buf[0])
			continue
		}
		if rounds++; rounds > 40 {
			break
		}
		for i := range c.servers {
			c.do(move{mPulse, 100 * i})
		}
		if rounds > 14 && c.atRest() {
			break
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

func (c *cluster) atRest() bool {
	for _, cl := range c.clients {
		if cl.state != live || cl.place != cl.at.end() {
			return false
		}
	}
	return true
}

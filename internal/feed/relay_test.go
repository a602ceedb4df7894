package feed

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// stream is what leaders pass on, in the order in which the broker has it.
type stream struct {
	records  []record
	sessions int
}

type record struct {
	session, number int
	era             change.Era
	notice          *Notice // nil: a sign of life
}

// relaying is the driver of a node that follows a stream.
type relaying struct {
	c       *cluster
	from    *stream
	bugs    relayBugs
	at      int // records read
	session int
	number  int
	mode    ModeRow // that the machine is to be opened in
	gaps    int     // records that may be lost
	repeats int     // times that what came may come again
}

// relayBugs are mistakes in what relays.
type relayBugs struct {
	gapIgnored   bool // that records are missing is not noticed
	noSweep      bool // another session is followed as if it were the same
	anySession   bool // records of a leader that was count
	eraIgnored   bool // a session of another era is followed
	foldsBack    bool // what a leader folds counts although this node has folded further
	foldsAtOnce  bool // and is not held
	partsWhole   bool // a part of a transaction is passed on as if it were all of it
	gapNotPassed bool // a leader goes on in its session although it has given something up
}

// Moves of a node that follows.
const (
	mEnter  = 'N' // it opens its machine to read from the log
	mGap    = 'g' // a record is lost
	mRepeat = 'R' // records come again
)

// startRelay makes node i pass on, or follow.
func (c *cluster) startRelay(i int) {
	if c.stream == nil {
		return
	}
	s := c.servers[i]
	if i < c.leaders {
		s.faults.expiries = 1
		return
	}
	s.relay = &relaying{c: c, from: c.stream, at: len(c.stream.records), bugs: c.relays, session: -1, gaps: 1, repeats: 1}
	if b := c.relays; b.foldsBack || b.foldsAtOnce {
		s.m = mutant{s.m.(*Machine), b.fold}
	}
}

// fold has the mistakes with what leaders fold.
func (b relayBugs) fold(m *Machine, now time.Time, in Input) ([]change.Txn, []Action) {
	ns, ok := in.(Notified)
	if !ok || len(ns.Notices) != 1 || ns.Notices[0].Folded == nil || !m.up {
		return m.Step(now, in)
	}
	to := ns.Notices[0].Folded
	if b.foldsAtOnce {
		m.fold(*to)
		return m.Step(now, Notified{})
	}
	if !m.debt && !m.sweep.barrier {
		m.f.Snapshot = change.Snapshot{}
	}
	return m.Step(now, in)
}

// pass appends what a leader has dispatched to the stream.
func (s *server) pass(in Input, txns []change.Txn) {
	c := s.c
	if c.stream == nil || s.relay != nil {
		return
	}
	put := func(n *Notice) {
		c.stream.records = append(c.stream.records, record{s.session, s.number, machineOf(s.m).era, n})
		s.number++
	}
	if x, ok := in.(Expired); ok && x.ID != 0 {
		s.expired = !c.relays.gapNotPassed
		if s.expired {
			return
		}
	}
	if _, ok := in.(Opened); ok && s.session == 0 {
		c.stream.sessions++
		s.session = c.stream.sessions
		put(nil)
	}
	if s.session == 0 {
		return
	}
	for _, t := range txns {
		t.Before = nil
		t.Whole = t.Whole || c.relays.partsWhole
		put(&Notice{Txn: &t})
	}
	if f := machineOf(s.m).Folded(); !f.Snapshot.Equal(s.folded) {
		s.folded = f.Snapshot
		put(&Notice{Folded: &f})
	}
}

// alive gives a leader that passes on; nil: there is none.
func (r *relaying) alive() *server {
	for _, s := range r.c.servers[:r.c.leaders] {
		if s.session != 0 && s.conn == open {
			return s
		}
	}
	return nil
}

func (n *node) relayMoves(out []move) []move {
	r := n.relay
	left := len(r.from.records) - r.at
	switch {
	case n.conn == listening:
		out = append(out, move{mOpen, 0})
	case n.conn == closed && (!n.firstOpen || machineOf(n.m).era != n.w.Era):
		out = append(out, move{mEnter, 0})
	case n.conn == closed && (left > 0 || r.alive() != nil):
		out = append(out, move{mListen, 0})
	case n.conn == open:
		for k := 1; k <= min(left, 3); k++ {
			out = append(out, move{mReceive, k})
		}
	}
	if n.faults.drops > 0 && n.conn != closed {
		out = append(out, move{mDrop, 0})
	}
	if n.faults.beats > 0 && left > 1 && r.gaps > 0 {
		out = append(out, move{mGap, 0})
	}
	if n.faults.beats > 0 && r.at > 2 && r.repeats > 0 {
		out = append(out, move{mRepeat, 0})
	}
	return out
}

// relayDo does a move that is of such nodes only.
func (n *node) relayDo(mv move) bool {
	r := n.relay
	switch mv.kind {
	case mEnter:
		n.gone = n.enter()
		r.mode = ModeRow{Busy, 1}
		n.open()
		n.conn = closed
		n.emit(Lost{})
	case mListen:
		if r.at == len(r.from.records) {
			s := r.alive()
			r.from.records = append(r.from.records, record{s.session, s.number, machineOf(s.m).era, nil})
			s.number++
		}
		n.hear()
	case mOpen:
		r.mode = ModeRow{}
		n.open()
	case mReceive:
		for k := mv.n; k > 0 && n.conn == open; k-- {
			n.hear()
		}
	case mGap:
		r.gaps--
		r.at++
	case mRepeat:
		r.repeats--
		r.at -= 2
	default:
		return false
	}
	return true
}

// hear reads one record.
func (n *node) hear() {
	r := n.relay
	rec := r.from.records[r.at]
	r.at++
	switch {
	case n.conn == closed, rec.session != r.session && rec.number == 0 && !r.bugs.noSweep:
	case rec.session != r.session && !r.bugs.noSweep && !r.bugs.anySession, rec.session == r.session && rec.number <= r.number:
		return
	case rec.session == r.session && rec.number > r.number+1 && !r.bugs.gapIgnored:
	default:
		r.session, r.number = rec.session, rec.number
		if rec.notice != nil {
			n.emit(Notified{Notices: []Notice{*rec.notice}})
		}
		return
	}
	r.session, r.number = rec.session, rec.number
	if rec.era != n.w.Era && !r.bugs.eraIgnored {
		n.lose()
		return
	}
	n.conn = listening
	n.gone = n.enter()
}

// relays runs the schedule of a seed with one or two nodes that relay, one or two that follow, and clients.
func relays(seed uint64, bugs relayBugs, trace func(string, ...any)) error {
	r := rand.New(rand.NewPCG(seed, 8))
	mood := newMood(r)
	c := &cluster{w: mvcctest.New(mood.writers(r)), relays: bugs, trace: trace, stream: &stream{}, leaders: 1 + r.IntN(2)}
	c.faults = clusterBudget{
		leaves: r.IntN(3), ticks: r.IntN(6), drops: r.IntN(3) * r.IntN(2), crashes: r.IntN(2) * r.IntN(2),
		restarts: r.IntN(4), overflows: r.IntN(2),
	}
	c.servers = make([]*server, c.leaders+1+r.IntN(2))
	for i := range c.servers {
		c.start(i)
	}
	for range r.IntN(3) {
		c.clients = append(c.clients, &client{c: c})
	}
	if modes := rand.New(rand.NewPCG(seed, 6)); modes.IntN(2) == 1 {
		c.w.Modes = newModes(modes, c.w)
		mood.weighModes(modes)
	}
	var buf []move
	for n := 3 * mood.length; n > 0 && c.err == nil; n-- {
		if buf = c.moves(buf[:0]); len(buf) == 0 {
			break
		}
		c.weigh(mood, false)
		c.do(mood.pick(r, buf))
	}
	c.settle()
	for _, s := range c.servers {
		if c.err == nil {
			c.err = s.oracle.rest(c.w)
		}
	}
	return c.err
}

// TestRelaySimulator drives nodes that relay and nodes that follow, with a broker that loses, repeats and mixes, through random
// schedules.
func TestRelaySimulator(t *testing.T) {
	t.Parallel()
	simulate(t, 1_500, func(seed uint64, trace func(string, ...any)) error { return relays(seed, relayBugs{}, trace) })
}

// TestRelaySimulatorFindsBugs shows that the simulator would find the mistakes that could be made in relaying.
func TestRelaySimulatorFindsBugs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		bugs relayBugs
		from uint64 // the seed to begin with, where those before it find nothing
	}{
		{"a gap is not noticed", relayBugs{gapIgnored: true}, 7_000},
		{"another session without a sweep", relayBugs{noSweep: true}, 1},
		{"records of a leader that was", relayBugs{anySession: true}, 2_600},
		{"another era", relayBugs{eraIgnored: true}, 27_000},
		{"folded back", relayBugs{foldsBack: true}, 1},
		{"folded at once", relayBugs{foldsAtOnce: true}, 1},
		{"parts passed on as whole transactions", relayBugs{partsWhole: true}, 300},
		{"a gap within a session", relayBugs{gapNotPassed: true}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := c.from; seed <= c.from+100_000; seed++ {
				if err := relays(seed, c.bugs, nil); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}

package subs

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

var (
	simSeed = flag.Uint64("sim.seed", 0, "replay the schedule of this seed, with a trace")
	simRuns = flag.Uint64("sim.runs", 300, "how many schedules are tried")
)

// sim is a database, its writers, nodes and clients. All of it happens in steps: what hubs do in the background goes on only when it
// is let. It runs in a bubble of testing/synctest.
type sim struct {
	w       *mvcctest.World
	nodes   []*simNode
	clients []*simClient
	faults  simFaults
	bugs    simBugs

	settling bool

	moments map[string]rowsMoment // by cursor
	dropped bool                  // something was lost, by the log or in a crash
	failed  bool                  // a read

	mu      sync.Mutex
	waiting []*gated
	r       *rand.Rand
	peek    int // so many Matches until a client reads in the middle of Dispatch
	err     error
	trace   func(string, ...any)
}

type simFaults struct{ leaves, ticks, drops, crashes, loses, failures, beats, rounds, errors, peeks int }

type simMove struct {
	kind byte
	i, k int
}

func (s *sim) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

// wait waits until the schedule lets it go on.
func (s *sim) wait(ctx context.Context, what string) error {
	h := &gated{what, make(chan error, 1)}
	s.mu.Lock()
	at, _ := slices.BinarySearchFunc(s.waiting, what, func(o *gated, what string) int { return strings.Compare(o.what, what) })
	s.waiting = slices.Insert(s.waiting, at, h)
	s.mu.Unlock()
	select {
	case err := <-h.next:
		return err
	case <-ctx.Done():
		s.mu.Lock()
		s.waiting = slices.DeleteFunc(s.waiting, func(o *gated) bool { return o == h })
		s.mu.Unlock()
		return ctx.Err()
	}
}

// Moves of the database, of the background and of clients.
const (
	sWrite  = 'w'
	sVictim = 'v'
	sTick   = 't'
	sTicked = 'T'
	sLet    = 'g'
	sError  = 'G'
	sDrop   = 'X'
	sCrash  = 'C'
	sNext   = 'n'
	sAttach = 'A'
	sLeave  = 'L'
	sPeek   = 'p'
	sMode   = 'm' // the leader
	sMayDo  = 'M' // and what it need not do
)

func (s *sim) moves(out []simMove) []simMove {
	w := s.w
	add := func(kind byte, i, k int) { out = append(out, simMove{kind, i, k}) }
	for i := range w.Writers {
		if w.Can(i) {
			add(sWrite, i, 0)
		} else if w.Deadlocked(i) {
			add(sVictim, i, 0)
		}
	}
	w.ModeMoves(func(mv mvcctest.ModeMove, must bool) {
		if must {
			add(sMode, 0, int(mv))
		} else {
			add(sMayDo, 0, int(mv))
		}
	})
	ready := len(w.Ticks) > 0 && !w.Ticking() || len(w.Ticks) > 1
	if w.Ticking() {
		add(sTicked, 0, 0)
	} else if s.faults.ticks > 0 || !ready || slices.ContainsFunc(s.nodes, func(n *simNode) bool { return n.ticking }) {
		add(sTick, 0, 0)
	}
	if !ready {
		return out
	}
	for i, n := range s.nodes {
		out = n.moves(out, i)
	}
	s.mu.Lock()
	background := len(s.waiting)
	s.mu.Unlock()
	for k := range background {
		add(sLet, 0, k)
		if s.faults.errors > 0 {
			add(sError, 0, k)
		}
	}
	for i, c := range s.clients {
		switch {
		case c.r == nil:
			for k, n := range s.nodes {
				if n.opened {
					add(sAttach, i, k)
				}
			}
		case c.isReady():
			add(sNext, i, 0)
		}
		if c.r != nil && s.faults.leaves > 0 {
			add(sLeave, i, 0)
		}
	}
	if s.faults.peeks > 0 && s.peek <= 0 {
		add(sPeek, 0, 0)
	}
	// A tick that was taken while something ran that is older than what is dropped would be dead at once, and with it all places.
	if s.faults.drops > 0 && len(w.Ticks[len(w.Ticks)-1].Snapshot.Xip) == 0 {
		for seq := w.Kept + 1; w.MayDrop(seq); seq++ {
			if !slices.ContainsFunc(s.nodes, func(n *simNode) bool { return !n.has(seq) }) {
				add(sDrop, 0, int(seq))
			}
		}
	}
	if s.faults.crashes > 0 {
		add(sCrash, 0, len(w.Ends))
		add(sCrash, 0, max(0, len(w.Ends)-2))
	}
	return out
}

func (s *sim) do(mv simMove) {
	if s.trace != nil {
		s.trace("%v", mv)
	}
	w := s.w
	switch mv.kind {
	case sWrite:
		w.Step(mv.i)
	case sVictim:
		w.Victim(mv.i)
	case sMode, sMayDo:
		w.DoMode(mvcctest.ModeMove(mv.k))
	case sTick:
		s.faults.ticks--
		w.BeginTick()
	case sTicked:
		w.CommitTick()
		for _, n := range s.nodes {
			if n.ticking {
				n.ticking = false
				n.emit(feed.Ticked{})
			}
		}
	case sLet:
		s.let(mv.k, nil)
	case sError:
		s.faults.errors--
		s.failed = true
		s.let(mv.k, errAway)
	case sPeek:
		s.faults.peeks--
		s.peek = 1 + s.r.IntN(4)
	case sDrop:
		s.faults.drops--
		s.dropped = true
		w.Drop(int64(mv.k))
	case sCrash:
		s.faults.crashes--
		s.failed = true
		s.crash(mv.k)
	case sAttach:
		s.clients[mv.i].attach(s.nodes[mv.k])
	case sLeave:
		s.faults.leaves--
		s.clients[mv.i].leave()
	case sNext:
		s.clients[mv.i].next(1 + s.r.IntN(4))
	default:
		s.nodes[mv.i].do(mv)
	}
	synctest.Wait()
}

func (s *sim) let(k int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.waiting[k]
	s.waiting = slices.Delete(s.waiting, k, k+1)
	if s.trace != nil {
		s.trace("    %s: %v", h.what, err)
	}
	h.next <- err
}

// crash ends the database's life. Where commits were lost, who had got them has something that never was.
func (s *sim) crash(keep int) {
	lost := s.w.Crash(keep)
	s.dropped = s.dropped || len(lost) > 0
	for at, m := range s.moments {
		for _, x := range lost {
			m.phantom = m.phantom || m.got[x] > 0
			delete(m.got, x)
		}
		s.moments[at] = m
	}
	for _, c := range s.clients {
		c.lose(lost)
	}
	for _, n := range s.nodes {
		n.crashed(lost)
	}
}

// settle lets all go on, until nothing is left to do.
func (s *sim) settle() {
	s.faults, s.settling, s.w.Modes.Still = simFaults{}, true, true
	var buf []simMove
	for rounds, steps := 0, 0; s.err == nil && rounds < 25; steps++ {
		if steps == 5_000 {
			s.fail("it never comes to rest")
		}
		if buf = s.moves(buf[:0]); len(buf) > 0 {
			s.do(buf[0])
			continue
		}
		rounds++
		s.faults.beats = len(s.nodes)
		pass(3 * time.Second)
	}
	for i, c := range s.clients {
		if s.err == nil {
			if err := c.rest(); err != nil {
				s.fail("client %d, in phase %d: %v", i, c.r.phase, err)
			}
		}
	}
}

// end takes all down, and looks what is left.
func (s *sim) end() {
	for _, c := range s.clients {
		c.leave()
	}
	for _, n := range s.nodes {
		if st := n.hub.Stats(); st.Readers != 0 || st.Groups != 0 || st.Joining != 0 {
			s.fail("all have left, and yet there is %+v", st)
		}
		n.hub.Close()
	}
}

// simulate runs the schedule of a seed.
func simulate(t *testing.T, seed uint64, bugs simBugs, trace func(string, ...any)) (err error) {
	synctest.Test(t, func(*testing.T) {
		r := rand.New(rand.NewPCG(seed, 5))
		s := &sim{w: mvcctest.New(simWriters(r)), bugs: bugs, r: r, trace: trace, moments: map[string]rowsMoment{}}
		s.faults = simFaults{
			leaves: r.IntN(6), ticks: r.IntN(6), drops: r.IntN(3) * r.IntN(2), crashes: r.IntN(2) * r.IntN(2), loses: r.IntN(2), failures: r.IntN(2),
			beats: r.IntN(6), rounds: r.IntN(6), errors: r.IntN(4), peeks: r.IntN(6),
		}
		if modes := rand.New(rand.NewPCG(seed, 6)); bugs == (simBugs{}) && modes.IntN(2) == 0 {
			s.w.Modes = mvcctest.Modes{
				On: true, First: mvcctest.ModeRow{Busy: true, Number: 1},
				Faults: mvcctest.ModeFaults{Cycles: 1 + modes.IntN(3), Crashes: modes.IntN(3), Losses: modes.IntN(3)},
			}
			if modes.IntN(2) == 0 {
				s.w.Modes.First.Busy, s.w.Modes.Leader, s.w.Modes.HasK = false, mvcctest.LeadsQuiet, true
			}
		}
		o := Options{PageRows: 1 + r.IntN(3), Logger: slog.New(slog.DiscardHandler), TailBytes: []int64{1, 5000, 1 << 20}[r.IntN(3)]}
		for range 1 + r.IntN(2) {
			s.nodes = append(s.nodes, s.newNode(o))
		}
		for range 1 + r.IntN(4) {
			s.clients = append(s.clients, newSimClient(s))
		}
		var weights [256]int
		for i := range weights {
			weights[i] = 1 + r.IntN(8)
		}
		for _, rare := range []byte{sError, sDrop, sCrash, sLose, sFail, sPulse, sRound, sLeave} {
			weights[rare] = 1
		}
		weights[sMode] += 20
		spiteful := r.IntN(3) == 0
		if spiteful {
			s.faults.leaves, s.faults.ticks, s.faults.drops = s.faults.leaves+4, s.faults.ticks+6, s.faults.drops+3
		}
		var buf []simMove
		for n := 50 + r.IntN(250); n > 0 && s.err == nil; n-- {
			if buf = s.moves(buf[:0]); len(buf) == 0 {
				break
			}
			if spiteful { // the log is emptied just when somebody is behind
				weights[sDrop] = 1
				if slices.ContainsFunc(s.clients, func(c *simClient) bool { return c.cursor != "" && (c.r == nil || c.r.phase == catching) }) {
					weights[sDrop] = 20
				}
			}
			sum := 0
			for _, mv := range buf {
				sum += weights[mv.kind]
			}
			pick := r.IntN(sum)
			for _, mv := range buf {
				if pick -= weights[mv.kind]; pick < 0 {
					s.do(mv)
					break
				}
			}
		}
		if s.err == nil {
			s.settle()
		}
		s.end()
		err = s.err
	})
	return err
}

func simWriters(r *rand.Rand) []mvcctest.Writer {
	kinds := []string{"i", "iiiil", "iiinsr", "iilnsr"}[r.IntN(4)]
	ws := make([]mvcctest.Writer, 1+r.IntN(3))
	for i := range ws {
		ws[i].Plans = make([]mvcctest.Plan, 1+r.IntN(4))
		for k := range ws[i].Plans {
			p := &ws[i].Plans[k]
			p.Abort, p.Stub = r.IntN(8) == 0, r.IntN(3) == 0
			p.Ops = make([]mvcctest.Op, r.IntN(6))
			for j := range p.Ops {
				p.Ops[j] = mvcctest.Op{Kind: mvcctest.Kind(kinds[r.IntN(len(kinds))]), Row: r.IntN(mvcctest.Rows)}
			}
		}
	}
	return ws
}

// TestHubSimulator drives clients of real hubs behind real machines through random schedules. A failure prints its seed.
func TestHubSimulator(t *testing.T) {
	if *simSeed != 0 {
		if err := simulate(t, *simSeed, simBugs{}, t.Logf); err != nil {
			t.Fatal(err)
		}
		return
	}
	first := rand.Uint64() >> 1
	for n := range *simRuns {
		for _, seed := range []uint64{1 + n, first + n} {
			if err := simulate(t, seed, simBugs{}, nil); err != nil {
				t.Fatalf("%v\nreplay: go test ./internal/subs -run TestHubSimulator$ -v -sim.seed=%d", err, seed)
			}
		}
	}
}

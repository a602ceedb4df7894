package feed

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

var (
	simSeed = flag.Uint64("sim.seed", 0, "replay the schedule of this seed, with a trace")
	simTime = flag.Duration("sim.time", 400*time.Millisecond, "how long schedules of random seeds are tried")
)

// TestSimulator drives the machine through random schedules. A failure prints its seed; -sim.seed replays it.
func TestSimulator(t *testing.T) {
	t.Parallel()
	simulate(t, 3_000, func(seed uint64, trace func(string, ...any)) error { return schedule(New(), seed, driverBugs{}, trace) })
}

// simulate runs so many schedules of fixed seeds, and for a while of random ones; with -sim.seed only that one, with a trace.
func simulate(t *testing.T, fixed uint64, schedule func(seed uint64, trace func(string, ...any)) error) {
	if *simSeed != 0 {
		if err := schedule(*simSeed, t.Logf); err != nil {
			t.Fatal(err)
		}
		return
	}
	name := t.Name()
	run := func(t *testing.T, first uint64, until func(n uint64) bool) {
		start, n := time.Now(), uint64(0)
		for ; !until(n); n++ {
			if err := schedule(first+n, nil); err != nil {
				t.Fatalf("seed %d: %v\nreplay: go test ./internal/feed -run %s -v -sim.seed=%d", first+n, err, name, first+n)
			}
		}
		t.Logf("%d schedules, %.0f a minute", n, float64(n)/time.Since(start).Minutes())
	}
	t.Run("fixed", func(t *testing.T) {
		run(t, 1, func(n uint64) bool { return n == fixed })
	})
	t.Run("random", func(t *testing.T) {
		end := time.Now().Add(*simTime)
		run(t, rand.Uint64()>>1, func(n uint64) bool { return n%100 == 0 && time.Now().After(end) })
	})
}

// schedule runs the schedule of a seed and returns what was wrong.
func schedule(m stepper, seed uint64, bugs driverBugs, trace func(string, ...any)) error {
	r := rand.New(rand.NewPCG(seed, 1))
	mood := newMood(r)
	if real := machineOf(m); mood.small {
		real.limits.heldNotices, real.limits.frontier, real.limits.late = 2, 2, 1
	}
	s := newSim(m, mood.writers(r), mood.faults)
	s.faults.expiries = rand.New(rand.NewPCG(seed, 4)).IntN(4) / 2
	s.bugs, s.trace = bugs, trace
	if modes := rand.New(rand.NewPCG(seed, 6)); bugs.with.on(modes) {
		s.w.Modes = newModes(modes, s.w)
		s.w.Modes.Bugs = bugs.modes
		s.faults.beats += modes.IntN(4)
		s.cuts = bugs == (driverBugs{}) && modes.IntN(2) == 0
		mood.weighModes(modes)
	}
	var buf []move
	for n := mood.length; n > 0 && s.err == nil; n-- {
		if buf = s.moves(buf[:0]); len(buf) == 0 {
			break
		}
		s.do(mood.pick(r, buf))
	}
	s.settle()
	return s.err
}

// with says in how many schedules there are modes.
type with byte

const (
	someModes with = iota
	noModes
	modesOnly
)

func (w with) on(r *rand.Rand) bool { return w == modesOnly || w == someModes && r.IntN(2) == 1 }

// newModes is a database with modes, and with some writers that prepare.
func newModes(r *rand.Rand, w *mvcctest.World) mvcctest.Modes {
	m := mvcctest.Modes{On: true, First: mvcctest.ModeRow{Busy: true, Number: 1}}
	if r.IntN(2) == 0 {
		m.First.Busy, m.Leader, m.HasK = false, mvcctest.LeadsQuiet, true
	}
	m.Faults = mvcctest.ModeFaults{Cycles: 1 + r.IntN(3), Crashes: r.IntN(3), Losses: r.IntN(4), Strangers: r.IntN(2) * r.IntN(3)}
	if r.IntN(3) == 0 {
		for i := range w.Writers {
			for k := range w.Writers[i].Plans {
				w.Writers[i].Plans[k].Prepare = r.IntN(3) == 0
			}
		}
	}
	return m
}

// weighModes makes the leader quick, some of the time quicker than the writers, and lets what is prepared wait.
func (m *mood) weighModes(r *rand.Rand) {
	m.weights[mMode], m.weights[mMayDo], m.weights[mPrepared] = 4+r.IntN(16), 1+r.IntN(12), 1
	if r.IntN(3) == 0 {
		m.weights[mWrite] = 1 + r.IntN(4)
	}
}

// sim is one node and the writers of its database.
type sim struct{ *node }

func newSim(m stepper, writers []mvcctest.Writer, faults budget) sim {
	return sim{newNode(mvcctest.New(writers), m, faults)}
}

// Moves of writers.
const (
	mWrite  = 'w' // writer n does its next thing
	mVictim = 'v' // writer n is rolled back, to end a deadlock

	mPrepared = 'q' // what writer n has prepared is committed
	mMode     = 'm' // the leader or a stranger does n
	mMayDo    = 'M' // and need not
)

// moves lists what can happen next.
func (s sim) moves(out []move) []move {
	return s.node.moves(worldMoves(s.w, out))
}

// worldMoves lists what can happen to the database next.
func worldMoves(w *mvcctest.World, out []move) []move {
	for i := range w.Writers {
		switch {
		case w.Prepared(i):
			out = append(out, move{mPrepared, i})
		case w.Can(i):
			out = append(out, move{mWrite, i})
		case w.Deadlocked(i):
			out = append(out, move{mVictim, i})
		}
	}
	w.ModeMoves(func(mv mvcctest.ModeMove, must bool) {
		if must {
			out = append(out, move{mMode, int(mv)})
		} else {
			out = append(out, move{mMayDo, int(mv)})
		}
	})
	return out
}

func (s sim) do(mv move) {
	if s.trace != nil {
		s.trace("%s", s.describe(mv))
	}
	switch mv.kind {
	case mWrite, mPrepared:
		s.w.Step(mv.n)
	case mVictim:
		s.w.Victim(mv.n)
	case mMode, mMayDo:
		s.w.DoMode(mvcctest.ModeMove(mv.n))
	default:
		s.node.do(mv)
	}
}

// settle lets everything end: no more faults, every writer to its end, the heart beating until nothing is left to do.
func (s sim) settle() {
	s.faults, s.w.Modes.Still, s.coarse = budget{}, true, false
	var buf []move
	const (
		idleBeats = 12 // a second each: beyond the time between sweeps of an idle log
		beats     = 30
	)
	for n, steps := 0, 0; s.err == nil && steps < 3_000; steps++ {
		buf = s.moves(buf[:0])
		if s.sweeps() {
			buf = slices.DeleteFunc(buf, func(mv move) bool { return mv.kind == mRead || mv.kind == mAnswer })
		}
		if len(buf) > 0 {
			s.do(buf[0])
			continue
		}
		if n++; n > beats || n > idleBeats && s.atRest() {
			break
		}
		if s.sweep.id != 0 {
			if !s.sweep.read {
				s.do(move{mRead, 0})
			}
			s.do(move{mAnswer, 0})
		}
		s.do(move{mPulse, 0})
	}
	if s.err == nil {
		s.err = s.oracle.rest(s.w)
	}
	if s.err == nil && !s.atRest() {
		s.err = fmt.Errorf("not at rest: %+v", s.m.Stats())
	}
}

func (s sim) atRest() bool {
	st := s.m.Stats()
	return st.State == Listening && st.Held == 0 && st.Frontier == 0 && (s.sweep.id == 0 || s.sweeps()) && s.inMode()
}

// mood is what the schedules of a seed have much of.
type mood struct {
	small   bool // the machine's limits
	length  int
	weights [256]int // of kinds of move
	kinds   string   // of ops
	stubs   bool
	faults  budget
}

func newMood(r *rand.Rand) *mood {
	m := &mood{small: r.IntN(3) == 0, stubs: r.IntN(3) == 0, length: 20 + r.IntN(120)}
	m.kinds = []string{"i", "iiiil", "iiinsr", "il", "iilnsr"}[r.IntN(5)]
	m.faults = budget{drops: r.IntN(3), deaths: r.IntN(2), failures: r.IntN(3), beats: r.IntN(8)}
	for i := range m.weights {
		m.weights[i] = 1 + r.IntN(8)
	}
	for k := range len(rare) {
		m.weights[rare[k]] = 1
	}
	m.weights[mWrite] += 8
	return m
}

const rare = string(mDrop) + string(mDie) + string(mFail) + string(mExpire)

func (m *mood) writers(r *rand.Rand) []mvcctest.Writer {
	ws := make([]mvcctest.Writer, 1+r.IntN(4))
	for i := range ws {
		ws[i].Plans = make([]mvcctest.Plan, 1+r.IntN(4))
		for k := range ws[i].Plans {
			p := &ws[i].Plans[k]
			p.Abort, p.Stub = r.IntN(8) == 0, m.stubs && r.IntN(2) == 0
			p.Ops = make([]mvcctest.Op, r.IntN(5))
			for j := range p.Ops {
				p.Ops[j] = mvcctest.Op{Kind: mvcctest.Kind(m.kinds[r.IntN(len(m.kinds))]), Row: r.IntN(mvcctest.Rows)}
			}
		}
	}
	return ws
}

func (m *mood) pick(r *rand.Rand, moves []move) move {
	sum := 0
	for _, mv := range moves {
		sum += m.weights[mv.kind]
	}
	n := r.IntN(sum)
	for _, mv := range moves {
		if n -= m.weights[mv.kind]; n < 0 {
			return mv
		}
	}
	panic("unreachable")
}

func (s sim) describe(mv move) string {
	switch mv.kind {
	case mWrite, mVictim, mPrepared:
		wr := &s.w.Writers[mv.n]
		if wr.Tx < 0 {
			return fmt.Sprintf("writer %d begins %d", mv.n, s.w.Next)
		}
		if s.w.Untried(mv.n) {
			return fmt.Sprintf("writer %d tries K", mv.n)
		}
		p, t := wr.Plans[wr.Done], &s.w.Txs[wr.Tx]
		switch {
		case mv.kind == mVictim || p.Abort && wr.PC == len(p.Ops):
			return fmt.Sprintf("writer %d rolls %d back", mv.n, t.XID)
		case wr.PC < len(p.Ops):
			return fmt.Sprintf("writer %d in %d: %c row %d", mv.n, t.XID, p.Ops[wr.PC].Kind, p.Ops[wr.PC].Row)
		case t.State == mvcctest.Running && len(t.Notices) > 0:
			return fmt.Sprintf("writer %d queues the notifications of %d", mv.n, t.XID)
		}
		return fmt.Sprintf("writer %d commits %d: %v", mv.n, t.XID, t.Seqs)
	case mMode, mMayDo:
		return mvcctest.ModeMove(mv.n).String()
	case mRead:
		return fmt.Sprintf("sweep reads under %v", s.w.Snapshot())
	}
	return map[byte]string{
		mListen: "LISTEN", mOpen: "listener is open", mReceive: fmt.Sprintf("%d notices arrive", mv.n),
		mAnswer: "sweep answers", mBeat: "heart beats", mClose: "connection is closed as asked", mDrop: "connection is lost",
		mDie: "connection is half-open", mFail: "sweep fails", mPulse: "heartbeat reads", mTry: "heartbeat tries K",
		mExpire: fmt.Sprintf("sweep finds the log emptied, under %v", s.w.Snapshot()),
	}[mv.kind]
}

func describe(t change.Txn) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", t.XID)
	if t.Continued {
		b.WriteString(" …")
	}
	for _, c := range t.Changes {
		fmt.Fprintf(&b, " %d", c.Seq)
	}
	if t.Stub != nil {
		fmt.Fprintf(&b, " stub (%d, %d]", t.Stub.AfterSeq, t.Stub.LastSeq)
	}
	return b.String()
}

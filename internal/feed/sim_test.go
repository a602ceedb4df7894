package feed

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

var (
	simSeed = flag.Uint64("sim.seed", 0, "replay the schedule of this seed, with a trace")
	simTime = flag.Duration("sim.time", 700*time.Millisecond, "how long schedules of random seeds are tried")
)

// TestSimulator drives the machine through random schedules. A failure prints its seed; -sim.seed replays it.
func TestSimulator(t *testing.T) {
	t.Parallel()
	if *simSeed != 0 {
		if err := schedule(New(), *simSeed, driverBug{}, t.Logf); err != nil {
			t.Fatal(err)
		}
		return
	}
	run := func(t *testing.T, first uint64, until func(n uint64) bool) {
		start, n := time.Now(), uint64(0)
		for ; !until(n); n++ {
			if err := schedule(New(), first+n, driverBug{}, nil); err != nil {
				t.Fatalf("seed %d: %v\nreplay: go test ./internal/feed -run TestSimulator -v -sim.seed=%d", first+n, err, first+n)
			}
		}
		t.Logf("%d schedules, %.0f a minute", n, float64(n)/time.Since(start).Minutes())
	}
	t.Run("fixed", func(t *testing.T) {
		run(t, 1, func(n uint64) bool { return n == 5_000 })
	})
	t.Run("random", func(t *testing.T) {
		end := time.Now().Add(*simTime)
		run(t, rand.Uint64()>>1, func(n uint64) bool { return n%100 == 0 && time.Now().After(end) })
	})
}

// schedule runs the schedule of a seed and returns what was wrong.
func schedule(m stepper, seed uint64, bugs driverBug, trace func(string, ...any)) error {
	r := rand.New(rand.NewPCG(seed, 1))
	mood := newMood(r)
	if real := machineOf(m); real != nil && mood.small {
		real.limits.heldNotices, real.limits.frontier, real.limits.late = 2, 2, 1
	}
	s := newSim(m, mood.writers(r), mood.faults)
	s.driverBug, s.trace = bugs, trace
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

const rare = string(mDrop) + string(mDie) + string(mFail)

func (m *mood) writers(r *rand.Rand) []writer {
	ws := make([]writer, 1+r.IntN(4))
	for i := range ws {
		ws[i].plans = make([]plan, 1+r.IntN(4))
		for k := range ws[i].plans {
			p := &ws[i].plans[k]
			p.abort, p.stub = r.IntN(8) == 0, m.stubs && r.IntN(2) == 0
			p.ops = make([]op, r.IntN(5))
			for j := range p.ops {
				p.ops[j] = op{m.kinds[r.IntN(len(m.kinds))], r.IntN(rowCount)}
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

func (s *sim) describe(mv move) string {
	switch mv.kind {
	case mWrite, mVictim:
		wr := &s.writers[mv.n]
		if wr.tx < 0 {
			return fmt.Sprintf("writer %d begins %d", mv.n, s.next)
		}
		p, t := wr.plans[wr.done], &s.txs[wr.tx]
		switch {
		case mv.kind == mVictim || p.abort && wr.pc == len(p.ops):
			return fmt.Sprintf("writer %d rolls %d back", mv.n, t.xid)
		case wr.pc < len(p.ops):
			return fmt.Sprintf("writer %d in %d: %c row %d", mv.n, t.xid, p.ops[wr.pc].kind, p.ops[wr.pc].row)
		case t.state == running && len(t.notices) > 0:
			return fmt.Sprintf("writer %d queues the notifications of %d", mv.n, t.xid)
		}
		return fmt.Sprintf("writer %d commits %d: %v", mv.n, t.xid, t.seqs)
	case mRead:
		return fmt.Sprintf("sweep reads under %v", s.snapshot())
	}
	return map[byte]string{
		mListen: "LISTEN", mOpen: "listener is open", mReceive: fmt.Sprintf("%d notices arrive", mv.n),
		mAnswer: "sweep answers", mBeat: "heart beats", mClose: "connection is closed as asked", mDrop: "connection is lost",
		mDie: "connection is half-open", mFail: "sweep fails", mPulse: "heartbeat reads",
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

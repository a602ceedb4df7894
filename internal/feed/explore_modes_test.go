package feed

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/notifyql/notifyql/internal/mvcctest"
)

var simDeep = flag.Bool("sim.deep", false, "explore the larger worlds with modes too: minutes")

// modeWorld is a small world with modes.
type modeWorld struct {
	name    string
	writers string // their transactions, with spaces between: a, b and c are rows, s is a savepoint, r goes back to it, p prepares
	faults  mvcctest.ModeFaults
	node    budget
	quiet   bool // at first
	closed  bool // at first there is no leader, and the node is not open
	deep    bool // explored with -sim.deep only
}

// sim is the world with a node that has begun, or not.
func (mw modeWorld) sim(m stepper, bugs driverBugs) sim {
	var ws []mvcctest.Writer
	var p mvcctest.Plan
	flush := func() { ws, p = append(ws, mvcctest.Writer{Plans: []mvcctest.Plan{p}}), mvcctest.Plan{} }
	for _, c := range mw.writers {
		switch c {
		case ' ':
			flush()
		case 's', 'r':
			p.Ops = append(p.Ops, mvcctest.Op{Kind: mvcctest.Kind(c)})
		case 'p':
			p.Prepare = true
		default:
			p.Ops = append(p.Ops, mvcctest.Op{Kind: mvcctest.Inline, Row: int(c - 'a')})
		}
	}
	flush()
	s := newSim(m, ws, mw.node)
	s.bugs, s.coarse = bugs, true
	s.w.Modes = mvcctest.Modes{On: true, First: mvcctest.ModeRow{Busy: !mw.quiet, Number: 1}, Faults: mw.faults, Bugs: bugs.modes}
	if !mw.closed {
		s.w.Modes.Leader, s.w.Modes.HasK = mvcctest.Elected, mw.quiet
		if mw.quiet {
			s.w.Modes.Leader = mvcctest.LeadsQuiet
		}
		s.do(move{mListen, 0})
		s.do(move{mOpen, 0})
	}
	return s
}

// schedule lets the world go the way of a seed.
func (mw modeWorld) schedule(m stepper, seed uint64, bugs driverBugs) error {
	r := rand.New(rand.NewPCG(seed, 8))
	s := mw.sim(m, bugs)
	var buf []move
	for n := 200; n > 0 && s.err == nil; n-- {
		if buf = s.moves(buf[:0]); len(buf) == 0 {
			break
		}
		s.do(buf[r.IntN(len(buf))])
	}
	s.settle()
	return s.err
}

// TestEveryScheduleOfModes explores all interleavings of small worlds in which the leader goes quiet, goes busy, lets K go, dies.
func TestEveryScheduleOfModes(t *testing.T) {
	t.Parallel()
	type faults = mvcctest.ModeFaults
	for _, mw := range []modeWorld{
		{name: "two of one row, and the leader dies", writers: "a a", faults: faults{Crashes: 1}, quiet: true, deep: true},
		{name: "two of one row, and the leader lets K go", writers: "a a", faults: faults{Losses: 1}, quiet: true},
		{name: "two rows, and the leader dies", writers: "a ba", faults: faults{Crashes: 1}, quiet: true, deep: true},
		{name: "two rows, and the leader lets K go", writers: "a ba", faults: faults{Losses: 1}, quiet: true, deep: true},
		{name: "to quiet", writers: "a ba", faults: faults{Cycles: 1}, deep: true},
		{name: "to busy and back", writers: "a a", faults: faults{Cycles: 1, Losses: 1}, quiet: true, deep: true},
		{name: "to quiet, and the leader dies", writers: "a a", faults: faults{Cycles: 1, Crashes: 1}, deep: true},
		{name: "a node begins", writers: "a a", faults: faults{Cycles: 1}, closed: true, deep: true},
		{name: "the connection is lost", writers: "a a", faults: faults{Crashes: 1}, node: budget{drops: 1}, quiet: true, deep: true},
		{name: "prepared", writers: "ap a", faults: faults{Cycles: 1}, deep: true},
		{name: "a savepoint rolled back", writers: "sara a", faults: faults{Cycles: 1}, deep: true},
		{name: "a stranger", writers: "a a", faults: faults{Crashes: 1, Strangers: 1}, quiet: true, deep: true},
		{name: "three", writers: "ab b a", faults: faults{Crashes: 1}, quiet: true, deep: true},
	} {
		if mw.deep && !*simDeep {
			continue
		}
		t.Run(mw.name, func(t *testing.T) {
			t.Parallel()
			states, ends, err := explore(mw.sim(New(), driverBugs{}))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states, %d ends", states, ends)
		})
	}
}

// TestModes drives worlds like those through random schedules.
func TestModes(t *testing.T) {
	t.Parallel()
	worlds := []string{"a ba", "ab b a", "aba bab c", "ap ab a", "sara a ba", "asbra bsar b", "abc p"}
	for seed := range uint64(2_000) {
		r := rand.New(rand.NewPCG(seed, 9))
		mw := modeWorld{writers: worlds[r.IntN(len(worlds))], quiet: r.IntN(2) == 0, closed: r.IntN(2) == 0}
		mw.faults = mvcctest.ModeFaults{Cycles: r.IntN(3), Crashes: r.IntN(3), Losses: r.IntN(3), Strangers: r.IntN(2)}
		mw.node = budget{drops: r.IntN(2), deaths: r.IntN(2), failures: r.IntN(2)}
		if err := mw.schedule(New(), seed, driverBugs{}); err != nil {
			t.Fatalf("seed %d, %+v: %v", seed, mw, err)
		}
	}
}

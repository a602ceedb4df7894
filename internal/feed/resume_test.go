package feed

import (
	"math/rand/v2"
	"testing"

	"github.com/notifyql/notifyql/internal/mvcctest"
)

// TestResumeSimulator drives clients that leave and resume, at nodes that come and go, through random schedules.
func TestResumeSimulator(t *testing.T) {
	t.Parallel()
	simulate(t, 1_500, func(seed uint64, trace func(string, ...any)) error { return resumes(seed, clusterBugs{}, trace) })
}

// resumes runs the schedule of a seed with one or two nodes and clients.
func resumes(seed uint64, bugs clusterBugs, trace func(string, ...any)) error {
	r := rand.New(rand.NewPCG(seed, 2))
	mood := newMood(r)
	c := &cluster{w: mvcctest.New(mood.writers(r)), bugs: bugs, trace: trace}
	c.faults = clusterBudget{
		leaves: 1 + r.IntN(4), ticks: r.IntN(6), drops: r.IntN(3) * r.IntN(2), crashes: r.IntN(2) * r.IntN(2),
		restarts: r.IntN(2), overflows: r.IntN(2),
	}
	c.servers = make([]*server, 1+r.IntN(2))
	for i := range c.servers {
		c.start(i)
	}
	for range 1 + r.IntN(2) {
		c.clients = append(c.clients, &client{c: c})
	}
	spiteful := rand.New(rand.NewPCG(seed, 3)).IntN(2) == 1
	if spiteful {
		c.faults.leaves, c.faults.drops, c.faults.ticks = c.faults.leaves+4, c.faults.drops+1, c.faults.ticks+4
	}
	if modes := rand.New(rand.NewPCG(seed, 6)); bugs.with.on(modes) {
		c.w.Modes = newModes(modes, c.w)
		mood.weighModes(modes)
	}
	var buf []move
	for n := 2 * mood.length; n > 0 && c.err == nil; n-- {
		if buf = c.moves(buf[:0]); len(buf) == 0 {
			break
		}
		c.weigh(mood, spiteful)
		c.do(mood.pick(r, buf))
	}
	c.settle()
	return c.err
}

// weigh makes what need not happen rare, or, if spiteful, likely just when somebody reads the log.
func (c *cluster) weigh(mood *mood, spiteful bool) {
	for _, kind := range []byte{mLeave, mDropSlot, mCrash, mRestart, mOverflow} {
		mood.weights[kind] = 1
	}
	if !spiteful {
		return
	}
	for _, cl := range c.clients {
		switch {
		case cl.unread:
			mood.weights[mLeave], mood.weights[mOverflow] = 20, 20
		case cl.state == catching && len(cl.page) == 0:
			mood.weights[mDropSlot] = 20
		}
	}
}

// resumeRegressions are schedules in which something was wrong once, with the mistake that it was.
var resumeRegressions = []struct {
	seed    uint64
	mistake clusterBugs
}{
	{1096952829053900756, clusterBugs{keptUnchecked: true}},
}

// TestResumeRegressions replays what was found, and shows that these schedules are still those.
func TestResumeRegressions(t *testing.T) {
	t.Parallel()
	for _, r := range resumeRegressions {
		if err := resumes(r.seed, clusterBugs{}, nil); err != nil {
			t.Errorf("seed %d: %v", r.seed, err)
		}
		if resumes(r.seed, r.mistake, nil) == nil {
			t.Errorf("seed %d does not find %+v any more: look for another seed that does", r.seed, r.mistake)
		}
	}
}

// TestResumeSimulatorFindsBugs shows that the simulator would find the mistakes that could be made with cursors.
func TestResumeSimulatorFindsBugs(t *testing.T) {
	t.Parallel()
	for name, bugs := range map[string]clusterBugs{
		"cursor given out before its change":        {cursorEarly: true},
		"a tick used before the frontier covers it": {tickHeardOf: true},
		"a stub counted as seen":                    {stubSeen: true},
		"part taken for whole":                      {partWhole: true},
		"era ignored":                               {eraIgnored: true},
		"retention looks at what came after only":   {retention: true},
		"retention looked at before reading":        {checkedFirst: true},
		"another era entered without a look":        {unverified: true},
		"another era entered with all xids":         {notRewound: true},
		"a place kept before it was checked":        {keptUnchecked: true},
		"live without a sweep of the node":          {noJoin: true},
		"interval by xid":                           {intervalXID: true},
		"forgotten with the next tick":              {beyondLost: true},
		"seq taken for the canonical order":         {rightHere: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bugs.with = noModes
			for seed := uint64(1); seed <= 100_000; seed++ {
				if err := resumes(seed, bugs, nil); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}

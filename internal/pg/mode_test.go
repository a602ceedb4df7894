package pg

import (
	"testing"
	"time"
)

// writing is what the leader sees: from a time on, writers that commit so often, and so many of them waiting in each sample.
type writing struct {
	from    time.Duration
	rate    float64
	waiting int
	queue   float64
}

// play gives the policy a sample each 25 ms, and returns when it changes its mind.
func play(mode Mode, during time.Duration, story ...writing) (turns []time.Duration) {
	p := policy{busy: true}
	began := time.Unix(1000, 0)
	seen, busy := 0.0, true
	for at := time.Duration(0); at < during; at += lookBusily {
		for len(story) > 1 && at >= story[1].from {
			story = story[1:]
		}
		now := story[0]
		seen += now.rate * lookBusily.Seconds()
		waiting := now.waiting
		if busy { // silent transactions don't wait
			waiting = 0
		}
		if b := p.next(sample{at: began.Add(at), mode: mode, seen: int64(seen), waiting: waiting, queue: now.queue}); b != busy {
			busy = b
			turns = append(turns, at)
		}
	}
	return turns
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	const s, ms = time.Second, time.Millisecond
	for _, c := range []struct {
		name  string
		mode  Mode
		story []writing
		// at each turn, the earliest and the latest time; the first is to quiet
		turns [][2]time.Duration
	}{
		{"nothing is written", Auto, []writing{{}}, [][2]time.Duration{{0, 0}}},
		{"few writers that never meet", Auto, []writing{{}, {from: 2 * s, rate: 2000}}, [][2]time.Duration{{0, 0}}},
		{
			"a burst", Auto,
			[]writing{{}, {from: 2 * s, rate: 3000, waiting: 30}, {from: 4 * s}},
			[][2]time.Duration{{0, 0}, {2 * s, 2*s + 100*ms}, {5 * s, 6 * s}},
		},
		{
			"two writers that meet all the time", Auto,
			[]writing{{}, {from: 2 * s, rate: 800, waiting: 1}, {from: 3 * s, rate: 10}},
			[][2]time.Duration{{0, 0}, {2 * s, 2*s + 100*ms}, {4 * s, 5*s + 100*ms}},
		},
		{"load that stays: quiet is tried, more and more seldom", Auto, []writing{{rate: 3000, waiting: 30}}, [][2]time.Duration{
			{0, 0},
			{0, 100 * ms},
			{5 * s, 5*s + 200*ms},
			{5 * s, 5*s + 300*ms},
			{15 * s, 15*s + 500*ms},
			{15 * s, 15*s + 600*ms},
			{35 * s, 36 * s},
			{35 * s, 36 * s},
		}},
		{
			"load of one alone: the trial shows that quiet does not hurt", Auto,
			[]writing{{rate: 3000, waiting: 30}, {from: s, rate: 2000}},
			[][2]time.Duration{{0, 0}, {0, 100 * ms}, {5 * s, 5*s + 200*ms}},
		},
		{
			"a foreign listener fills the queue", Auto,
			[]writing{{}, {from: s, queue: 0.3}, {from: 3 * s, queue: 0.2}, {from: 5 * s, queue: 0.01}},
			[][2]time.Duration{{0, 0}, {s, s}, {5 * s, 6 * s}},
		},
		{"pinned quiet", Quiet, []writing{{rate: 3000, waiting: 30}}, [][2]time.Duration{{0, 0}}},
		{"pinned quiet, and the queue is filled", Quiet, []writing{{}, {from: s, queue: 0.3}, {from: 2 * s}}, [][2]time.Duration{{0, 0}, {s, s}, {2 * s, 2 * s}}},
		{"pinned busy", Busy, []writing{{}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			turns := play(c.mode, 40*s, c.story...)
			if len(turns) != len(c.turns) {
				t.Fatalf("it turns at %v, want %v", turns, c.turns)
			}
			for i, at := range turns {
				if at < c.turns[i][0] || at > c.turns[i][1] {
					t.Errorf("turn %d is at %v, want %v", i, at, c.turns[i])
				}
			}
		})
	}
}

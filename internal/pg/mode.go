package pg

import (
	"fmt"
	"time"
)

// Mode is how changes reach the nodes.
type Mode byte

// The modes.
const (
	Auto  Mode = iota // as is better for what is written now
	Quiet             // in notifications: soonest, but one notifying transaction commits at a time
	Busy              // by reading the log every few milliseconds: writers don't wait for each other
)

var modeNames = [...]string{"auto", "quiet", "busy"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode is the mode of that name; the error lists them.
func ParseMode(name string) (Mode, error) {
	for m, n := range modeNames {
		if n == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("the mode %q is none of auto, quiet and busy", name)
}

// sample is what the leader sees of the writers at one moment.
type sample struct {
	at      time.Time
	mode    Mode    // that is to be kept
	seen    int64   // transactions that reached this node so far
	waiting int     // sessions that wait for the lock under which notifying transactions commit
	queue   float64 // of Postgres's notification queue, the part in use, from 0 to 1
}

// The policy's bounds.
const (
	queueFull   = 0.25 // from here on nothing more is put into the queue
	queueEmpty  = 0.10 // and below this again
	crowd       = 4    // sessions waiting, summed over the samples of crowdTime, that show that writers are held up
	crowdTime   = 150 * time.Millisecond
	slack       = 100.0           // transactions a second at which quiet can't hurt
	calm        = time.Second     // over which they are counted
	trialFirst  = 5 * time.Second // busy for so long at a higher rate: it is tried whether quiet would hurt
	trialMost   = time.Minute     // between two trials that failed
	trialPassed = 2 * time.Second // quiet for so long: the trial did not fail
)

// policy says whether the stream ought to be busy. Its owner gives it one sample after the other.
type policy struct {
	busy    bool
	since   time.Time // of busy, or of not busy
	counted sample    // from which the rate is counted
	rate    float64   // transactions a second, counted last
	crowds  []sample  // of the last crowdTime
	full    bool      // the queue
	trial   time.Duration
}

// next takes a sample and says whether the stream ought to be busy now.
func (p *policy) next(s sample) bool {
	if p.counted.at.IsZero() {
		p.counted = s
	}
	if d := s.at.Sub(p.counted.at); d >= calm {
		p.rate = float64(s.seen-p.counted.seen) / d.Seconds()
		p.counted = s
	}
	for len(p.crowds) > 0 && s.at.Sub(p.crowds[0].at) > crowdTime {
		p.crowds = p.crowds[1:]
	}
	p.crowds = append(p.crowds, s)
	p.full = s.queue >= queueFull || p.full && s.queue > queueEmpty

	var busy bool
	switch {
	case p.full || s.mode == Busy:
		busy = true
	case s.mode == Quiet:
		busy = false
	case p.busy:
		busy = !p.may(s)
	default:
		busy = p.crowded()
	}
	if busy != p.busy || p.since.IsZero() {
		if busy && s.mode == Auto {
			p.failed(s)
		}
		p.busy, p.since = busy, s.at
		p.counted, p.crowds = s, nil
	}
	return busy
}

// crowded reports whether writers wait for each other, to commit.
func (p *policy) crowded() bool {
	waiting := 0
	for _, s := range p.crowds {
		waiting += s.waiting
	}
	return waiting >= crowd
}

// may reports whether quiet is worth a try. Nothing shows while busy whether writers would hold each other up: so where many
// transactions come, that is tried, now and then.
func (p *policy) may(s sample) bool {
	if s.at.Sub(p.since) < calm || !p.counted.at.After(p.since) {
		return false
	}
	return p.rate < slack || s.at.Sub(p.since) >= p.trial
}

// failed counts a time of quiet that has just come to its end as a trial.
func (p *policy) failed(s sample) {
	if p.trial == 0 || s.at.Sub(p.since) >= trialPassed {
		p.trial = trialFirst
		return
	}
	p.trial = min(2*p.trial, trialMost)
}

package subs

import (
	"testing"
	"testing/synctest"

	"github.com/notifyql/notifyql/internal/change"
)

// onePlay runs f with a client of a plan.
func onePlay(t *testing.T, plan told, f func(s *stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{play: newPlay(Options{})}
		s.l.commit(3)
		plan.p, plan.every = s.play, 1
		s.f = &follower{p: s.play, told: plan}
		s.clients = append(s.clients, s.f)
		f(s)
		s.settle()
		if s.end(); s.err != nil {
			t.Error(s.err)
		}
	})
}

func TestARoundWakesWhoHasNothingElseToRead(t *testing.T) {
	onePlay(t, told{}, func(s *stage) {
		s.nodes[0].dispatch(100, false)
		s.come(false)
		s.nodes[0].h.Round()
		if s.f.syncs = 1; !s.f.next(1) {
			t.Error("it was not told")
		}
	})
}

// A reader that waits for the end of a batch is woken at it, also where the rest of its transaction is a stub and nothing comes behind.
func TestWhoWaitsForTheEndOfABatchIsWoken(t *testing.T) {
	onePlay(t, told{batch: true}, func(s *stage) {
		other := &follower{p: s.play, told: s.f.told}
		s.clients = append(s.clients, other)
		other.attach(s.nodes[0], false)
		s.resume()
		node := s.nodes[0]
		node.dispatch(1, false)
		node.h.Joined(1, node.pos.Point())
		node.dispatch(0, true)
		s.f.next(1)
		if !node.h.Unsettled() {
			t.Error("nobody waits")
		}
		node.h.Settle()
		if s.f.next(1); s.f.r.phase != catching {
			t.Errorf("it is in phase %d", s.f.r.phase)
		}
	})
}

// telling is a plan in the middle of whose frames something happens.
type telling struct {
	told
	meanwhile func()
}

func (p *telling) EncodeSynced(at *change.Point) []byte {
	p.meanwhile()
	return p.told.EncodeSynced(at)
}

// What is dispatched while a reader is in Next, behind where it has looked, wakes it.
func TestAWakeDuringNextIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(Options{})
		p.l.commit(2)
		node, woken := p.nodes[0], false
		plan := &telling{told{p: p, every: 1}, func() { node.dispatch(100, false) }}
		r, err := node.h.Attach(plan, who("a"), Start{}, func() { woken = true })
		if err != nil {
			t.Fatal(err)
		}
		node.h.Round()
		woken = false
		frames, err := r.Next(nil, 10)
		if len(frames) != 1 || err != nil || !woken {
			t.Errorf("%q, %v, woken %v", frames, err, woken)
		}
		r.Close()
		p.end()
	})
}

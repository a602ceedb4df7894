package subs

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// onSnapshot runs f with so many clients that ask for the same rows at once.
func onSnapshot(t *testing.T, o Options, clients int, f func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.PageRows = 2
		s := &stage{play: newPlay(o)}
		s.l.commit(20)
		for range clients {
			f := &follower{p: s.play, told: told{p: s.play, every: 1}}
			s.clients = append(s.clients, f)
			f.attach(s.nodes[0], true)
			synctest.Wait()
		}
		s.f = s.clients[0]
		f(s)
		if s.end(); s.err != nil {
			t.Error(s.err)
		}
	})
}

// reads is how many reads of rows wait to begin.
func (s *stage) reads() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.waiting {
		if g.what == "rows" {
			n++
		}
	}
	return n
}

func TestEqualGroupsShareRows(t *testing.T) {
	onSnapshot(t, Options{}, 5, func(s *stage) {
		if n := s.reads(); n != 1 {
			t.Errorf("%d reads of the same rows", n)
		}
		for s.let(0, nil) {
			synctest.Wait()
		}
		late := &follower{p: s.play, told: s.f.told}
		late.attach(s.nodes[0], true)
		s.clients = append(s.clients, late)
		synctest.Wait()
		if n := s.reads(); n != 0 {
			t.Error("who came a little later does not share them")
		}
		<-time.After(sharedFor)
		synctest.Wait()
		last := &follower{p: s.play, told: s.f.told}
		last.attach(s.nodes[0], true)
		s.clients = append(s.clients, last)
		synctest.Wait()
		if n := s.reads(); n != 1 {
			t.Error("old rows are shared")
		}
		s.l.commit(2)
		s.settle()
	})
}

// Whenever the one for whom rows are read leaves, the others get all of them.
func TestTheOwnerLeaves(t *testing.T) {
	for _, kept := range []int64{1, 100, 4 << 20} {
		for moment := range 12 {
			for _, took := range []int{0, 2} {
				onSnapshot(t, Options{SnapshotBytes: kept}, 3, func(s *stage) {
					for range moment {
						s.goOn(nil)
						s.f.next(took)
						synctest.Wait()
					}
					s.f.leave()
					s.clients = s.clients[1:]
					s.l.commit(2)
					s.settle()
				})
			}
		}
	}
}

// An error in the middle of rows ends the one who has got some of them. The others get all.
func TestRowsAreInterrupted(t *testing.T) {
	for _, owner := range []string{"stays", "leaves before it is told", "has got nothing"} {
		onSnapshot(t, Options{}, 3, func(s *stage) {
			s.goOn(nil)
			if owner != "has got nothing" {
				s.f.next(1)
			}
			s.goOn(errAway)
			switch owner {
			case "stays":
				s.f.wake()
				if _, err := s.f.r.Next(nil, 10); !errors.Is(err, ErrInterrupted) {
					t.Errorf("%s: it ends with %v", owner, err)
				}
				s.f.leave()
				s.clients = s.clients[1:]
			case "leaves before it is told":
				s.f.leave()
				s.clients = s.clients[1:]
			}
			s.failed = false // nobody else is to be interrupted
			s.settle()
		})
	}
}

// The same where the rows are too many to be kept, and nobody has got any yet.
func TestManyRowsAreReadAgain(t *testing.T) {
	onSnapshot(t, Options{SnapshotBytes: 1}, 2, func(s *stage) {
		s.goOn(nil)
		s.failed = false
		s.settle()
	})
	onSnapshot(t, Options{SnapshotBytes: 30}, 1, func(s *stage) {
		s.goOn(nil) // so many that reading waits only behind the next page
		s.goOn(errAway)
		s.failed = false
		s.settle()
	})
}

func TestRowsThatCannotBegin(t *testing.T) {
	onSnapshot(t, Options{SnapshotRows: 19}, 3, func(s *stage) {
		for range 10 {
			s.goOn(nil)
		}
		for _, s.f = range s.clients {
			s.ends(ErrTooManyRows)
			s.f.leave()
		}
	})
	onSnapshot(t, Options{}, 3, func(s *stage) {
		s.goOn(change.ErrUnreadable)
		for _, s.f = range s.clients {
			s.ends(change.ErrUnreadable)
			s.f.leave()
		}
	})
}

// Rows that are too many to be kept wait for a slow client. What is kept of them is bounded, and others get theirs meanwhile.
func TestASlowOwnerOfManyRows(t *testing.T) {
	const limit = 100
	onSnapshot(t, Options{SnapshotBytes: limit, Snapshots: 2}, 2, func(s *stage) {
		slow := s.f
		for s.clients = s.clients[1:]; s.let(0, nil); {
			synctest.Wait()
		}
		rows := slow.r.rows
		rows.mu.Lock()
		if kept := rows.bytes; !rows.large || kept > limit+2*(frameBytes+4) {
			t.Errorf("%d bytes are kept, large %v", kept, rows.large)
		}
		rows.mu.Unlock()
		s.settle()
		if slow.last != 0 {
			t.Error("the slow one has read")
		}
		s.clients = append(s.clients, slow)
		s.settle()
	})
}

// A subscription is told where it is when it was not told since: also one that just then read the log.
func TestARoundReachesWhoCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{play: newPlay(Options{TailBytes: 1})}
		s.f = &follower{p: s.play, told: told{p: s.play, every: 1}}
		s.clients = append(s.clients, s.f)
		s.come(false)
		for range 2 {
			s.l.commit(2)
			s.nodes[0].dispatch(100, false)
		}
		s.f.next(100)
		if s.f.r.phase != joining {
			t.Fatalf("it is in phase %d", s.f.r.phase)
		}
		s.nodes[0].h.Round()
		s.f.syncs++
		s.settle()
		if s.f.syncs != 0 {
			t.Error("it was not told")
		}
		if s.end(); s.err != nil {
			t.Error(s.err)
		}
	})
}

// A batch of which a part was given to nobody yet is given whole, and who joins then gets what comes behind it.
func TestJoiningInTheMiddleOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{play: newPlay(Options{})}
		plan := told{p: s.play, every: 1, batch: true}
		s.f = &follower{p: s.play, told: plan}
		other := &follower{p: s.play, told: plan}
		s.clients = []*follower{s.f, other}
		s.l.commit(1)
		s.nodes[0].dispatch(100, false)
		s.nodes[0].h.Settle()
		other.attach(s.nodes[0], false)
		s.resume()
		s.nodes[0].begin()
		s.l.commit(2)
		s.nodes[0].dispatch(1, false)
		s.nodes[0].answer()
		if s.f.next(10); s.f.r.phase != joining || other.next(10) {
			t.Errorf("a part of a batch was sent, or joined: phase %d", s.f.r.phase)
		}
		s.nodes[0].dispatch(1, false)
		if !s.nodes[0].h.Unsettled() {
			t.Error("nobody waits")
		}
		s.nodes[0].h.Settle()
		if other.next(10); other.last != 3 || other.part {
			t.Errorf("the other is at %d", other.last)
		}
		s.settle()
		if s.end(); s.err != nil {
			t.Error(s.err)
		}
	})
}

package subs

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// stage is a play of one client that has come to some phase.
type stage struct {
	*play
	f *follower
}

// come lets the client come.
func (s *stage) come(rows bool) {
	s.f.attach(s.nodes[0], rows)
	synctest.Wait()
	s.f.next(1)
	synctest.Wait()
}

// join answers those who wait for a sweep.
func (s *stage) join() {
	s.nodes[0].begin()
	for s.nodes[0].dispatch(100, false) {
	}
	s.nodes[0].answer()
	s.f.next(1)
	synctest.Wait()
}

// resume lets the client come with a cursor that all of the log follows.
func (s *stage) resume() {
	s.f.cursor, s.f.last = change.Cursor{Tick: memTick.Stamp, Era: 1}.String(), 0
	s.come(false)
}

// go lets one thing go on, or fail.
func (s *stage) goOn(err error) {
	s.let(0, err)
	synctest.Wait()
}

var errChanged = errors.New("the table changed")

// phases lead a client to where it waits for something, or for nothing.
var phases = []struct {
	name string
	o    Options
	plan told
	lead func(s *stage)
}{
	{name: "live", lead: func(s *stage) { s.come(false) }},
	{name: "rows are to be read", lead: func(s *stage) { s.come(true) }},
	{name: "rows wait for a turn", o: Options{Snapshots: 1}, lead: func(s *stage) {
		s.nodes[0].h.rowing <- struct{}{}
		s.come(true)
		<-s.nodes[0].h.rowing
	}},
	{name: "rows are being read", lead: func(s *stage) {
		s.come(true)
		s.goOn(nil)
		s.f.next(1)
	}},
	{name: "rows could not be read", lead: func(s *stage) {
		s.come(true)
		s.goOn(errAway)
	}},
	{name: "too many rows to keep", o: Options{SnapshotBytes: 1}, lead: func(s *stage) {
		s.come(true)
		s.goOn(nil)
	}},
	{name: "joining", lead: func(s *stage) { s.resume() }},
	{name: "joined", lead: func(s *stage) {
		s.resume()
		s.nodes[0].begin()
		s.nodes[0].dispatch(100, false)
		s.nodes[0].answer()
	}},
	{name: "catching up", lead: func(s *stage) {
		s.resume()
		s.join()
	}},
	{name: "in the middle of a page", lead: func(s *stage) {
		s.resume()
		s.join()
		s.goOn(nil)
		s.f.next(1)
	}},
	{name: "the log can't be read", lead: func(s *stage) {
		s.resume()
		s.join()
		s.goOn(errAway)
	}},
	{name: "another era", lead: func(s *stage) {
		s.resume()
		s.join()
		s.goOn(change.ErrOtherEra)
	}},
	{name: "a large transaction", lead: func(s *stage) {
		s.come(false)
		s.nodes[0].dispatch(0, true)
		s.f.next(1)
		synctest.Wait()
	}},
	{name: "in the middle of a large transaction", lead: func(s *stage) {
		s.come(false)
		s.nodes[0].dispatch(0, true)
		s.f.next(1)
		synctest.Wait()
		s.goOn(nil)
		s.f.next(1)
	}},
	{name: "an open batch", plan: told{batch: true}, lead: func(s *stage) {
		s.come(false)
		s.nodes[0].dispatch(1, false)
		s.f.next(1)
	}},
	{name: "a resolver", plan: told{blocks: true}, lead: func(s *stage) {
		s.come(false)
		s.nodes[0].dispatch(2, false)
		s.f.next(1)
		synctest.Wait()
	}},
}

// onEachStage runs f with a client that has come to each of the phases, and looks that nothing is left behind.
func onEachStage(t *testing.T, f func(s *stage)) {
	for _, ph := range phases {
		t.Run(ph.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := ph.o
				o.PageRows = 2
				s := &stage{play: newPlay(o)}
				s.l.commit(7)
				plan := ph.plan
				plan.p, plan.every = s.play, 1
				s.f = &follower{p: s.play, told: plan}
				s.clients = append(s.clients, s.f)
				ph.lead(s)
				f(s)
				s.look()
				s.end()
				synctest.Wait()
				if len(s.waiting) > 0 {
					s.fail("%s is still under way", s.waiting[0].what)
				}
				if s.err != nil {
					t.Error(s.err)
				}
			})
		})
	}
}

// ends pulls until the reader ends, while what is in the background may go on, and looks that it is woken for that.
func (s *stage) ends(want error) {
	for tries := 0; tries < 100; tries++ {
		s.f.mu.Lock()
		ready := s.f.ready
		s.f.ready = false
		s.f.mu.Unlock()
		if ready {
			frames, err := s.f.r.Next(nil, 100)
			if len(frames) == 100 {
				s.f.wake()
			}
			if err != nil {
				if _, again := s.f.r.Next(nil, 100); !errors.Is(err, want) || !errors.Is(again, want) {
					s.fail("it ended with %v and then %v, not with %v", err, again, want)
				}
				return
			}
		}
		s.goOn(nil)
		pass(3 * time.Second)
	}
	s.fail("it never ends")
}

func TestAReaderLeavesInEachPhase(t *testing.T) {
	onEachStage(t, func(s *stage) {
		s.f.leave()
		for _, err := range []error{errAway, nil, nil, nil} { // what was under way ends, and comes to nobody
			s.goOn(err)
			pass(3 * time.Second)
		}
	})
}

func TestTheHubClosesInEachPhase(t *testing.T) {
	onEachStage(t, func(s *stage) {
		s.nodes[0].h.Close()
		s.ends(ErrClosed)
	})
}

func TestAPlanEndsInEachPhase(t *testing.T) {
	onEachStage(t, func(s *stage) {
		s.nodes[0].h.Recheck(func(Plan) error { return errChanged })
		s.ends(errChanged)
	})
}

// From each phase a reader gets on to the end, and another one of its group that comes then too.
func TestAllGoOnFromEachPhase(t *testing.T) {
	onEachStage(t, func(s *stage) {
		other := &follower{p: s.play, told: s.f.told}
		s.clients = append(s.clients, other)
		other.attach(s.nodes[0], s.f.rows)
		s.l.commit(3)
		s.settle()
	})
}

// Another one comes just when the last has left and the log could not be read for him.
func TestAPageThatWasGivenUpIsReadAnew(t *testing.T) {
	for _, ph := range phases {
		if ph.name != "catching up" {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			s := &stage{play: newPlay(Options{})}
			s.l.commit(7)
			s.f = &follower{p: s.play, told: told{p: s.play, every: 1}}
			s.clients = append(s.clients, s.f)
			ph.lead(s)
			g := s.f.r.g
			g.mu.Lock() // as it is in the middle of Close
			g.readers = nil
			g.mu.Unlock()
			s.goOn(errAway)
			g.mu.Lock()
			g.readers = append(g.readers, s.f.r)
			g.mu.Unlock()
			other := &follower{p: s.play, told: s.f.told, cursor: s.f.cursor}
			s.clients = []*follower{other}
			other.attach(s.nodes[0], false)
			s.f.leave()
			s.settle()
			if s.end(); s.err != nil {
				t.Error(s.err)
			}
		})
	}
}

// What ends a reader that resumes ends it for good, and no other.
func TestWhatCannotBeResumed(t *testing.T) {
	for _, want := range []error{change.ErrCursorExpired, change.ErrCursorInvalid} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{play: newPlay(Options{})}
			s.l.commit(7)
			s.f = &follower{p: s.play, told: told{p: s.play, every: 1}}
			other := &follower{p: s.play, told: s.f.told}
			s.clients = append(s.clients, other)
			s.resume()
			s.join()
			other.attach(s.nodes[0], false)
			s.goOn(want)
			s.ends(want)
			s.f.leave()
			s.l.commit(1)
			s.settle()
			if s.end(); s.err != nil {
				t.Error(s.err)
			}
		})
	}
}

// A reader that the tail left behind, and one that resumes, ends where there are no places any more.
func TestNoPlacesAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{play: newPlay(Options{})}
		s.f = &follower{p: s.play, told: told{p: s.play, every: 1}}
		s.l.commit(7)
		s.resume()
		s.nodes[0].h.Joined(1, nil)
		s.ends(ErrOverflow)
		s.f.leave()
		s.nodes[0].h.Dispatch(nil, nil)
		if _, err := s.nodes[0].h.Attach(&s.f.told, who("a"), Start{Rows: &change.Query{}}, func() {}); !errors.Is(err, ErrNoHistory) {
			t.Errorf("attached with %v", err)
		}
		if s.end(); s.err != nil {
			t.Error(s.err)
		}
	})
}

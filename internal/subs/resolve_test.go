package subs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/notifyql/notifyql/internal/change"
)

// resolved is a plan whose resolver serves several changes with a call, and notes how many.
type resolved struct {
	numbers
	together int

	mu    sync.Mutex
	calls []int
	under int // calls that have not returned
	most  int
}

func (p *resolved) Blocks() bool  { return true }
func (p *resolved) Key() string   { return fmt.Sprint("resolved ", p.low) }
func (p *resolved) Together() int { return p.together }

func (p *resolved) EncodeAll(ctx context.Context, ms []Matched) [][]byte {
	p.mu.Lock()
	p.calls = append(p.calls, len(ms))
	p.under++
	p.most = max(p.most, p.under)
	p.mu.Unlock()
	select {
	case <-p.gate:
	case <-ctx.Done():
	}
	quick := numbers{topic: p.topic, low: p.low}
	frames := make([][]byte, len(ms))
	for i := range ms {
		frames[i] = quick.Encode(ctx, &ms[i].Match, ms[i].Effect)
	}
	p.mu.Lock()
	p.under--
	p.mu.Unlock()
	return frames
}

func inserted(from, to int) (frames []string) {
	for n := from; n <= to; n++ {
		frames = append(frames, fmt.Sprintf("1:->%d", n))
	}
	return frames
}

// One call serves what waits, up to a bound, for all readers of the group; and so many calls are under way at once, and no more.
func TestOneCallServesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{})
		defer h.Close()
		p := &resolved{numbers: numbers{topic: orders, gate: make(chan struct{})}, together: 10}
		one, two := attach(t, h, p, who("a")), attach(t, h, p, who("a"))
		h.Dispatch(inserts(1, 1, 96), nil)
		one.nothing(t)
		two.nothing(t)
		synctest.Wait()
		if !slices.Equal(p.calls, []int{10, 10, 10, 10}) {
			t.Errorf("calls for %v", p.calls)
		}
		close(p.gate)
		equal(t, one.take(t, 95), inserted(1, 95)...)
		equal(t, two.take(t, 95), inserted(1, 95)...)
		if total := len(p.calls); total != 10 || p.most != maxWorking {
			t.Errorf("%d calls, %d at once", total, p.most)
		}
	})
}

// While a resolver hangs, others read what is in the log only, and the rows that they begin with.
func TestResolversKeepNobodyFromReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{History: large(50), Background: 1, PageRows: 20})
		defer h.Close()
		hangs := &resolved{numbers: numbers{topic: orders, gate: make(chan struct{})}, together: 10}
		first := attach(t, h, hangs, who("a"))
		other := attach(t, h, &numbers{topic: orders}, who("a"))
		h.Dispatch(stub(), nil)
		first.nothing(t)
		synctest.Wait()
		if len(hangs.calls) == 0 {
			t.Error("the resolver was not called")
		}
		equal(t, other.take(t, 50), inserted(0, 49)...)
		close(hangs.gate)
		equal(t, first.take(t, 50), inserted(0, 49)...)
	})
	synctest.Test(t, func(t *testing.T) {
		l := &memlog{era: 1}
		s := newSource(l, Options{Snapshots: 1, PageRows: 20})
		defer s.h.Close()
		l.commit(50)
		hangs := &resolved{numbers: numbers{topic: orders, gate: make(chan struct{})}, together: 10}
		begin := func(p Plan) *client {
			return attachAt(t, s.h, p, who("a"), Start{Rows: &change.Query{Watch: orders.Watch}})
		}
		first := begin(hangs)
		synctest.Wait()
		if len(hangs.calls) == 0 {
			t.Error("the resolver was not called")
		}
		other := begin(&numbers{topic: orders})
		stand := func() (frames []string) {
			for n := 1; n <= 50; n++ {
				frames = append(frames, fmt.Sprintf("%d:->%d", Stands, n))
			}
			return frames
		}
		equal(t, other.take(t, 50), stand()...)
		close(hangs.gate)
		equal(t, first.take(t, 50), stand()...)
	})
}

// Nobody is left for whom a resolver works: its context ends.
func TestTheLastReaderEndsTheResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{})
		defer h.Close()
		p := &resolved{numbers: numbers{topic: orders, gate: make(chan struct{})}, together: 1}
		one, two := attach(t, h, p, who("a")), attach(t, h, p, who("a"))
		h.Dispatch(inserts(1, 1, 3), nil)
		one.nothing(t)
		synctest.Wait()
		one.Close()
		synctest.Wait()
		if p.under == 0 {
			t.Error("it ends while somebody waits for it")
		}
		two.Close()
		synctest.Wait()
		if p.under != 0 {
			t.Errorf("%d calls go on for nobody", p.under)
		}
	})
}

package ws

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// However many come, and however long each takes, they get their share of the time and what was saved before; each gets its turn.
func TestBudget(t *testing.T) {
	for _, takes := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBudget(0.5)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			var done [50]atomic.Int64
			for i := range done {
				all.Go(func() {
					for b.Do(ctx, func() { <-time.After(takes) }) == nil {
						done[i].Add(1)
					}
				})
			}
			const during = 10 * time.Second
			<-time.After(during) // of the bubble
			stop()
			all.Wait()
			total, least := int64(0), done[0].Load()
			for i := range done {
				total, least = total+done[i].Load(), min(least, done[i].Load())
			}
			costs := max(takes, workLeast)
			spent := time.Duration(total) * costs
			// Who was let in at the same moment is charged when it has come to its end.
			if most := during/2 + workSaved + time.Duration(len(done))*costs; spent > most || spent < during/2-workSaved {
				t.Errorf("of %v each: %v were spent in %v", takes, spent, during)
			}
			if fair := total / int64(len(done)); least < fair*9/10 {
				t.Errorf("of %v each: one had %d turns, others %d", takes, least, fair)
			}
		})
	}
}

func TestBudgetOfWhoHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1)
		for range 1000 {
			_ = b.Do(t.Context(), func() { <-time.After(time.Millisecond) })
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Microsecond)
		defer stop()
		b.Charge(time.Minute)
		if err := b.Do(ctx, func() { t.Error("called") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		var none *Budget
		called := false
		if err := none.Do(ctx, func() { called = true }); err != nil || !called {
			t.Error("without a budget there is no bound", err)
		}
	})
}

// endless sends frames for ever.
type endless struct {
	net.Conn
	sent int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p { // one ping after the other, empty and without a mask
		p[i] = []byte{finPing, 0}[(e.sent+i)%2]
	}
	e.sent += len(p)
	return len(p), nil
}

// Of a peer that goes on sending when it is told that it is closed no more is read than one who is innocent may have sent.
func TestAFloodAfterTheEnd(t *testing.T) {
	t.Parallel()
	one, other := net.Pipe()
	defer other.Close()
	from := &endless{Conn: one}
	w := newWire(from, nil)
	w.in.left.Store(refusedBytes)
	w.in.closing.Store(true)
	for {
		if _, err := w.Read(make([]byte, 100)); errors.Is(err, errFlood) {
			break
		} else if err != nil || from.sent > 2*refusedBytes {
			t.Fatalf("%d bytes were read: %v", from.sent, err)
		}
	}
	if from.sent > refusedBytes+closingRead {
		t.Errorf("%d bytes were read", from.sent)
	}
}

package ws

import (
	"context"
	"sync"
	"time"
)

// Budget is how much of the processors' time may go into what clients send: what is left is for what is sent to them, however many send as
// fast as they can. Whoever comes when it is used up waits for it, one after the other. Nil bounds nothing.
//
// Time is charged as it passes, so that of a machine that is busy with something else they get less.
type Budget struct {
	share float64 // processors

	mu  sync.Mutex
	due time.Time // when all is worked off that was let in
}

const (
	// workLeast is charged for anything: what it costs to read a message, and to be woken for it, is not seen here.
	workLeast = 20 * time.Microsecond
	// workMost is charged for anything: beyond it, something else had the processor.
	workMost = 10 * time.Millisecond
	// workSaved is how much may be used at once after a calm.
	workSaved = 100 * time.Millisecond
)

// NewBudget gives clients' messages the time of so many processors, 0.5 of half a one.
func NewBudget(processors float64) *Budget { return &Budget{share: processors} }

// Do waits until there is time for it, and calls f. If ctx is done before, it gives ctx's error and does not. f should not wait for anything:
// that is charged as well.
func (b *Budget) Do(ctx context.Context, f func()) error {
	if b == nil {
		f()
		return nil
	}
	if wait := time.Until(b.Charge(workLeast)); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	began := time.Now()
	f()
	if more := min(time.Since(began), workMost) - workLeast; more > 0 {
		b.Charge(more)
	}
	return nil
}

// Charge returns when the work before was worked off.
func (b *Budget) Charge(work time.Duration) (due time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if saved := time.Now().Add(-workSaved); b.due.Before(saved) {
		b.due = saved
	}
	due = b.due
	b.due = due.Add(time.Duration(float64(work) / b.share))
	return due
}

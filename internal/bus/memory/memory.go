// Package memory is the bus of one process: published events go to the feed and nowhere else. It keeps nothing: what
// is published before anybody subscribes is gone, as with any bus that has no log.
//
// Publish gives each event a transaction of its own, numbered in the order of publishing. Everything that a snapshot of
// the bus sees has been emitted, since both are made under one lock.
package memory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// Bus is an in-process bus. Use New.
type Bus struct {
	sweeps chan int
	ready  chan struct{} // closed once Run has opened the feed

	mu    sync.Mutex // held over emit: order of xids is order of emission
	emit  func(feed.Input)
	next  change.XID
	ended bool
}

// New returns a Bus.
func New() *Bus {
	return &Bus{sweeps: make(chan int, 1), ready: make(chan struct{}), next: 1}
}

// Run opens the feed and serves it until ctx ends.
func (b *Bus) Run(ctx context.Context, emit func(feed.Input)) error {
	b.mu.Lock()
	if b.emit != nil {
		b.mu.Unlock()
		return errors.New("memory bus: Run was called before; make a bus for each server")
	}
	b.emit = emit
	emit(feed.Opened{Snapshot: b.snapshot()})
	b.mu.Unlock()
	close(b.ready)
	for {
		select {
		case id := <-b.sweeps:
			b.mu.Lock()
			emit(feed.Swept{ID: id, Snapshot: b.snapshot()})
			b.mu.Unlock()
		case <-ctx.Done():
			b.mu.Lock()
			b.ended = true
			b.mu.Unlock()
			return nil
		}
	}
}

func (b *Bus) snapshot() change.Snapshot { return change.Snapshot{Xmin: b.next, Xmax: b.next} }

// Do carries out an action of the feed. There is no log: a sweep finds nothing.
func (b *Bus) Do(a feed.Action) {
	if s, ok := a.(feed.Sweep); ok {
		b.sweeps <- s.ID // the feed has one sweep under way at most
	}
}

// Publish emits the event c: its Topic, Tenant, Shared, EventType and New are the caller's to set. It waits until the
// bus runs or ctx ends.
func (b *Bus) Publish(ctx context.Context, c change.Change) error {
	select {
	case <-b.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errors.New("memory bus: the server has ended")
	}
	c.XID, c.Seq, c.At, c.Op = b.next, int64(b.next), time.Now(), change.Event
	b.next++
	b.emit(feed.Notified{Notices: []feed.Notice{{Change: c}}})
	return nil
}

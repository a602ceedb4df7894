package memory

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

var clock = time.Unix(1_000_000, 0)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a bus with the real machine behind it.
type node struct {
	*Bus
	mu      sync.Mutex
	machine *feed.Machine
	got     []change.Change
	done    chan error
	stop    context.CancelFunc
}

func run(t *testing.T) *node {
	n := &node{Bus: New(), machine: feed.New(), done: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	n.stop = stop
	go func() { n.done <- n.Run(ctx, n.emit) }()
	t.Cleanup(stop)
	return n
}

func (n *node) emit(in feed.Input) {
	n.mu.Lock()
	defer n.mu.Unlock()
	txns, actions := n.machine.Step(clock, in)
	for _, t := range txns {
		n.got = append(n.got, t.Changes...)
	}
	for _, a := range actions {
		n.Do(a)
	}
}

// More events than the frontier lists before it is folded, from several publishers, all arrive once.
func TestEveryEventArrivesOnce(t *testing.T) {
	n := run(t)
	const publishers, each = 8, 4000
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				err := n.Publish(t.Context(), change.Change{Topic: change.Topic{Channel: "c"}, Tenant: "a", Leaf: uint32(p), OldTID: change.TID{Block: uint32(i)}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	if len(n.got) != publishers*each {
		t.Fatalf("%d of %d arrived", len(n.got), publishers*each)
	}
	next := map[uint32]uint32{} // each publisher's events come in its order
	for i, c := range n.got {
		if c.OldTID.Block != next[c.Leaf] || c.Op != change.Event || c.Seq != int64(i+1) {
			t.Fatalf("event %d is %+v", i, c)
		}
		next[c.Leaf]++
	}
	if n.machine.Stats().Sweeps == 0 {
		t.Error("the frontier was never folded")
	}
}

func TestPublishWaitsForTheBusAndEndsWithIt(t *testing.T) {
	idle := New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := idle.Publish(ctx, change.Change{}); !errors.Is(err, context.Canceled) {
		t.Errorf("on a bus that does not run: %v", err)
	}
	n := run(t)
	if err := n.Publish(t.Context(), change.Change{}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	if err := n.Publish(t.Context(), change.Change{}); err == nil {
		t.Error("published to a bus that has ended")
	}
	if err := n.Run(t.Context(), n.emit); err == nil {
		t.Error("the bus ran twice")
	}
}

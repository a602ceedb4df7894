// Package relay carries what one node dispatches to all nodes, through a broker's stream.
//
// One node, the leader, reads the database with a machine of its own, a session, and appends what that dispatches. Every node follows
// the stream with its machine, as if what comes were notified. The broker is trusted with nothing: records are numbered and
// sealed, and where one is missing, or another session begins, a node sweeps, as after any loss of a listener. While nothing is
// heard a node reads the log itself. docs/delivery.md has the invariants.
package relay

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/pg"
)

// The times that the two ends go by.
const (
	keepAlive       = 100 * time.Millisecond // between records at most
	suspicion       = 250 * time.Millisecond // without a record, after which another leader is sought
	silence         = time.Second            // after which the session is given up
	foreignTime     = 10 * time.Second       // for which a record that is not ours is said to be there
	openTimeout     = 5 * time.Second
	appendTimeout   = 2 * time.Second
	farewellTimeout = 200 * time.Millisecond
)

// Config is what a Relay is made from.
type Config struct {
	Stream bus.Stream

	// OnSettled is called when all has been emitted of every transaction of which some has.
	OnSettled func()

	Log *slog.Logger
}

// Relay is a node's part in a broker's stream: it follows, and leads if elected.
type Relay struct {
	config    Config
	source    *pg.Source
	eras      chan struct{} // a value: the database may be in another era
	reachable *gate         // open while the stream can be read
	following atomic.Bool
	sessions  atomic.Int64
	key       atomic.Pointer[[]byte]
}

// New returns a relay that is to be run.
func New(c Config) *Relay {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Relay{config: c, eras: make(chan struct{}, 1), reachable: newGate()}
}

// Run runs source, the node's database, which has Relayed set and OnEra of this relay, and emits what happens until ctx is done, all
// goroutines ended then. emit may be called by several of them.
func (r *Relay) Run(ctx context.Context, source *pg.Source, emit func(feed.Input)) error {
	r.source = source
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		f := follower{Relay: r, emit: emit}
		f.run(ctx)
	})
	wg.Go(func() { source.Lead(ctx, r.reachable.wait, r.reign) })
	return source.Run(ctx, emit)
}

// OnEra is for pg.Config.OnEra.
func (r *Relay) OnEra() {
	select {
	case r.eras <- struct{}{}:
	default:
	}
}

// Settle reports whether OnSettled will be called: the leader says when, without being asked.
func (r *Relay) Settle() bool { return r.following.Load() }

// Following reports whether changes come through the broker now. If not, this node reads them from the log.
func (r *Relay) Following() bool { return r.following.Load() }

// Sessions is how many readings for others this node has begun.
func (r *Relay) Sessions() int64 { return r.sessions.Load() }

// gate lets through while it is open.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if !open {
			g.open = make(chan struct{})
		}
	default:
		if open {
			close(g.open)
		}
	}
}

// wait returns nil when the gate is open, or else what ended ctx.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package subs

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// group is the subscriptions with an equal plan and equal tenants.
type group struct {
	hub     *Hub
	key     groupKey
	plan    Plan
	batcher Batcher // not nil: frames are whole transactions
	id      *auth.Identity

	touched bool   // is in Hub.woken; guarded by Hub.mu
	open    *batch // what has come of the transaction that is being received; if batcher. Written under both locks

	mu      sync.Mutex
	base    int64 // the place of the oldest entry
	entries deque[*entry]
	readers []*Reader
	pages   []*page // newest last; a few
	ended   error

	snapshots map[string]*snapshot // that others may share, by query
	synced    []byte               // the frame that says so of syncedAt
	syncedAt  *change.Point
}

// entry is one matched change, or a stub, in a group's list.
type entry struct {
	rec      *record
	size     int64 // as counted in rec, but for entryBytes
	effect   Effect
	change   *change.Change
	old, new *change.Row

	xid   change.XID // of a stub
	stub  *change.Stub
	begun bool // an incomplete batch of its transaction was sent before

	batch *batch // a transaction, of which change is the last

	once    sync.Once
	frame   []byte
	started atomic.Bool // an encoding in the background has begun
	ready   atomic.Bool // and is done
}

func (g *group) tenants() []string { return tenantsOf(g.id) }

func tenantsOf(id *auth.Identity) []string {
	ts := make([]string, 0, len(id.Tenants))
	for _, t := range id.Tenants {
		if t != "" && !slices.Contains(ts, t) {
			ts = append(ts, t)
		}
	}
	return ts
}

// evict drops the entries of rec, the oldest ones.
func (g *group) evict(rec *record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.entries.len() > 0 && g.entries.front().rec == rec {
		g.entries.pop()
		g.base++
	}
}

// end lets readers read what is there and then end with err.
func (g *group) end(err error) {
	g.mu.Lock()
	if g.ended == nil {
		g.ended = err
	}
	g.mu.Unlock()
	g.wakeAll()
}

func (g *group) wakeAll() {
	g.mu.Lock()
	asleep := make([]*Reader, 0, len(g.readers))
	for _, r := range g.readers {
		if r.awake.CompareAndSwap(false, true) {
			asleep = append(asleep, r)
		}
	}
	g.mu.Unlock()
	for _, r := range asleep {
		r.wake()
	}
}

// encode gives the entry's frame; not done if it is being made in the background: readers are woken when it is there.
// The frame is nil for what is not to be sent.
func (g *group) encode(e *entry) (frame []byte, done bool) {
	if !g.plan.Blocks() {
		e.once.Do(func() {
			e.frame = g.encodeEntry(g.hub.ctx, e)
			g.hub.encoded(e)
		})
		return e.frame, true
	}
	if e.ready.Load() {
		return e.frame, true
	}
	if e.started.CompareAndSwap(false, true) {
		g.hub.background(g, func(ctx context.Context) {
			frame := g.encodeEntry(ctx, e)
			if ctx.Err() == nil { // else the resolver was cut short
				e.frame = frame
				g.hub.encoded(e)
				e.ready.Store(true)
			}
		})
	}
	return nil, false
}

func (g *group) encodeEntry(ctx context.Context, e *entry) []byte {
	if e.batch != nil {
		return g.encodeBatch(ctx, e.batch)
	}
	m := g.match(e.change, e.old, e.new, e.rec.before)
	return g.encodeMatch(ctx, &m, e.effect)
}

func (g *group) encodeMatch(ctx context.Context, m *Match, e Effect) []byte {
	if g.plan.Blocks() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.hub.o.EncodeTimeout)
		defer cancel()
	}
	return g.plan.Encode(ctx, m, e)
}

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

	ctx  context.Context // of resolvers: ends with the last reader, or with the hub
	stop context.CancelFunc

	touched bool   // is in Hub.woken; guarded by Hub.mu
	open    *batch // what has come of the transaction that is being received; if batcher. Written under both locks

	mu      sync.Mutex
	base    int64 // the place of the oldest entry
	entries deque[*entry]
	readers []*Reader
	pages   []*page // newest last; a few
	ended   error
	working int // encodings in the background

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
	started bool        // an encoding in the background has begun; guarded by group.mu
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

// encode gives the entry's frame, of a plan that does not block. The frame is nil for what is not to be sent.
func (g *group) encode(e *entry) []byte {
	e.once.Do(func() {
		if e.batch != nil {
			e.frame = g.encodeBatch(g.hub.ctx, e.batch)
		} else {
			m := g.match(e.change, e.old, e.new, e.rec.before)
			e.frame = g.plan.Encode(g.hub.ctx, &m, e.effect)
		}
		g.hub.encoded(e)
	})
	return e.frame
}

// maxWorking is how many encodings of one group are under way at once, where resolvers are called.
const maxWorking = 4

// encodeAhead begins to encode in the background what stands at a place of the list and behind it, as much as may be under way at once;
// readers are woken when it is done. What one call of a resolver can serve is taken together.
func (g *group) encodeAhead(pos int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := together(g.plan)
	if g.batcher != nil {
		most = 1
	}
	for i, last := max(0, int(pos-g.base)), 0; i < g.entries.len() && last < most*maxWorking && g.working < maxWorking; {
		var es []*entry
		for ; i < g.entries.len() && len(es) < most; i++ {
			e := g.entries.at(i)
			if e.stub != nil || e.started {
				if len(es) > 0 {
					break
				}
				continue
			}
			e.started = true
			es = append(es, e)
			last++
		}
		if len(es) > 0 {
			g.working++
			g.hub.spawn(func() { g.work(es) })
		}
	}
}

// work encodes entries in the background.
func (g *group) work(es []*entry) {
	frames := g.encodeEntries(g.ctx, es)
	if g.ctx.Err() == nil { // else the resolver was cut short
		for i, e := range es {
			e.frame = frames[i]
			g.hub.encoded(e)
			e.ready.Store(true)
		}
	}
	g.mu.Lock()
	g.working--
	g.mu.Unlock()
	g.wakeAll()
}

func (g *group) encodeEntries(ctx context.Context, es []*entry) [][]byte {
	if g.batcher != nil {
		frames := make([][]byte, len(es))
		for i, e := range es {
			frames[i] = g.encodeBatch(ctx, e.batch)
		}
		return frames
	}
	ms := make([]Matched, len(es))
	for i, e := range es {
		ms[i] = Matched{g.match(e.change, e.old, e.new, e.rec.before), e.effect}
	}
	return encodeAll(ctx, g.plan, ms)
}

// together is how many changes at once a plan can encode with one call of a resolver.
func together(p Plan) int {
	if r, ok := p.(Resolving); ok {
		return max(1, r.Together())
	}
	return 1
}

func encodeAll(ctx context.Context, p Plan, ms []Matched) [][]byte {
	if r, ok := p.(Resolving); ok {
		return r.EncodeAll(ctx, ms)
	}
	frames := make([][]byte, len(ms))
	for i := range ms {
		frames[i] = p.Encode(ctx, &ms[i].Match, ms[i].Effect)
	}
	return frames
}

// encodeMany encodes what was read from the database: where resolvers are called, several at once.
func encodeMany(ctx context.Context, p Plan, ms []Matched) [][]byte {
	size := together(p)
	if !p.Blocks() || len(ms) <= size {
		return encodeAll(ctx, p, ms)
	}
	frames := make([][]byte, len(ms))
	var working sync.WaitGroup
	places := make(chan struct{}, maxWorking)
	for from := 0; from < len(ms); from += size {
		places <- struct{}{}
		working.Go(func() {
			defer func() { <-places }()
			to := min(from+size, len(ms))
			copy(frames[from:to], encodeAll(ctx, p, ms[from:to]))
		})
	}
	working.Wait()
	return frames
}

package subs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// Options bound a Hub. The zero value has sane defaults.
type Options struct {
	TailBytes     int64         // of transactions and frames kept in memory, and as much for pages of stubs; default 64 MiB
	PageRows      int           // of a large transaction read at a time; default 256
	Background    int           // encodings and page reads at once; default 8
	EncodeTimeout time.Duration // for a resolver; default 5 s
	History       History       // nil: no transaction is ever in the log only
	Logger        *slog.Logger  // nil: slog.Default
}

func (o Options) withDefaults() Options {
	if o.TailBytes <= 0 {
		o.TailBytes = 64 << 20
	}
	if o.PageRows <= 0 {
		o.PageRows = 256
	}
	if o.Background <= 0 {
		o.Background = 8
	}
	if o.EncodeTimeout <= 0 {
		o.EncodeTimeout = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Hub matches transactions against all subscriptions and keeps what they have yet to read.
type Hub struct {
	o      Options
	ctx    context.Context // ends with Close; of background work
	stop   context.CancelFunc
	workMu sync.Mutex // guards that work begins only while ctx lives
	work   sync.WaitGroup
	slot   chan struct{} // one token for each background task under way

	mu     sync.Mutex
	closed bool
	topics map[change.Topic]*topic
	groups map[groupKey]*group
	tail   deque[*record]
	pages  deque[*page] // of stubs, kept for readers to come

	rows  rows       // scratch of Dispatch
	woken []*group   // have got something; see takeWoken
	last  change.XID // of the transaction dispatched last
	open  []*group   // with an open batch, of that transaction

	bytes     atomic.Int64 // of the tail
	pageBytes int64        // of pages; guarded by mu
	readers   atomic.Int64
	matched   atomic.Int64
	delivered atomic.Int64
	overflows atomic.Int64
}

// topic is the groups that listen to one table or channel.
type topic struct {
	all      []*group
	byTenant map[string][]*group
}

// groupKey tells groups apart. Both parts are needed: the plan for what is shown, the tenants for who may see.
type groupKey struct{ plan, tenants string }

// record is one dispatched transaction in the tail, with the groups whose lists it has entries in.
type record struct {
	size   int64
	groups []*group
	gone   bool // out of the tail
}

// New returns a Hub. Close it.
func New(o Options) *Hub {
	o = o.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	return &Hub{
		o: o, ctx: ctx, stop: stop, slot: make(chan struct{}, o.Background),
		topics: map[change.Topic]*topic{}, groups: map[groupKey]*group{},
	}
}

// Close ends all readers with ErrClosed, after what is ready for them, and waits for background work to end.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.workMu.Lock() // no work begins after this
	h.stop()
	h.workMu.Unlock()
	for _, g := range h.allGroups() {
		g.end(ErrClosed)
	}
	h.work.Wait()
}

// Attach adds a subscription. It gets every matching change dispatched from now on. wake is called, from any goroutine
// and without blocking, when Next may have something.
func (h *Hub) Attach(p Plan, id *auth.Identity, wake func()) (*Reader, error) {
	key := groupKey{p.Key(), tenantsKey(id)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	g := h.groups[key]
	if g == nil {
		own := *id // the caller's may change, and who may see what must not
		own.Tenants = slices.Clone(id.Tenants)
		g = &group{hub: h, key: key, plan: p, id: &own}
		if b, ok := p.(Batcher); ok && b.Batches() {
			g.batcher = b
		}
		h.groups[key] = g
		h.index(g)
	}
	r := &Reader{g: g, wake: wake}
	g.mu.Lock()
	r.pos = g.base + int64(g.entries.len())
	r.place = len(g.readers)
	g.readers = append(g.readers, r)
	g.mu.Unlock()
	h.readers.Add(1)
	return r, nil
}

func tenantsKey(id *auth.Identity) string {
	ts := slices.Clone(id.Tenants)
	slices.Sort(ts)
	var b strings.Builder
	for _, t := range slices.Compact(ts) {
		b.WriteString(strings.ReplaceAll(t, "\x00", "\x00\x01"))
		b.WriteString("\x00\x00")
	}
	return b.String()
}

func (h *Hub) index(g *group) {
	t := h.topics[g.plan.Topic()]
	if t == nil {
		t = &topic{byTenant: map[string][]*group{}}
		h.topics[g.plan.Topic()] = t
	}
	t.all = append(t.all, g)
	for _, tenant := range g.tenants() {
		t.byTenant[tenant] = append(t.byTenant[tenant], g)
	}
}

// unlink takes a group out of the index: no change reaches it any more, and no new subscription joins it. h.mu is held.
func (h *Hub) unlink(g *group) {
	if h.groups[g.key] != g {
		return
	}
	delete(h.groups, g.key)
	t := h.topics[g.plan.Topic()]
	t.all = without(t.all, g)
	for _, tenant := range g.tenants() {
		if left := without(t.byTenant[tenant], g); len(left) > 0 {
			t.byTenant[tenant] = left
		} else {
			delete(t.byTenant, tenant)
		}
	}
	if len(t.all) == 0 {
		delete(h.topics, g.plan.Topic())
	}
}

func without(gs []*group, g *group) []*group {
	return slices.DeleteFunc(gs, func(x *group) bool { return x == g })
}

// drop forgets a group if it has no reader left.
func (h *Hub) drop(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.readers) > 0 {
		return
	}
	g.base += int64(g.entries.len())
	g.entries = deque[*entry]{}
	g.pages = nil
	h.unlink(g)
}

// Recheck asks check about the plan of every group, and ends those with an error with it, after what they have yet to
// read.
func (h *Hub) Recheck(check func(Plan) error) {
	for _, g := range h.allGroups() {
		if err := check(g.plan); err != nil {
			h.mu.Lock()
			h.unlink(g)
			h.mu.Unlock()
			g.end(err)
		}
	}
}

func (h *Hub) allGroups() []*group {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.groups))
}

// Stats is what a Hub holds and has done.
type Stats struct {
	Readers, Groups, TailTxns      int
	TailBytes                      int64
	Matched, Delivered, Overflowed int64
}

// Stats returns the present figures.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Readers: int(h.readers.Load()), Groups: len(h.groups), TailTxns: h.tail.len(), TailBytes: h.bytes.Load(),
		Matched: h.matched.Load(), Delivered: h.delivered.Load(), Overflowed: h.overflows.Load(),
	}
}

// background runs f in a goroutine of the hub's, a bounded number at once, and then wakes the readers of g. It does nothing
// once the hub is closed; they are woken all the same, to find that out.
func (h *Hub) background(g *group, f func(ctx context.Context)) {
	h.workMu.Lock()
	defer h.workMu.Unlock()
	if h.ctx.Err() != nil {
		return
	}
	h.work.Add(1)
	go func() {
		defer h.work.Done()
		defer g.wakeAll()
		select {
		case h.slot <- struct{}{}:
			defer func() { <-h.slot }()
			f(h.ctx)
		case <-h.ctx.Done():
		}
	}()
}

// pause lets a background task wait for d, or until ctx ends, and gives its place to others meanwhile.
func (h *Hub) pause(ctx context.Context, d time.Duration) {
	<-h.slot
	defer func() { h.slot <- struct{}{} }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

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
	TailBytes     int64            // of transactions and frames kept in memory, and as much for pages of stubs; default 64 MiB
	PageRows      int              // of a large transaction read at a time; default 256
	Background    int              // page reads at once; default 8
	History       History          // nil: no transaction is ever in the log only, and nothing can be resumed
	Join          func(ticket int) // asks for a call of Joined with the ticket; needed with History
	SnapshotBytes int64            // of the rows that a subscription begins with: kept at most, and up to which they are shared; default 4 MiB
	SnapshotRows  int64            // that a subscription may begin with; default 1,000,000
	Snapshots     int              // reads of such rows at once, and of how rows stood at a place; default 3
	Logger        *slog.Logger     // nil: slog.Default

	// Trace is asked about a transaction that a reader is to get, with its first change that matched, before the reader can have it.
	// What it returns, if not nil, is what Reader.Trace returns to those who have taken something of the transaction. Nil: nothing is traced.
	Trace func(*change.Change) any
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
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = 4 << 20
	}
	if o.SnapshotRows <= 0 {
		o.SnapshotRows = 1_000_000
	}
	if o.Snapshots <= 0 {
		o.Snapshots = 3
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Hub matches transactions against all subscriptions and keeps what they have yet to read.
type Hub struct {
	o       Options
	ctx     context.Context // ends with Close; of background work
	stop    context.CancelFunc
	workMu  sync.Mutex // guards that work begins only while ctx lives
	work    sync.WaitGroup
	slot    chan struct{} // one token for each background task under way
	rowing  chan struct{} // one token for each read of rows under way
	undoing chan struct{} // and of how rows stood at a place, for which nobody is waited

	place atomic.Pointer[place] // behind all that is in the lists or in open batches

	mu     sync.Mutex
	closed bool
	topics map[change.Topic]*topic
	groups map[groupKey]*group
	tail   deque[*record]
	pages  deque[*page] // of stubs, kept for readers to come

	rows  rows       // scratch of Dispatch
	woken []*group   // have got something; see takeWoken
	calls int64      // of Dispatch
	last  change.XID // of the transaction dispatched last
	open  []*group   // with an open batch, of that transaction

	ticket    int // given out last
	sequences map[*Sequence]struct{}

	joining map[*Reader]int // who waits for Joined, by ticket
	held    []*Reader       // of them, who was answered and waits for the end of an open batch
	round   atomic.Int64    // see Round

	bytes     atomic.Int64 // of the tail
	pageBytes int64        // of pages; guarded by mu
	readers   atomic.Int64
	matched   atomic.Int64
	delivered atomic.Int64
	overflows atomic.Int64
	pagesRead atomic.Int64
	rowsRead  atomic.Int64
}

// topic is the groups that listen to a table or channel.
type topic struct {
	all      []*group
	byTenant map[string][]*group
}

// groupKey tells groups apart. Both parts are needed: the plan for what is shown, the tenants for who may see.
type groupKey struct{ plan, tenants string }

// place is where the hub is after a call of Dispatch.
type place struct {
	at   *change.Point // nil: there are no places
	call int64
}

// record is one dispatched transaction in the tail, with the groups whose lists it has entries in.
type record struct {
	before *change.Point
	call   int64 // of Dispatch, that brought it, or the last of it
	size   int64
	groups []*group
	gone   bool // out of the tail
	trace  any  // see Options.Trace
}

// New returns a Hub. Close it.
func New(o Options) *Hub {
	o = o.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	h := &Hub{
		o: o, ctx: ctx, stop: stop, slot: make(chan struct{}, o.Background), rowing: make(chan struct{}, o.Snapshots), undoing: make(chan struct{}, o.Snapshots),
		joining: map[*Reader]int{}, sequences: map[*Sequence]struct{}{}, topics: map[change.Topic]*topic{}, groups: map[groupKey]*group{},
	}
	h.place.Store(&place{})
	return h
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

// Attach adds a subscription. It gets every matching change from start on. wake is called, from any goroutine and without
// blocking, when Next may have something. The error is ErrClosed, or ErrNoHistory if there is nothing to start from but now.
func (h *Hub) Attach(p Plan, id *auth.Identity, start Start, wake func()) (*Reader, error) {
	key := groupKey{p.Key(), tenantsKey(id)}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	now := h.place.Load().at
	if (start.After != nil || start.Rows != nil) && (now == nil || h.o.History == nil) {
		h.mu.Unlock()
		return nil, ErrNoHistory
	}
	g := h.groups[key]
	if g == nil {
		own := *id // the caller's may change, and who may see what must not
		own.Tenants = slices.Clone(id.Tenants)
		g = &group{hub: h, key: key, plan: p, id: &own}
		g.ctx, g.stop = context.WithCancel(h.ctx)
		if b, ok := p.(Batcher); ok && b.Batches() {
			g.batcher = b
		}
		h.groups[key] = g
		h.index(g)
	}
	r := &Reader{g: g, wake: wake, at: now, round: h.round.Load()}
	g.mu.Lock()
	r.pos = g.base + int64(g.entries.len())
	r.place = len(g.readers)
	g.readers = append(g.readers, r)
	g.mu.Unlock()
	h.mu.Unlock()
	h.readers.Add(1)
	switch {
	case start.After != nil:
		r.greet = true
		r.resume(*start.After)
	case start.Rows != nil:
		r.phase = standing
		r.rows = h.snapshot(r, start.Rows)
	}
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
	for _, name := range g.plan.Topics() {
		t := h.topics[name]
		if t == nil {
			t = &topic{byTenant: map[string][]*group{}}
			h.topics[name] = t
		}
		t.all = append(t.all, g)
		for _, tenant := range g.tenants() {
			t.byTenant[tenant] = append(t.byTenant[tenant], g)
		}
	}
}

// unlink takes a group out of the index: no change reaches it any more, and no new subscription joins it. h.mu is held.
func (h *Hub) unlink(g *group) {
	if h.groups[g.key] != g {
		return
	}
	delete(h.groups, g.key)
	for _, name := range g.plan.Topics() {
		t := h.topics[name]
		t.all = without(t.all, g)
		for _, tenant := range g.tenants() {
			if left := without(t.byTenant[tenant], g); len(left) > 0 {
				t.byTenant[tenant] = left
			} else {
				delete(t.byTenant, tenant)
			}
		}
		if len(t.all) == 0 {
			delete(h.topics, name)
		}
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
	g.snapshots = nil
	g.stop()
	h.unlink(g)
}

// Recheck asks check about the plan of every group, and ends those with an error with it, after what they have yet to
// read. Of a Sequence it is asked about the plan that was given to Follow.
func (h *Hub) Recheck(check func(Plan) error) {
	for _, g := range h.allGroups() {
		p := g.plan
		if part, ok := p.(interface{ of() Plan }); ok {
			p = part.of()
		}
		if err := check(p); err != nil {
			h.mu.Lock()
			h.unlink(g)
			h.mu.Unlock()
			g.end(err)
		}
	}
	for _, s := range h.allSequences() { // after the groups: one may have begun another reader
		if err := check(s.plan); err != nil {
			s.end(err)
		}
	}
}

func (h *Hub) allSequences() []*Sequence {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.sequences))
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
	Matched, Delivered, Overflowed int64 // Overflowed: readers that fell behind the tail and went on from the log
	Joining                        int   // readers that wait to catch up
	PagesRead, RowsRead            int64 // of the log for those who catch up; of tables
}

// Stats returns the present figures.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Readers: int(h.readers.Load()), Groups: len(h.groups), TailTxns: h.tail.len(), TailBytes: h.bytes.Load(),
		Matched: h.matched.Load(), Delivered: h.delivered.Load(), Overflowed: h.overflows.Load(),
		Joining: len(h.joining), PagesRead: h.pagesRead.Load(), RowsRead: h.rowsRead.Load(),
	}
}

// background runs f in a goroutine of the hub's, a bounded number at once, and then wakes the readers of g. It does nothing
// once the hub is closed; they are woken all the same, to find that out.
func (h *Hub) background(g *group, f func(ctx context.Context)) {
	h.spawn(func() {
		defer g.wakeAll()
		select {
		case h.slot <- struct{}{}:
			defer func() { <-h.slot }()
			f(h.ctx)
		case <-h.ctx.Done():
		}
	})
}

// spawn runs f in a goroutine that Close waits for, unless the hub is closed.
func (h *Hub) spawn(f func()) {
	h.workMu.Lock()
	defer h.workMu.Unlock()
	if h.ctx.Err() == nil {
		h.work.Go(f)
	}
}

// pause lets a background task wait for d, or until ctx ends, and gives its place to others meanwhile.
func (h *Hub) pause(ctx context.Context, d time.Duration) {
	h.aside(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	})
}

// aside lets a background task do what may take long and needs no database, and gives its place to others meanwhile.
func (h *Hub) aside(f func()) {
	<-h.slot
	defer func() { h.slot <- struct{}{} }()
	f()
}

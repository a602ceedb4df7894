package subs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// maxPages bounds the pages that a group keeps for its readers; one that comes later reads again.
const maxPages = 8

// What a page costs beside its frames' text.
const (
	emptyPageBytes = 512
	frameBytes     = 24
)

// page is what a group gets of a stretch of the log, as frames: a part of a transaction that is in the log only, or what came
// between two places.
type page struct {
	group *group
	size  int64 // of the frames; guarded by Hub.mu

	of     *entry // the stub; nil: a stretch from a place
	number int    // in the transaction, from 0

	from, toward string // texts of cursors

	// set once, under group.mu
	state  pageState
	frames [][]byte
	part   bool // the last frame is a batch that goes on
	lost   error

	last  *change.Change // of a stub: where the next page begins
	more  bool
	begun bool // the transaction has given a frame, on this page or before it

	next    change.Cursor // of a stretch: where it ends
	arrived bool
	resumes bool // its first frame goes on with the transaction that it begins in
}

type pageState byte

const (
	reading pageState = iota
	ready
	stale // where it leads to is not known any more
)

// stubPage returns a page of stub e, which may have yet to be read; readers are woken when it is done. after is the last
// change of the page before it, and begun what that page says.
func (g *group) stubPage(e *entry, number int, after *change.Change, begun bool) *page {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pages {
		if p.of == e && p.number == number {
			return p
		}
	}
	p := &page{of: e, group: g, number: number, begun: begun}
	g.addPage(p)
	g.hub.background(g, func(ctx context.Context) {
		g.read(ctx, p, func(ctx context.Context) error {
			stub := *e.stub
			if now := g.hub.place.Load().at; now != nil {
				stub.Era = now.Era() // after a crash, until the node knows that nothing was lost, it must not be read
			}
			cs, more, err := g.hub.o.History.Txn(ctx, e.xid, after, &stub, g.plan.Topics(), g.tenants(), g.pageRows())
			if err == nil {
				g.fillStub(ctx, p, cs, more)
			}
			return err
		})
	})
	return p
}

func (g *group) stateOf(p *page) pageState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return p.state
}

// whyLost is why p can never be read; nil if it can.
func (g *group) whyLost(p *page) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return p.lost
}

// read fills p by once. It tries until that succeeds, the log has lost it, the hub ends or nobody is left to read for.
func (g *group) read(ctx context.Context, p *page, once func(context.Context) error) {
	wait, said := 50*time.Millisecond, false
	for {
		err := once(ctx)
		switch {
		case err == nil:
			g.hub.keepPage(p)
			return
		case p.of == nil && (errors.Is(err, change.ErrOtherEra) || errors.Is(err, change.ErrTarget)):
			g.mu.Lock()
			p.state = stale
			g.mu.Unlock()
			g.forget(p)
			if g.hub.pause(ctx, wait); ctx.Err() != nil {
				return
			}
			g.wakeAll()
			return
		case errors.Is(err, change.ErrDropped), errors.Is(err, change.ErrCursorExpired), errors.Is(err, change.ErrCursorInvalid):
			g.mu.Lock()
			p.lost = err
			g.mu.Unlock()
			g.wakeAll()
			return
		}
		if ctx.Err() != nil || g.abandon(p) {
			return
		}
		if !said {
			said = true
			g.hub.o.Logger.Warn("the log can't be read; trying again until it can", "error", err)
		}
		if g.hub.pause(ctx, wait); ctx.Err() != nil {
			return
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// keepPage counts a page that has been read, and forgets the oldest ones for it: groups are many, and what is forgotten can
// be read again. A reader holds on to its page.
func (h *Hub) keepPage(p *page) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.size = emptyPageBytes
	for _, f := range p.frames {
		p.size += int64(len(f)) + frameBytes
	}
	h.pages.push(p)
	h.pageBytes += p.size
	for h.pageBytes > h.o.TailBytes && h.pages.len() > 1 {
		old := h.pages.front()
		h.pages.pop()
		h.pageBytes -= old.size
		old.group.forget(old)
	}
}

func (g *group) forget(p *page) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(p)
}

// remove takes a page out of those kept. g.mu is held.
func (g *group) remove(p *page) {
	if i := slices.Index(g.pages, p); i >= 0 {
		g.pages = slices.Delete(g.pages, i, i+1)
	}
}

// abandon forgets a page that can't be read now if there is nobody left to read it for. Who comes later asks for it anew.
func (g *group) abandon(p *page) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.readers) > 0 {
		return false
	}
	g.remove(p)
	return true
}

func (g *group) fillStub(ctx context.Context, p *page, cs []change.Change, more bool) {
	more = more && len(cs) > 0
	var f filler
	for i := range cs {
		f.add(ctx, g, &cs[i], p.of.rec.before)
	}
	// To those who have got some of it, the last page says that the transaction is complete even if nothing in it matched.
	if len(f.batch.entries) == 0 && g.batcher != nil && !more && p.begun {
		f.frames = append(f.frames, g.batcher.EncodeBatch(ctx, nil, true))
	}
	g.sendPage(&f, !more)
	g.finish(p, &f, func() {
		p.more, p.begun = more, p.begun || len(f.frames) > 0
		p.part = g.batcher != nil && more && p.begun
		if len(cs) > 0 {
			last := cs[len(cs)-1]
			last.Old, last.New = nil, nil
			p.last = &last
		}
	})
}

// sendPage makes the frames of a page. Where resolvers are called, others may read meanwhile.
func (g *group) sendPage(f *filler, complete bool) {
	if !g.plan.Blocks() {
		f.send(g.hub.ctx, g, complete)
		return
	}
	g.hub.aside(func() { f.send(g.ctx, g, complete) })
}

// pageRows is how many changes a page has at most: where resolvers are called, few, so that the first need not wait for the last.
func (g *group) pageRows() int {
	if g.plan.Blocks() {
		return min(g.hub.o.PageRows, max(together(g.plan), 16))
	}
	return g.hub.o.PageRows
}

// finish makes a page ready, unless its resolvers were cut short. set is called under g.mu.
func (g *group) finish(p *page, f *filler, set func()) {
	if g.plan.Blocks() && g.ctx.Err() != nil {
		return
	}
	g.hub.matched.Add(int64(len(f.frames)))
	g.mu.Lock()
	defer g.mu.Unlock()
	p.frames = f.frames
	set()
	p.state = ready
}

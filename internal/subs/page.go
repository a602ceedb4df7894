package subs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// maxPages bounds the pages of stubs that a group keeps for its readers; one that comes later reads again.
const maxPages = 4

// What a page costs beside its frames' text.
const (
	emptyPageBytes = 512
	frameBytes     = 24
)

// page is a part of a transaction that is in the log only, as frames of one group.
type page struct {
	of     *entry
	group  *group
	number int   // in the transaction, from 0
	size   int64 // of the frames; guarded by Hub.mu

	// set once, under group.mu, when done
	done   bool
	frames [][]byte
	last   *change.Change // where the next page begins
	more   bool
	begun  bool // the transaction has given a frame, on this page or before it

	lost error // set instead, under group.mu: the log does not have it any more
}

// page returns a page of stub e, which may have yet to be read; readers are woken when it is done. after is the last
// change of the page before it, and begun what that page says.
func (g *group) page(e *entry, number int, after *change.Change, begun bool) *page {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pages {
		if p.of == e && p.number == number {
			return p
		}
	}
	p := &page{of: e, group: g, number: number, begun: begun || e.begun}
	g.pages = append(g.pages, p)
	if len(g.pages) > maxPages { // who waits for it holds it
		g.pages = slices.Delete(g.pages, 0, 1)
	}
	g.hub.background(g, func(ctx context.Context) { g.read(ctx, p, after) })
	return p
}

func (g *group) isDone(p *page) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return p.done
}

// whyLost is why p can never be read; nil if it can.
func (g *group) whyLost(p *page) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return p.lost
}

// read fills p. It tries until it succeeds, the log has lost it, the hub ends or nobody is left to read for.
func (g *group) read(ctx context.Context, p *page, after *change.Change) {
	wait, said := 50*time.Millisecond, false
	for {
		cs, more, err := g.hub.o.History.Txn(ctx, p.of.xid, after, p.of.stub, g.plan.Topic(), g.tenants(), g.hub.o.PageRows)
		if err == nil {
			g.fill(ctx, p, cs, more)
			g.hub.keepPage(p)
			return
		}
		if errors.Is(err, change.ErrDropped) {
			g.mu.Lock()
			p.lost = err
			g.mu.Unlock()
			g.wakeAll()
			return
		}
		if ctx.Err() != nil || !g.live() {
			return
		}
		if !said {
			said = true
			g.hub.o.Logger.Warn("a large transaction can't be read from the log; trying again until it can", "xid", p.of.xid, "error", err)
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
	if i := slices.Index(g.pages, p); i >= 0 {
		g.pages = slices.Delete(g.pages, i, i+1)
	}
}

func (g *group) live() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.readers) > 0
}

func (g *group) fill(ctx context.Context, p *page, cs []change.Change, more bool) {
	var frames [][]byte
	var all batch
	var buf rows
	for i := range cs {
		pc := g.hub.parse(&cs[i], &buf)
		m := g.match(pc.change, pc.old, pc.new)
		e := g.plan.Match(&m)
		switch {
		case e == None:
		case g.batcher != nil:
			pc.keep()
			all.entries = append(all.entries, &entry{effect: e, change: pc.change, old: pc.old, new: pc.new})
		default:
			if frame := g.encodeChange(ctx, e, pc.change, pc.old, pc.new); frame != nil {
				frames = append(frames, frame)
			}
		}
	}
	// To those who have got some of it, the last page says that the transaction is complete even if nothing in it matched.
	if len(all.entries) > 0 || g.batcher != nil && !more && p.begun {
		all.complete = !more
		frames = append(frames, g.encodeBatch(ctx, &all))
	}
	if g.plan.Blocks() && ctx.Err() != nil { // resolvers were cut short
		return
	}
	g.hub.matched.Add(int64(len(frames)))
	g.mu.Lock()
	defer g.mu.Unlock()
	p.done, p.frames, p.more, p.begun = true, frames, more && len(cs) > 0, p.begun || len(frames) > 0
	if len(cs) > 0 {
		last := cs[len(cs)-1]
		last.Old, last.New = nil, nil
		p.last = &last
	}
}

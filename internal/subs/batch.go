package subs

import (
	"context"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// What a batch holds at most; a larger transaction comes in parts.
const (
	batchChanges = 1000
	batchBytes   = 1 << 20
)

// batch is what matched in one transaction, or in a part of it.
type batch struct {
	entries  []*entry
	size     int64
	complete bool
}

// collect adds what matched to the group's open batch. It is sent when the transaction is complete (see Settle), or
// when it has grown large.
func (h *Hub) collect(g *group, e *entry, size int64) {
	if g.open == nil {
		g.hold(&batch{})
		h.open = append(h.open, g)
	}
	b := g.open
	if len(b.entries) == batchChanges || b.size+size > batchBytes && len(b.entries) > 0 {
		h.send(g, b)
		b = &batch{}
		g.hold(b)
	}
	b.entries, b.size = append(b.entries, e), b.size+size
}

// complete sends all open batches: their transaction is complete. at is the place behind it. h.mu is held.
func (h *Hub) complete(at *change.Point) {
	for _, g := range h.open {
		g.open.complete = true
		h.send(g, g.open)
	}
	clear(h.open)
	h.open = h.open[:0]
	for _, r := range h.held {
		h.admit(r, at)
		h.touch(r.g)
	}
	clear(h.held)
	h.held = h.held[:0]
}

// hold makes b the open batch: what is in it was dispatched, and is in no list yet.
func (g *group) hold(b *batch) {
	g.mu.Lock()
	g.open = b
	g.mu.Unlock()
}

// send puts the open batch into its group's list, as a record of its own in the tail. h.mu is held.
func (h *Hub) send(g *group, b *batch) {
	last := b.entries[len(b.entries)-1]
	rec := &record{size: b.size, before: last.rec.before, call: last.rec.call, trace: last.rec.trace}
	h.add(rec, g, &entry{rec: rec, change: last.change, size: b.size, batch: b})
	g.hold(nil)
	h.remember(rec)
}

// sendOpen sends what the group has got of a transaction that may go on. h.mu is held.
func (h *Hub) sendOpen(g *group) {
	if g.open != nil {
		h.send(g, g.open)
		h.open = without(h.open, g)
	}
}

// Unsettled reports whether somebody waits to be told that the transaction dispatched last is complete. Settle says so,
// and so does another transaction.
func (h *Hub) Unsettled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open) > 0 || len(h.held) > 0
}

// Settle says that what was dispatched last was the end of its transaction.
func (h *Hub) Settle() {
	h.mu.Lock()
	h.complete(h.place.Load().at)
	woken := h.takeWoken()
	h.mu.Unlock()
	wake(woken)
}

func (g *group) encodeBatch(ctx context.Context, b *batch) []byte {
	ms := make([]Matched, len(b.entries))
	for i, e := range b.entries {
		ms[i] = Matched{g.match(e.change, e.old, e.new, e.rec.before), e.effect}
	}
	return g.batcher.EncodeBatch(ctx, ms, b.complete)
}

// takeWoken returns the groups that have got something since it was called last. h.mu is held.
func (h *Hub) takeWoken() []*group {
	woken := slices.Clone(h.woken)
	for _, g := range woken {
		g.touched = false
	}
	clear(h.woken)
	h.woken = h.woken[:0]
	return woken
}

func wake(gs []*group) {
	for _, g := range gs {
		g.wakeAll()
	}
}

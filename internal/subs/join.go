package subs

import (
	"context"
	"fmt"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// maxStale is how often in a row a reader is given another place to catch up to. After a sweep the node is behind all that had
// committed when the reader came, so that mostly the first one will do.
const maxStale = 20

// join is what a reader can catch up to: the place where the node was after a sweep that began after the reader had come. It
// may have seen more elsewhere than this node had before.
type join struct {
	at  *change.Point
	pos int64 // in the group's list, at that place
}

// resume makes the reader catch up from a place.
func (r *Reader) resume(from change.Cursor) {
	h := r.g.hub
	r.phase, r.from, r.join, r.page, r.stub, r.at, r.in = joining, from, nil, nil, nil, nil, nil
	r.joined.Store(nil)
	h.mu.Lock()
	h.ticket++
	ticket := h.ticket
	h.joining[r] = ticket
	h.mu.Unlock()
	h.o.Join(ticket)
}

// overflow makes a reader that the tail has left behind go on from the log.
func (r *Reader) overflow() error {
	h := r.g.hub
	h.overflows.Add(1)
	switch {
	case r.at == nil || h.o.History == nil:
		return ErrOverflow
	case r.in != nil:
		r.resume(r.at.Behind(r.in))
	default:
		r.resume(r.at.Cursor())
	}
	return nil
}

// Joined lets those catch up who have asked with this ticket or a lower one. at is the place behind all that was dispatched.
func (h *Hub) Joined(ticket int, at *change.Point) {
	h.mu.Lock()
	var woken []*Reader
	for r, asked := range h.joining {
		switch {
		case asked > ticket:
		case r.g.open != nil: // it is before at, and others are to get it whole
			h.held = append(h.held, r)
		default:
			h.admit(r, at)
			woken = append(woken, r)
		}
	}
	h.mu.Unlock()
	for _, r := range woken {
		r.rouse()
	}
}

// admit lets a reader, if it still waits for that, catch up to at, a place behind all that is in its group's list. h.mu is held.
func (h *Hub) admit(r *Reader, at *change.Point) {
	if _, waits := h.joining[r]; !waits {
		return
	}
	delete(h.joining, r)
	r.g.mu.Lock()
	r.joined.Store(&join{at: at, pos: r.g.base + int64(r.g.entries.len())})
	r.g.mu.Unlock()
}

// rouse wakes the reader, if it is not awake.
func (r *Reader) rouse() {
	if r.awake.CompareAndSwap(false, true) {
		r.wake()
	}
}

func (r *Reader) nextJoin() error {
	if err := r.stopped(); err != nil {
		return err
	}
	if r.join = r.joined.Load(); r.join != nil {
		if r.join.at == nil { // there are no places any more
			return ErrOverflow
		}
		r.phase = catching
		r.toward = string(r.join.at.AppendCursor(nil))
	}
	return nil
}

// stopped is why a reader that is not live can't go on; nil if it can.
func (r *Reader) stopped() error {
	if err := r.g.why(); err != nil {
		return err
	}
	if r.g.hub.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// nextPage appends frames of what is in the log, up to where the reader joins its group's list.
func (r *Reader) nextPage(dst [][]byte, limit int) ([][]byte, error) {
	for end := len(dst) + limit; len(dst) < end; {
		if err := r.stopped(); err != nil {
			return dst, err
		}
		if r.page == nil {
			r.page, r.frame = r.g.catchPage(r.from, r.join.at.Cursor(), r.toward), 0
		}
		switch r.g.stateOf(r.page) {
		case reading:
			return dst, r.waits(r.page)
		case stale:
			if r.stale++; r.stale > maxStale {
				return dst, fmt.Errorf("%w: it is ahead of all that this server knows", change.ErrCursorInvalid)
			}
			r.resume(r.from)
			return dst, nil
		}
		r.stale = 0
		if r.part && r.frame == 0 && len(r.page.frames) > 0 && !r.page.resumes {
			// The rest of the transaction that it got a part of has been passed, and nothing of it matched.
			r.part = false
			dst = append(dst, r.g.batcher.EncodeBatch(r.g.hub.ctx, nil, true))
			continue
		}
		n := min(end-len(dst), len(r.page.frames)-r.frame)
		dst = append(dst, r.page.frames[r.frame:r.frame+n]...)
		r.frame += n
		if len(dst) == end { // beyond there may be no more than one greeting
			return dst, nil
		}
		p := r.page
		r.page, r.from = nil, p.next
		if len(p.frames) > 0 {
			r.part = p.part
		}
		if p.arrived {
			r.phase, r.pos, r.at, r.in = live, r.join.pos, r.join.at, nil
			if r.greet || r.part {
				if frame := r.g.plan.EncodeSynced(r.at); frame != nil {
					dst = append(dst, frame)
				}
			}
			r.greet, r.part, r.join = false, false, nil
			return dst, nil
		}
	}
	return dst, nil
}

// catchPage returns the page that begins at from, on the way to to, of which toward is the text.
func (g *group) catchPage(from, to change.Cursor, toward string) *page {
	text := from.String()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pages {
		if p.of == nil && p.from == text && p.toward == toward {
			return p
		}
	}
	p := &page{group: g, from: text, toward: toward}
	g.addPage(p)
	g.hub.background(g, func(ctx context.Context) {
		g.read(ctx, p, func(ctx context.Context) error {
			read, err := g.hub.o.History.Since(ctx, from, to, g.plan.Topics(), g.tenants(), g.pageRows())
			if err == nil {
				g.hub.pagesRead.Add(1)
				g.fillCaught(ctx, p, from.Part.XID, &read)
			}
			return err
		})
	})
	return p
}

// fillCaught encodes what was read, from inside of transaction in, or from between two.
func (g *group) fillCaught(ctx context.Context, p *page, in change.XID, read *change.Page) {
	var f filler
	for i := range read.Txns {
		t := &read.Txns[i]
		before := len(f.batch.entries)
		for k := range t.Changes {
			f.add(ctx, g, &t.Changes[k], t.Before)
		}
		f.part = g.batcher != nil && !t.Whole && len(f.batch.entries) > before
	}
	resumes := len(f.batch.entries) > 0 && f.batch.entries[0].change.XID == in
	g.sendPage(&f, !f.part)
	g.finish(p, &f, func() {
		p.next, p.arrived, p.part, p.resumes = read.Next, read.Arrived, f.part, resumes
	})
}

// filler encodes changes one after the other, or what comes together at once.
type filler struct {
	buf    rows
	frames [][]byte
	batch  batch
	many   []Matched // to be encoded together
	part   bool
}

// add takes a change that was read from the log, or a row. before is the place before its transaction.
func (f *filler) add(ctx context.Context, g *group, c *change.Change, before *change.Point) {
	p := g.hub.parse(c, &f.buf)
	m := g.match(p.change, p.old, p.new, before)
	effect := g.plan.Match(&m)
	if effect == None {
		return
	}
	if c.XID == 0 && effect == Enters {
		effect = Stands
	}
	if g.batcher == nil && !g.plan.Blocks() {
		if frame := g.plan.Encode(ctx, &m, effect); frame != nil {
			f.frames = append(f.frames, frame)
		}
		return
	}
	p.keep()
	if g.batcher == nil {
		f.many = append(f.many, Matched{g.match(p.change, p.old, p.new, before), effect})
		return
	}
	f.batch.entries = append(f.batch.entries, &entry{rec: &record{before: before}, effect: effect, change: p.change, old: p.old, new: p.new})
}

// send makes frames of what was added since and has none.
func (f *filler) send(ctx context.Context, g *group, complete bool) {
	if len(f.batch.entries) > 0 {
		f.batch.complete = complete
		f.frames = append(f.frames, g.encodeBatch(ctx, &f.batch))
		f.batch.entries = nil
	}
	for _, frame := range encodeMany(ctx, g.plan, f.many) {
		if frame != nil {
			f.frames = append(f.frames, frame)
		}
	}
	f.many = nil
}

// Round tells, once each, all subscribers whose plans show cursors where they are. It is for those to whom nothing happens: a
// cursor that is never renewed expires.
func (h *Hub) Round() {
	h.round.Add(1)
	for _, g := range h.allGroups() {
		g.wakeAll()
	}
}

// told is the frame that tells readers who are at a place that they are; nil if they don't ask. Readers who are at another place must
// not get it, however near: one that is not there yet would miss something, one that is further would get it again.
func (g *group) told(at *change.Point) []byte {
	if at == nil || !g.plan.Cursors() {
		return nil
	}
	g.mu.Lock()
	frame, known := g.synced, g.syncedAt == at
	g.mu.Unlock()
	if !known {
		frame = g.plan.EncodeSynced(at)
		g.mu.Lock()
		g.synced, g.syncedAt = frame, at
		g.mu.Unlock()
	}
	return frame
}

// addPage keeps a page for those to come. g.mu is held.
func (g *group) addPage(p *page) {
	g.pages = append(g.pages, p)
	if len(g.pages) > maxPages { // who waits for it holds it
		g.pages = slices.Delete(g.pages, 0, 1)
	}
}

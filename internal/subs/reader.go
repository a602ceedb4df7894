package subs

import (
	"sync/atomic"

	"github.com/notifyql/notifyql/internal/change"
)

// Reader is one subscription: a place in its group's list.
type Reader struct {
	g     *group
	wake  func()
	awake atomic.Bool // wake was called and Next has not looked since
	place int         // in group.readers; guarded by group.mu

	// of the consumer
	pos    int64 // in the group's list
	number int   // of the page of the stub at pos
	after  *change.Change
	begun  bool
	page   *page
	frame  int // in page
	closed bool
}

// Next appends the frames that are ready to dst, at most limit of them, without blocking. The frames are JSON texts of
// GraphQL ExecutionResults and must not be changed. None and a nil error: wait for wake. If exactly limit were
// appended there may be more. The error, once there is nothing left before it, is ErrOverflow, ErrClosed, the one that Recheck
// gave, or one that wraps change.ErrDropped.
func (r *Reader) Next(dst [][]byte, limit int) ([][]byte, error) {
	if r.closed {
		return dst, ErrClosed
	}
	r.awake.Store(false)
	start := len(dst)
	defer func() { r.g.hub.delivered.Add(int64(len(dst) - start)) }()
	for limit > 0 {
		var batch [16]*entry
		n, err := r.ahead(batch[:min(limit, len(batch))])
		if n == 0 {
			return dst, err
		}
		for i, e := range batch[:n] {
			var done bool
			before := len(dst)
			if e.stub != nil {
				dst, done = r.stub(e, dst, limit)
			} else {
				var frame []byte
				if frame, done = r.g.encode(e); frame != nil {
					dst = append(dst, frame)
				}
			}
			limit -= len(dst) - before
			if !done {
				if r.page != nil {
					if err := r.g.whyLost(r.page); err != nil {
						return dst, err
					}
				}
				if limit > 0 && r.g.hub.ctx.Err() != nil { // what is missing will not come
					return dst, ErrClosed
				}
				r.startRest(batch[i+1 : n])
				return dst, nil
			}
			r.pos++
		}
	}
	return dst, nil
}

// startRest begins to encode in the background what will be wanted next.
func (r *Reader) startRest(es []*entry) {
	if !r.g.plan.Blocks() {
		return
	}
	for _, e := range es {
		if e.stub == nil {
			r.g.encode(e)
		}
	}
}

// ahead fills es with the entries at the reader's place.
func (r *Reader) ahead(es []*entry) (int, error) {
	g := r.g
	g.mu.Lock()
	defer g.mu.Unlock()
	i := int(r.pos - g.base)
	if i < 0 {
		g.hub.overflows.Add(1)
		return 0, ErrOverflow
	}
	n := min(len(es), g.entries.len()-i)
	for k := range n {
		es[k] = g.entries.at(i + k)
	}
	if n == 0 {
		return 0, g.ended
	}
	return n, nil
}

// stub appends frames of a transaction that is in the log only, and reports whether that was all of it.
func (r *Reader) stub(e *entry, dst [][]byte, limit int) ([][]byte, bool) {
	for {
		if r.page == nil {
			r.page, r.frame = r.g.page(e, r.number, r.after, r.begun), 0
		}
		if !r.g.isDone(r.page) {
			return dst, false
		}
		n := min(limit, len(r.page.frames)-r.frame)
		dst = append(dst, r.page.frames[r.frame:r.frame+n]...)
		r.frame += n
		limit -= n
		if r.frame < len(r.page.frames) {
			return dst, false
		}
		if !r.page.more {
			r.page, r.number, r.after, r.begun = nil, 0, nil, false
			return dst, true
		}
		r.number, r.after, r.begun, r.page = r.number+1, r.page.last, r.page.begun, nil
		if limit == 0 {
			return dst, false
		}
	}
}

// Close ends the subscription. It is not to be called beside Next; a second call does nothing.
func (r *Reader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.page = nil
	g := r.g
	g.mu.Lock()
	last := len(g.readers) - 1
	g.readers[r.place] = g.readers[last]
	g.readers[r.place].place = r.place
	g.readers[last] = nil
	g.readers = g.readers[:last]
	g.mu.Unlock()
	g.hub.readers.Add(-1)
	if last == 0 {
		g.hub.drop(g)
	}
}

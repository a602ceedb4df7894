package subs

import (
	"sync/atomic"

	"github.com/notifyql/notifyql/internal/change"
)

// Reader is one subscription: a place in the history. While it is live that is a place in its group's list.
type Reader struct {
	g     *group
	wake  func()
	awake atomic.Bool // wake was called and Next has not looked since
	place int         // in group.readers; guarded by group.mu

	joined atomic.Pointer[join] // what Joined found, for a reader that is joining
	taken  atomic.Int64         // see take

	// of the consumer
	phase  phase
	closed bool
	greet  bool  // it is told when it has caught up
	part   bool  // of a batch, what came last goes on
	round  int64 // it was told where it is in this one

	// standing: rows that stand
	rows *snapshot
	row  int // the next of its frames

	// joining and catching up
	from   change.Cursor
	join   *join
	stale  int   // places in a row that were none to catch up to
	page   *page // of from, or of stub
	frame  int   // the next one in page
	toward string

	// live
	pos   int64          // in the group's list
	at    *change.Point  // what it has got: all before this,
	in    *change.Change // and if not nil, up to this change behind it
	call  int64          // of Dispatch, that brought what it got last
	stub  *entry         // being read
	after *change.Change // in stub: where page begins
	begun bool
	count int // pages of stub that were read
	trace any // see Trace

	oldest int64 // see Oldest
}

type phase byte

const (
	live     phase = iota
	standing       // reads the rows that it begins with
	joining        // waits for a sweep of the node, as of which it can catch up
	catching       // reads the log up to there
)

// Next appends the frames that are ready to dst, at most limit of them, without blocking. The frames are JSON texts of
// GraphQL ExecutionResults and must not be changed. None and a nil error: wait for wake. If exactly limit were
// appended there may be more. The error, once there is nothing left before it, is ErrClosed, ErrOverflow where there is no
// log, the one that Recheck gave, or one that wraps change.ErrDropped, change.ErrCursorExpired, change.ErrCursorInvalid,
// change.ErrUnreadable, ErrTooManyRows or ErrInterrupted.
func (r *Reader) Next(dst [][]byte, limit int) ([][]byte, error) {
	if r.closed {
		return dst, ErrClosed
	}
	r.awake.Store(false)
	start := len(dst)
	defer func() {
		r.g.hub.delivered.Add(int64(len(dst) - start))
		r.take()
	}()
	for end := start + limit; len(dst) < end; {
		was := r.phase
		var err error
		switch r.phase {
		case standing:
			dst, err = r.nextRows(dst, end-len(dst))
		case joining:
			err = r.nextJoin()
		case catching:
			dst, err = r.nextPage(dst, end-len(dst))
		default:
			dst, err = r.nextLive(dst, end-len(dst))
		}
		if err != nil || r.phase == was {
			return dst, err
		}
	}
	return dst, nil
}

// Oldest is when the first change was written, in microseconds of Unix time, that Next has given live since Oldest was called last; 0 if
// there was none. Rows, and what is read from the log, are not live. It is called as Next is.
func (r *Reader) Oldest() int64 {
	oldest := r.oldest
	r.oldest = 0
	return oldest
}

// nextLive reads the group's list until there is nothing more, or the list has left the reader behind.
func (r *Reader) nextLive(dst [][]byte, limit int) ([][]byte, error) {
	for end := len(dst) + limit; len(dst) < end; {
		if r.stub != nil {
			var done bool
			var err error
			if dst, done, err = r.nextStub(dst, end-len(dst)); !done {
				return dst, err
			}
			continue
		}
		now, round := r.g.hub.place.Load(), r.g.hub.round.Load() // before the list is looked at
		var batch [16]*entry
		n, left := r.ahead(batch[:min(end-len(dst), len(batch))])
		switch {
		case left == behind:
			return dst, r.overflow()
		case left == ended:
			return dst, r.g.why()
		case left == waitsForMore, left == nothing && now.call < r.call: // Dispatch is not done yet, and wakes
			return dst, nil
		case left == nothing:
			r.at, r.in = now.at, nil
			if round != r.round {
				r.round = round
				if frame := r.g.told(now.at); frame != nil {
					dst = append(dst, frame)
				}
			}
			return dst, nil
		}
		for _, e := range batch[:n] {
			if e.stub != nil {
				r.stub, r.after, r.begun, r.count = e, nil, e.begun, 0
				r.pos++
				break
			}
			var frame []byte
			switch {
			case !r.g.plan.Blocks():
				frame = r.g.encode(e)
			case e.ready.Load():
				frame = e.frame
			case r.g.hub.ctx.Err() != nil: // what is missing will not come
				return dst, ErrClosed
			default:
				r.g.encodeAhead(r.pos)
				return dst, nil
			}
			if frame != nil {
				dst = append(dst, frame)
				if e.rec.trace != nil {
					r.trace = e.rec.trace
				}
				if r.oldest == 0 && !e.change.At.IsZero() {
					r.oldest = e.change.At.UnixMicro()
				}
			}
			r.pos++
			r.at, r.in, r.call = e.rec.before, e.change, e.rec.call
			r.part = e.batch != nil && !e.batch.complete
		}
	}
	return dst, nil
}

// What a reader finds in its group's list at its place.
type ahead byte

const (
	something    ahead = iota
	nothing            // all that was dispatched was read
	waitsForMore       // the same, but for an open batch
	behind             // what comes next is not kept any more
	ended
)

// ahead fills es with the entries at the reader's place.
func (r *Reader) ahead(es []*entry) (int, ahead) {
	g := r.g
	g.mu.Lock()
	defer g.mu.Unlock()
	i := int(r.pos - g.base)
	if i < 0 {
		if g.ended != nil {
			return 0, ended
		}
		return 0, behind
	}
	n := min(len(es), g.entries.len()-i)
	for k := range n {
		es[k] = g.entries.at(i + k)
	}
	switch {
	case n > 0:
		return n, something
	case g.ended != nil:
		return 0, ended
	case g.open != nil:
		return 0, waitsForMore
	}
	return 0, nothing
}

func (g *group) why() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

// nextStub appends frames of a transaction that is in the log only, and reports whether that was all of it.
func (r *Reader) nextStub(dst [][]byte, limit int) ([][]byte, bool, error) {
	e := r.stub
	for {
		if r.page == nil {
			r.page, r.frame = r.g.stubPage(e, r.count, r.after, r.begun), 0
		}
		if state := r.g.stateOf(r.page); state != ready {
			return dst, false, r.waits(r.page)
		}
		n := min(limit, len(r.page.frames)-r.frame)
		dst = append(dst, r.page.frames[r.frame:r.frame+n]...)
		r.frame += n
		limit -= n
		if r.frame < len(r.page.frames) {
			return dst, false, nil
		}
		p := r.page
		r.page, r.after, r.begun, r.count = nil, p.last, p.begun, r.count+1
		r.part = p.part
		if !p.more {
			r.stub = nil
			r.at, r.in, r.call = behindStub(e), nil, e.rec.call
			return dst, true, nil
		}
		if limit == 0 {
			return dst, false, nil
		}
	}
}

// behindStub is the place behind a transaction that was read from the log.
func behindStub(e *entry) *change.Point {
	if e.rec.before == nil {
		return nil
	}
	return change.PointAt(e.rec.before.Cursor().Past(change.Mark{XID: e.xid, Seq: e.stub.LastSeq, At: e.stub.LastAt}))
}

// waits is what a reader says that waits for a page: nil, unless the page will never be there.
func (r *Reader) waits(p *page) error {
	if err := r.g.whyLost(p); err != nil {
		return err
	}
	if r.g.hub.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// Close ends the subscription. It is not to be called beside Next; a second call does nothing.
func (r *Reader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.page, r.stub, r.join = nil, nil, nil
	g := r.g
	if r.rows != nil {
		r.rows.leave(r)
		r.rows = nil
	}
	g.hub.mu.Lock()
	delete(g.hub.joining, r)
	g.hub.mu.Unlock()
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

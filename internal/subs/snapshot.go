package subs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// The ends of a reader that was to begin with rows that stand.
var (
	ErrTooManyRows = errors.New("there are more rows to begin with than may be")
	ErrInterrupted = errors.New("the rows to begin with could not be read to their end")
)

// sharedFor is how long rows that were read are there for those who ask for the same, from when their reading began.
const sharedFor = time.Second

// snapshot is the rows of a query as they stand at one moment, as frames of one group, while they are read.
//
// Its owner takes them as they come. Others that ask for the same wait until all of them are there, and take the same frames. If
// they become too many to be kept, the others read for themselves, and what the owner has taken is dropped; reading waits for
// the owner to take more.
type snapshot struct {
	g     *group
	query *change.Query
	key   string
	stop  context.CancelFunc
	room  chan struct{} // holds a token when the owner has taken something

	mu      sync.Mutex
	owner   *Reader
	readers map[*Reader]struct{}
	frames  [][]byte
	gone    int // so many frames before those were dropped
	bytes   int64
	rows    int64
	held    []change.Change // rows that were read, and wait for resolvers
	heldFor int64           // their bytes
	taken   bool            // by the owner
	large   bool            // not shared any more
	done    bool
	at      change.Cursor
	err     error
}

// snapshot gives the reader what it begins with: what others are reading, if that is the same.
func (h *Hub) snapshot(r *Reader, q *change.Query) *snapshot {
	g := r.g
	key := fmt.Sprintf("%q %q %v %d", q.Where, q.Args, q.OrderBy, q.Limit)
	g.mu.Lock()
	if s := g.snapshots[key]; s != nil && s.share(r) {
		g.mu.Unlock()
		return s
	}
	s := g.newSnapshot(r, q)
	s.key = key
	if g.snapshots == nil {
		g.snapshots = map[string]*snapshot{}
	}
	g.snapshots[key] = s
	g.mu.Unlock()
	s.begin()
	return s
}

func (g *group) newSnapshot(r *Reader, q *change.Query) *snapshot {
	return &snapshot{g: g, query: q, owner: r, readers: map[*Reader]struct{}{r: {}}, room: make(chan struct{}, 1)}
}

// share lets the reader in, if it can have all of it.
func (s *snapshot) share(r *Reader) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.large || s.err != nil || s.owner == nil && !s.done {
		return false
	}
	s.readers[r] = struct{}{}
	return true
}

// leave takes the reader out.
func (s *snapshot) leave(r *Reader) {
	s.mu.Lock()
	delete(s.readers, r)
	var next *Reader
	if s.owner == r {
		s.owner = nil
		if !s.large && !s.done {
			for next = range s.readers {
				s.owner, s.taken = next, false
				break
			}
		}
	}
	empty := s.owner == nil && !s.done
	s.mu.Unlock()
	if empty {
		s.hide()
		s.stop()
	}
	if next != nil {
		next.rouse()
	}
}

// hide keeps newcomers away.
func (s *snapshot) hide() {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	if s.g.snapshots[s.key] == s {
		delete(s.g.snapshots, s.key)
	}
}

// begin reads in a goroutine of the hub's.
func (s *snapshot) begin() {
	h := s.g.hub
	ctx, stop := context.WithCancel(h.ctx)
	s.stop = stop
	h.spawn(func() {
		defer stop()
		select {
		case h.rowing <- struct{}{}:
		case <-ctx.Done():
			return
		}
		shared := time.AfterFunc(sharedFor, s.hide)
		at, err := s.read(ctx)
		<-h.rowing
		if err == nil {
			err = s.release(ctx)
		}
		if s.finish(at, err); !s.whole() {
			shared.Stop()
			s.hide()
		}
	})
}

// whole reports whether all of it is there, for whoever asks.
func (s *snapshot) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done && !s.large
}

// read reads the rows. It tries again as long as nobody has got any.
func (s *snapshot) read(ctx context.Context) (change.Cursor, error) {
	h := s.g.hub
	wait := 50 * time.Millisecond
	for {
		at, err := h.o.History.Rows(ctx, s.query, h.o.PageRows, func(cs []change.Change) error { return s.add(ctx, cs) })
		switch {
		case err == nil, errors.Is(err, change.ErrUnreadable), errors.Is(err, ErrTooManyRows), ctx.Err() != nil:
			return at, err
		}
		h.o.Logger.Warn("the rows that a subscription begins with can't be read", "watch", s.query.Watch, "error", err)
		if !s.again() {
			return at, ErrInterrupted
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return at, ctx.Err()
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// again forgets what was read, unless somebody has got some of it.
func (s *snapshot) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return false
	}
	s.frames, s.bytes, s.rows = nil, 0, 0
	s.held, s.heldFor = nil, 0
	return true
}

// add takes a page of rows.
func (s *snapshot) add(ctx context.Context, cs []change.Change) error {
	h := s.g.hub
	h.rowsRead.Add(int64(len(cs)))
	s.mu.Lock()
	s.rows += int64(len(cs))
	tooMany := s.rows > h.o.SnapshotRows
	s.mu.Unlock()
	if tooMany {
		return fmt.Errorf("%w, %d", ErrTooManyRows, h.o.SnapshotRows)
	}
	if s.g.plan.Blocks() && s.hold(cs) {
		return nil
	}
	if err := s.release(ctx); err != nil {
		return err
	}
	return s.fill(ctx, cs)
}

// hold keeps rows until the reading is over, so that nobody who wants to read waits for resolvers; false if they are too many for that.
func (s *snapshot) hold(cs []change.Change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(0)
	for i := range cs {
		size += int64(cs[i].Size())
	}
	if s.heldFor < 0 || s.heldFor+size > s.g.hub.o.SnapshotBytes {
		return false
	}
	s.heldFor += size
	for _, c := range cs {
		c.New = bytes.Clone(c.New)
		s.held = append(s.held, c)
	}
	return true
}

// release encodes the rows held, and those to come are not.
func (s *snapshot) release(ctx context.Context) error {
	s.mu.Lock()
	held := s.held
	s.held, s.heldFor = nil, -1
	s.mu.Unlock()
	for size := s.g.pageRows(); len(held) > 0; held = held[min(size, len(held)):] {
		if err := s.fill(ctx, held[:min(size, len(held))]); err != nil {
			return err
		}
	}
	return nil
}

// fill encodes rows. Where they are too many to be kept it waits until the owner has taken some.
func (s *snapshot) fill(ctx context.Context, cs []change.Change) error {
	var f filler
	for i := range cs {
		f.add(ctx, s.g, &cs[i], nil)
	}
	f.send(ctx, s.g, false)
	if s.g.plan.Blocks() && ctx.Err() != nil {
		return ctx.Err() // a resolver was cut short
	}
	h := s.g.hub
	s.mu.Lock()
	s.frames = append(s.frames, f.frames...)
	for _, frame := range f.frames {
		s.bytes += int64(len(frame)) + frameBytes
	}
	full := s.bytes > h.o.SnapshotBytes
	if full && !s.large {
		s.large = true
		s.drop()
		s.mu.Unlock()
		s.hide()
		s.rouse()
		s.mu.Lock()
	}
	owner := s.owner
	s.mu.Unlock()
	if owner != nil {
		owner.rouse()
	}
	for full {
		select {
		case <-s.room:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
		full = s.bytes > h.o.SnapshotBytes
		s.mu.Unlock()
	}
	return nil
}

// drop forgets what the owner has taken. s.mu is held.
func (s *snapshot) drop() {
	if s.owner == nil {
		return
	}
	n := s.owner.row - s.gone
	for _, frame := range s.frames[:n] {
		s.bytes -= int64(len(frame)) + frameBytes
	}
	clear(s.frames[:n])
	s.frames, s.gone = s.frames[n:], s.gone+n
}

func (s *snapshot) finish(at change.Cursor, err error) {
	s.mu.Lock()
	s.at, s.err, s.done = at, err, err == nil
	s.mu.Unlock()
	s.rouse()
}

// rouse wakes all readers.
func (s *snapshot) rouse() {
	s.mu.Lock()
	rs := make([]*Reader, 0, len(s.readers))
	for r := range s.readers {
		rs = append(rs, r)
	}
	s.mu.Unlock()
	for _, r := range rs {
		r.rouse()
	}
}

// take gives the reader its next frames; alone is true if it has to read for itself.
func (s *snapshot) take(r *Reader, limit int) (frames [][]byte, done, alone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.owner != r && s.large, r.row == 0 && errors.Is(s.err, ErrInterrupted): // it was others who had got something
		return nil, false, true, nil
	case s.owner != r && !s.done:
		return nil, false, false, s.err
	}
	n := min(limit, s.gone+len(s.frames)-r.row)
	frames = s.frames[r.row-s.gone:][:n:n]
	r.row += n
	if s.owner == r && n > 0 {
		s.taken = true
		if s.large {
			frames = append([][]byte(nil), frames...)
			s.drop()
			select {
			case s.room <- struct{}{}:
			default:
			}
		}
	}
	if r.row == s.gone+len(s.frames) {
		return frames, s.done, false, s.err
	}
	return frames, false, false, nil
}

// nextRows appends frames of the rows that the reader begins with, and behind the last of them that it is so.
func (r *Reader) nextRows(dst [][]byte, limit int) ([][]byte, error) {
	if err := r.stopped(); err != nil {
		return dst, err
	}
	s := r.rows
	frames, done, alone, err := s.take(r, limit)
	dst = append(dst, frames...)
	switch {
	case err != nil:
		return dst, err
	case alone:
		s.leave(r)
		r.row = 0
		r.rows = r.g.newSnapshot(r, s.query)
		r.rows.begin()
	case done && len(frames) < limit:
		if frame := r.g.plan.EncodeSynced(change.PointAt(s.at)); frame != nil {
			dst = append(dst, frame)
		}
		at := s.at
		s.leave(r)
		r.rows = nil
		r.resume(at)
	}
	return dst, nil
}

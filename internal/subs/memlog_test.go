package subs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// memlog is a History over transactions in memory. They are in the order of their seqs. Its one tick has seen
// none of them, so that a cursor lists what was delivered.
type memlog struct {
	mu    sync.Mutex
	era   change.Era
	txns  []change.Txn // whole
	gone  int          // so many of them were dropped
	wrong error        // what was asked for that must not be

	// gate is called, without locks, when something is about to be read, and gives an error to fail with.
	gate func(ctx context.Context, what string) error
}

var memTick = change.Tick{Stamp: change.Stamp{ID: 1, Bits: 7}, Snapshot: change.Snapshot{Xmin: 1, Xmax: 1}}

var errAway = errors.New("the database is away")

// commit adds a transaction of so many changes and returns it.
func (l *memlog) commit(changes int) change.Txn {
	cs := make([]change.Change, changes)
	for i := range cs {
		cs[i] = change.Change{Topic: orders, Op: change.Insert, Tenant: "a"}
	}
	return l.add(cs)
}

// add adds a transaction of these changes. An insert without an image is of its seq.
func (l *memlog) add(cs []change.Change) change.Txn {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := change.Txn{XID: change.XID(len(l.txns) + 1), Changes: cs}
	seq := int64(0)
	if n := len(l.txns); n > 0 {
		seq = l.txns[n-1].LastSeq()
	}
	for i := range cs {
		seq++
		cs[i].XID, cs[i].Seq, cs[i].At = t.XID, seq, time.UnixMicro(seq)
		if cs[i].Op == change.Insert && cs[i].New == nil {
			cs[i].New = image(int(seq))
		}
	}
	l.txns = append(l.txns, t)
	return t
}

func (l *memlog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.txns)
}

// restOf is the changes of t behind the place that c names in it, if any.
func restOf(t *change.Txn, c *change.Cursor) []change.Change {
	if c.Part.XID != t.XID {
		return t.Changes
	}
	return t.Changes[slices.IndexFunc(t.Changes, func(ch change.Change) bool { return ch.Seq == c.Part.Seq })+1:]
}

// after is what follows a cursor.
func (l *memlog) after(c *change.Cursor) (cs []change.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.txns {
		if t := &l.txns[i]; !slices.Contains(c.Done, t.XID) {
			cs = append(cs, restOf(t, c)...)
		}
	}
	return cs
}

func (l *memlog) enter(ctx context.Context, what string) error {
	if l.gate != nil {
		if err := l.gate(ctx, what); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (l *memlog) Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, topics []change.Topic, _ []string, limit int) ([]change.Change, bool, error) {
	if err := l.enter(ctx, "txn"); err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(xid) <= l.gone {
		return nil, false, fmt.Errorf("page: %w", change.ErrDropped)
	}
	if stub.Era != l.era {
		return nil, false, change.ErrOtherEra
	}
	from := stub.AfterSeq
	if after != nil {
		from = after.Seq
	}
	var cs []change.Change
	for _, c := range l.txns[xid-1].Changes {
		if c.Seq > from && slices.Contains(topics, c.Topic) {
			cs = append(cs, c)
		}
	}
	return cs[:min(limit, len(cs)):min(limit, len(cs))], len(cs) > limit, nil
}

func (l *memlog) Since(ctx context.Context, from, to change.Cursor, topics []change.Topic, _ []string, limit int) (change.Page, error) {
	if err := l.enter(ctx, "since"); err != nil {
		return change.Page{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if to.Era != l.era {
		return change.Page{}, change.ErrOtherEra
	}
	for x := range l.gone {
		if !slices.Contains(from.Done, change.XID(x+1)) {
			return change.Page{}, fmt.Errorf("page: %w", change.ErrCursorExpired)
		}
	}
	for _, x := range append(slices.Clone(from.Done), from.Part.XID) {
		if x != 0 && !slices.Contains(to.Done, x) && x != to.Part.XID {
			l.wrong = fmt.Errorf("the place to be reached, %v, lacks transaction %d of %v", to.Done, x, from.Done)
		}
	}
	at := from
	at.Era = to.Era
	var p change.Page
	n := 0
	pass := func(t *change.Txn, end int64, mayEnd bool) {
		before, cs := change.PointAt(at), []change.Change(nil)
		for _, c := range restOf(t, &at) {
			if n == limit || c.Seq > end {
				break
			}
			at, n = at.In(change.PartOf(&c)), n+1
			if slices.Contains(topics, c.Topic) {
				cs = append(cs, c)
			}
		}
		whole := mayEnd && at.Part.XID == t.XID && at.Part.Seq == t.LastSeq()
		if whole {
			at = at.Past(t.Mark())
		}
		if len(cs) > 0 {
			p.Txns = append(p.Txns, change.Passed{Before: before, Changes: cs, Whole: whole})
		}
	}
	for i := range l.txns {
		switch t := &l.txns[i]; {
		case n == limit || slices.Contains(at.Done, t.XID):
		case slices.Contains(to.Done, t.XID):
			pass(t, t.LastSeq(), true)
		case to.Part.XID == t.XID:
			pass(t, to.Part.Seq, false)
		}
	}
	p.Next, p.Arrived = at, slices.Equal(at.Done, to.Done) && at.Part == to.Part
	if !p.Arrived && n == 0 {
		l.wrong = fmt.Errorf("from %+v nothing leads to %+v", from, to)
		return p, change.ErrCursorInvalid
	}
	return p, nil
}

// Rows has the rows that the changes of the log have made, but where a member table is asked for, those with a key of the user's.
func (l *memlog) Rows(ctx context.Context, q *change.Query, limit int, page func([]change.Change) error) (change.Cursor, error) {
	if err := l.enter(ctx, "rows"); err != nil {
		return change.Cursor{}, err
	}
	l.mu.Lock()
	at := change.Cursor{Tick: memTick.Stamp, Era: l.era}
	var cs []change.Change
	for i := range l.txns {
		at = at.Past(l.txns[i].Mark())
	}
	for _, image := range l.standing(&at, q.Watch) {
		if q.Among == nil || l.member(&at, q.Among, image) {
			cs = append(cs, change.Change{Op: change.Insert, Topic: change.Topic{Watch: q.Watch}, Tenant: "a", New: []byte(image)})
		}
	}
	l.mu.Unlock()
	for part := range slices.Chunk(cs, limit) {
		if err := page(part); err != nil {
			return change.Cursor{}, err
		}
		if err := l.enter(ctx, "more rows"); err != nil {
			return change.Cursor{}, err
		}
	}
	return at, ctx.Err()
}

// standing are the rows of a table at a place. l.mu is held.
func (l *memlog) standing(at *change.Cursor, watch change.WatchID) (images []string) {
	for i := range l.txns {
		t := &l.txns[i]
		cs := t.Changes
		switch {
		case at.Part.XID == t.XID:
			cs = cs[:1+slices.IndexFunc(cs, func(c change.Change) bool { return c.Seq == at.Part.Seq })]
		case !slices.Contains(at.Done, t.XID):
			continue
		}
		for _, c := range cs {
			if c.Topic.Watch != watch {
				continue
			}
			if c.Old != nil {
				k := slices.Index(images, string(c.Old))
				images = slices.Delete(images, k, k+1)
			}
			if c.New != nil {
				images = append(images, string(c.New))
			}
		}
	}
	return images
}

// member reports whether a row has a key that the user whom a names has in a row of the member table. l.mu is held.
func (l *memlog) member(at *change.Cursor, a *change.Among, image string) bool {
	value := func(image, name string) string {
		var r change.Row
		if err := r.Parse([]byte(image)); err != nil {
			panic(err)
		}
		v, _ := r.Get(name, 0)
		return string(v)
	}
	return slices.ContainsFunc(l.standing(at, a.Watch), func(m string) bool {
		return value(m, "u") == a.Where && value(m, a.Key) == value(image, a.Column)
	})
}

// source dispatches what is in a log to a hub, as a node does.
type source struct {
	l    *memlog
	h    *Hub
	pos  *change.Position
	next int // transaction
	in   int // changes of it that were dispatched

	mu     sync.Mutex
	asked  int // ticket
	ticket int // of the sweep under way
	upto   int // so many transactions it finds
}

func newSource(l *memlog, o Options) *source {
	s := &source{l: l, pos: change.NewPosition(l.era, memTick, nil)}
	o.History, o.Join = l, func(ticket int) {
		s.mu.Lock()
		s.asked = max(s.asked, ticket)
		s.mu.Unlock()
	}
	s.h = New(o)
	s.h.Dispatch(nil, s.pos.Point())
	return s
}

// txn is what comes next; nil if there is nothing.
func (s *source) txn() *change.Txn {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if s.next == len(s.l.txns) {
		return nil
	}
	t := s.l.txns[s.next]
	return &t
}

// dispatch gives the next n changes of the next transaction, or with stub all that is left of it.
func (s *source) dispatch(n int, stub bool) bool {
	t := s.txn()
	if t == nil {
		return false
	}
	last := t.LastSeq()
	t.Continued = s.in > 0
	if stub {
		t.Stub = &change.Stub{LastSeq: last, LastAt: t.Mark().At}
		if s.in > 0 {
			t.Stub.AfterSeq = t.Changes[s.in-1].Seq
		}
		t.Changes, s.in = nil, len(t.Changes)
	} else {
		n = min(n, len(t.Changes)-s.in)
		t.Changes, s.in = t.Changes[s.in:s.in+n:s.in+n], s.in+n
	}
	t.Before = s.pos.Dispatched(t.Mark(), stub)
	if t.LastSeq() == last {
		s.next, s.in = s.next+1, 0
	}
	s.h.Dispatch([]change.Txn{*t}, s.pos.Point())
	return true
}

// begin begins a sweep, if somebody waits for one, and answer ends it when what it found is dispatched.
func (s *source) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticket == 0 && s.asked > 0 {
		s.ticket, s.asked, s.upto = s.asked, 0, s.l.len()
	}
}

func (s *source) answer() bool {
	if s.ticket == 0 || s.next < s.upto {
		return false
	}
	ticket := s.ticket
	s.ticket = 0
	seen := change.XID(s.upto + 1)
	s.pos.Swept(change.Snapshot{Xmin: seen, Xmax: seen}, nil)
	s.h.Dispatch(nil, s.pos.Point())
	if s.in == 0 && s.next == s.upto {
		s.h.Settle()
	}
	s.h.Joined(ticket, s.pos.Point())
	return true
}

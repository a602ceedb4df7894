package subs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// change is the change of this seq, as the log has it.
func (s *sim) change(seq int64) change.Change {
	c, l := s.w.Change(seq), &s.w.Log[seq-1]
	c.Topic, c.Op, c.Shared, c.New = orders, change.Insert, true, padded(l.Row*1000+l.Ver)
	return c
}

// padded is an image that is larger than any frame.
func padded(n int) []byte { return fmt.Appendf(nil, `{"n":%d,"pad":"%01000d"}`, n, 0) }

// rest gives at most limit changes of x behind c, in canonical order.
func (s *sim) rest(c *change.Cursor, x change.XID, limit int) (cs []change.Change) {
	i := s.w.Index(x)
	if i < 0 || s.w.Txs[i].State != mvcctest.Committed {
		return nil
	}
	seqs := s.w.Txs[i].Seqs
	if c.Part.XID == x {
		seqs = seqs[slices.Index(seqs, c.Part.Seq)+1:]
	}
	for _, seq := range seqs {
		if len(cs) < limit && seq > s.w.Kept {
			cs = append(cs, s.change(seq))
		}
	}
	return cs
}

// Txn implements History.
func (s *sim) Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, _ []change.Topic, _ []string, limit int) (cs []change.Change, more bool, err error) {
	if err := s.wait(ctx, fmt.Sprintf("txn %d %v", xid, after)); err != nil {
		return nil, false, err
	}
	w := s.w
	i := w.Index(xid)
	if i >= 0 && w.Txs[i].State == mvcctest.Committed {
		seqs := w.Txs[i].Seqs
		at := slices.IndexFunc(seqs, func(q int64) bool { return q > stub.AfterSeq })
		if after != nil {
			at = slices.Index(seqs, after.Seq) + 1
		}
		for _, seq := range seqs[max(at, 0):] {
			if seq <= w.Kept {
				continue
			}
			if more = len(cs) == limit; more {
				break
			}
			cs = append(cs, s.change(seq))
		}
	}
	dropped := xid <= w.Dropped
	era := w.Era
	if err := s.wait(ctx, "judge txn"); err != nil {
		return nil, false, err
	}
	switch {
	case !s.bugs.eraIgnored && (stub.Era != w.Era || era != w.Era):
		return nil, false, change.ErrOtherEra
	case dropped || xid <= w.Dropped:
		return nil, false, change.ErrDropped
	}
	return cs, more, nil
}

// Since implements History: it reads, and judges what it read in a later step.
func (s *sim) Since(ctx context.Context, from, to change.Cursor, _ []change.Topic, _ []string, limit int) (change.Page, error) {
	if err := s.wait(ctx, "since "+from.String()+to.String()); err != nil {
		return change.Page{}, err
	}
	if to.Era != s.w.Era && !s.bugs.eraIgnored {
		return change.Page{}, change.ErrOtherEra
	}
	if s.bugs.unjudged {
		if p, err := s.read(from, to, limit); p.Next.Tick.ID != 0 || err != nil {
			return p, err
		}
	}
	if err := s.judgeOnly(&from); err != nil {
		return change.Page{}, err
	}
	p, failed := s.read(from, to, limit)
	if err := s.wait(ctx, "judge since"); err != nil {
		return change.Page{}, err
	}
	if to.Era != s.w.Era && !s.bugs.eraIgnored {
		return change.Page{}, change.ErrOtherEra
	}
	if err := s.judgeOnly(&from); err != nil {
		return change.Page{}, err
	}
	if failed != nil {
		s.fail("%v", failed)
	}
	return p, failed
}

func (s *sim) judgeOnly(c *change.Cursor) error {
	if s.bugs.eraIgnored {
		same := *c
		same.Era = s.w.Era
		return s.judge(&same)
	}
	return s.judge(c)
}

// read reads a page, on which nobody may rely yet.
func (s *sim) read(from, to change.Cursor, limit int) (p change.Page, err error) {
	at := from
	at.Era = to.Era
	n := 0
	pass := func(before change.Cursor, cs []change.Change, whole bool) {
		n += len(cs)
		if len(cs) > 0 {
			p.Txns = append(p.Txns, change.Passed{Before: change.PointAt(before), Changes: cs, Whole: whole})
		}
	}
	for steps := 0; n < limit; steps++ {
		if steps > 200 {
			return p, errors.New("catching up goes nowhere")
		}
		tick, upper := s.w.Tick(at.Tick.ID), s.w.Tick(at.Upper.ID)
		x := change.XID(0)
		switch {
		case at.Part.XID != 0 && at.Part.XID != to.Part.XID:
			x = at.Part.XID
		case at.Upper.ID != 0:
			if tick == nil || upper == nil {
				return p, nil // it will be judged
			}
			if x = s.oldest(func(t *mvcctest.Tx) bool {
				return upper.Snapshot.Sees(t.XID) && !at.Delivered(s.w.Mark(t), tick, upper)
			}); x == 0 {
				var beyond []change.Mark
				for _, x := range at.Beyond(upper) {
					beyond = append(beyond, s.w.Mark(&s.w.Txs[s.w.Index(x)]))
				}
				at = at.At(upper, beyond)
				continue
			}
		case at.Tick.ID < to.Tick.ID:
			u := at.Tick.ID + 1
			for s.w.Tick(u) == nil && u < to.Tick.ID {
				u++
			}
			t := s.w.Tick(u)
			if t == nil {
				return p, nil
			}
			at = at.Toward(t.Stamp)
			continue
		case at.Tick.ID > to.Tick.ID:
			return p, fmt.Errorf("the reader is ahead of the node: %s, and %s", at, to)
		default:
			if x = s.oldest(func(t *mvcctest.Tx) bool {
				return slices.Contains(to.Done, t.XID) && !slices.Contains(at.Done, t.XID)
			}); x == 0 {
				before := at
				var cs []change.Change
				if to.Part.XID != 0 && at.Part != to.Part {
					for _, c := range s.rest(&at, to.Part.XID, 100) {
						if cs = append(cs, c); c.Seq == to.Part.Seq {
							break
						}
					}
				}
				at.Part = to.Part
				pass(before, cs, false)
				p.Next, p.Arrived = at, at.String() == to.String()
				if !p.Arrived {
					return p, fmt.Errorf("caught up at %s and not at %s, from %s", at, to, from)
				}
				return p, nil
			}
		}
		before, cs := at, s.rest(&at, x, limit-n)
		if len(cs) > 0 {
			at = at.In(change.PartOf(&cs[len(cs)-1]))
		}
		whole := len(s.rest(&at, x, 1)) == 0
		pass(before, cs, whole)
		if i := s.w.Index(x); whole {
			if i < 0 || !s.w.Readable(&s.w.Txs[i]) {
				return p, nil // it is gone, and that will be found
			}
			at = at.Past(s.w.Mark(&s.w.Txs[i]))
		}
	}
	p.Next = at
	return p, nil
}

// oldest gives the readable transaction with the lowest last seq of those wanted, or zero.
func (s *sim) oldest(wanted func(*mvcctest.Tx) bool) change.XID {
	var ts []*mvcctest.Tx
	for i := range s.w.Txs {
		if t := &s.w.Txs[i]; s.w.Readable(t) && wanted(t) {
			ts = append(ts, t)
		}
	}
	if len(ts) == 0 {
		return 0
	}
	return slices.MinFunc(ts, func(a, b *mvcctest.Tx) int { return cmp.Compare(s.w.Mark(a).Seq, s.w.Mark(b).Seq) }).XID
}

// Rows implements History: each row has its newest version that is committed.
func (s *sim) Rows(ctx context.Context, q *change.Query, _ int, page func([]change.Change) error) (change.Cursor, error) {
	if err := s.wait(ctx, "rows "+q.Where); err != nil {
		return change.Cursor{}, err
	}
	moment := func() (change.Cursor, change.Snapshot) {
		snap := s.w.Snapshot()
		tick := s.w.NewestTick(snap)
		c := change.Cursor{Tick: tick.Stamp, Era: s.w.Era}
		for _, m := range s.marks(snap, tick) {
			c = c.Past(m)
		}
		return c, snap
	}
	c, snap := moment()
	vers := s.versions(snap)
	for row, ver := range vers {
		if err := s.wait(ctx, "more rows"); err != nil {
			return change.Cursor{}, err
		}
		if c.Era != s.w.Era {
			return change.Cursor{}, change.ErrOtherEra
		}
		if ver > 0 {
			if err := page([]change.Change{{Op: change.Insert, Topic: orders, Shared: true, New: image(row*1000 + ver)}}); err != nil {
				return change.Cursor{}, err
			}
		}
	}
	if s.bugs.rowsBefore {
		c, snap = moment()
	}
	m := rowsMoment{vers: vers, got: map[change.XID]int{}}
	for _, i := range s.w.Ends {
		if t := &s.w.Txs[i]; snap.Sees(t.XID) {
			m.got[t.XID] = len(t.Seqs)
		}
	}
	s.moments[c.String()] = m
	return c, nil
}

// rowsMoment is what stood at a place.
type rowsMoment struct {
	vers    [mvcctest.Rows]int
	got     map[change.XID]int // of each transaction
	phantom bool               // a crash has undone some of it
}

// versions are the versions of the rows that a snapshot sees.
func (s *sim) versions(snap change.Snapshot) (vers [mvcctest.Rows]int) {
	for _, l := range s.w.Log {
		if l.Undone {
			continue
		}
		if t := &s.w.Txs[l.Tx]; t.State == mvcctest.Committed && snap.Sees(t.XID) {
			vers[l.Row] = max(vers[l.Row], l.Ver)
		}
	}
	return vers
}

package feed

import (
	"cmp"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// next does one thing on the way to the target: finish a transaction, do the next of an interval, begin or end one.
func (cl *client) next(w *mvcctest.World, c change.Cursor) (page []event, to change.Cursor, done bool) {
	target := &cl.target
	if x := c.Part.XID; x != 0 && x != target.Part.XID {
		if page := rest(w, &c, x, 2, cl.c.bugs.rightHere); len(page) > 0 {
			return page, c, false
		}
		if i := w.Index(x); i >= 0 && w.Readable(&w.Txs[i]) {
			return nil, c.Past(w.Mark(&w.Txs[i])), false
		}
		c.Part = change.Part{} // it is gone: the check will tell
		return nil, c, false
	}
	switch {
	case c.Upper.ID != 0:
		u := w.Tick(c.Upper.ID)
		tick := w.Tick(c.Tick.ID)
		if u == nil || tick == nil {
			return nil, c, false // the check will tell
		}
		if t := cl.oldest(w, &c, func(t *mvcctest.Tx) bool {
			return u.Snapshot.Sees(t.XID) && !c.Delivered(w.Mark(t), tick, u)
		}); t != nil {
			return rest(w, &c, t.XID, 2, cl.c.bugs.rightHere), c, false
		}
		var beyond []change.Mark
		for _, x := range c.Beyond(u) {
			if !cl.c.bugs.beyondLost {
				beyond = append(beyond, w.Mark(&w.Txs[w.Index(x)]))
			}
		}
		return nil, c.At(u, beyond), false
	case c.Tick.ID < target.Tick.ID:
		u := c.Tick.ID + 1
		for w.Tick(u) == nil && u < target.Tick.ID {
			u++
		}
		if t := w.Tick(u); t != nil {
			return nil, c.Toward(t.Stamp), false
		}
		return nil, c, false
	case c.Tick.ID > target.Tick.ID:
		cl.c.fail("the client is ahead of the node: %+v, and %+v", c, *target)
		return nil, c, true
	}
	if t := cl.oldest(w, &c, func(t *mvcctest.Tx) bool {
		return slices.Contains(target.Done, t.XID) && !slices.Contains(c.Done, t.XID)
	}); t != nil {
		return rest(w, &c, t.XID, 2, cl.c.bugs.rightHere), c, false
	}
	if target.Part.XID != 0 && c.Part != target.Part {
		for _, e := range rest(w, &c, target.Part.XID, 100, false) {
			if e.seq <= target.Part.Seq {
				page = append(page, e)
			}
		}
		if len(page) > 0 {
			return page, c, false
		}
	}
	return nil, c, true
}

// oldest gives the readable transaction with the lowest last seq of those wanted.
func (cl *client) oldest(w *mvcctest.World, c *change.Cursor, wanted func(*mvcctest.Tx) bool) *mvcctest.Tx {
	var ts []*mvcctest.Tx
	for i := range w.Txs {
		if t := &w.Txs[i]; w.Readable(t) && wanted(t) {
			ts = append(ts, t)
		}
	}
	if len(ts) == 0 {
		return nil
	}
	return slices.MinFunc(ts, func(a, b *mvcctest.Tx) int {
		if cl.c.bugs.intervalXID {
			return cmp.Compare(a.XID, b.XID)
		}
		return cmp.Compare(w.Mark(a).Seq, w.Mark(b).Seq)
	})
}

// rest gives at most limit changes of x behind c in canonical order.
func rest(w *mvcctest.World, c *change.Cursor, x change.XID, limit int, bySeq bool) []event {
	i := w.Index(x)
	if i < 0 || w.Txs[i].State != mvcctest.Committed {
		return nil
	}
	seqs := w.Txs[i].Seqs
	if c.Part.XID == x {
		at := slices.Index(seqs, c.Part.Seq)
		if bySeq {
			seqs = slices.DeleteFunc(slices.Clone(seqs), func(s int64) bool { return s <= c.Part.Seq })
		} else {
			seqs = seqs[at+1:]
		}
	}
	var out []event
	for _, seq := range seqs {
		if ch := w.Change(seq); len(out) < limit && seq > w.Kept {
			out = append(out, event{seq, c.In(change.PartOf(&ch))})
		}
	}
	return out
}

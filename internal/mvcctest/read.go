package mvcctest

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// Read gives what a sweep from f finds under snapshot s, which is of now: the predicate, the order, the place in the open
// transaction.
func (w *World) Read(f *change.Frontier, s change.Snapshot) []change.Txn {
	var out []change.Txn
	open, openSeq := f.Open()
	for i := range w.Txs {
		t := &w.Txs[i]
		since := t.XID >= f.Snapshot.Xmax || slices.Contains(f.Snapshot.Xip, t.XID)
		if !w.Readable(t) || !since || !s.Sees(t.XID) || f.Contains(t.XID) {
			continue
		}
		var after int64
		if t.XID == open {
			after = openSeq
		}
		out = append(out, w.txn(t, after))
	}
	slices.SortFunc(out, func(a, b change.Txn) int {
		switch open {
		case a.XID:
			return -1
		case b.XID:
			return 1
		}
		return cmp.Compare(a.LastSeq(), b.LastSeq())
	})
	return out
}

func (w *World) txn(t *Tx, after int64) change.Txn {
	out := change.Txn{XID: t.XID}
	if t.Stub {
		out.Stub = &change.Stub{AfterSeq: after, LastSeq: slices.Max(t.Seqs), LastAt: w.Mark(t).At}
		return out
	}
	for _, seq := range t.Seqs {
		if seq > after && seq > w.Kept {
			out.Changes = append(out.Changes, w.Change(seq))
		}
	}
	return out
}

// Readable reports whether the log has changes of t that a new snapshot sees.
func (w *World) Readable(t *Tx) bool {
	return t.State == Committed && len(t.Seqs) > 0 && slices.Max(t.Seqs) > w.Kept
}

// Mark is the mark of a whole transaction.
func (w *World) Mark(t *Tx) change.Mark {
	c := w.Change(slices.Max(t.Seqs))
	return change.MarkOf(&c)
}

// Listen is where a listener begins in the queue that LISTENs now: behind what is visible already.
func (w *World) Listen() (pos int) {
	for pos < len(w.Queue) && w.Txs[w.Queue[pos]].State == Committed {
		pos++
	}
	return pos
}

// Waiting is how many notices a listener can receive that has received those of the first pos transactions of the queue,
// and sub of the next one.
func (w *World) Waiting(pos, sub int) int {
	n := -sub
	for ; pos < len(w.Queue) && w.Txs[w.Queue[pos]].State == Committed; pos++ {
		n += len(w.Txs[w.Queue[pos]].Notices)
	}
	return n
}

// Clone returns a database of its own.
func (w *World) Clone() *World {
	c := *w
	c.Running, c.Log, c.Ends, c.Queue = slices.Clone(w.Running), slices.Clone(w.Log), slices.Clone(w.Ends), slices.Clone(w.Queue)
	c.Txs = slices.Clone(w.Txs)
	for i := range c.Txs {
		c.Txs[i].Seqs, c.Txs[i].Notices = slices.Clone(w.Txs[i].Seqs), slices.Clone(w.Txs[i].Notices)
	}
	c.Ticks, c.Modes.said = slices.Clone(w.Ticks), slices.Clone(w.Modes.said)
	c.Writers = slices.Clone(w.Writers)
	for i := range c.Writers {
		c.Writers[i].saved = slices.Clone(w.Writers[i].saved)
	}
	return &c
}

// AppendKey appends what tells this state of the database from any other that the same writers can bring about.
func (w *World) AppendKey(b []byte) []byte {
	num := func(ns ...int) {
		for _, n := range ns {
			b = binary.AppendVarint(b, int64(n))
		}
	}
	num(int(w.Next), int(w.Completed), w.Notifier, len(w.Txs), len(w.Log), len(w.Running), len(w.Ends), len(w.Queue))
	for _, x := range w.Running {
		num(int(x))
	}
	for i := range w.Txs {
		t := &w.Txs[i]
		num(int(t.State), t.First, len(t.Seqs), len(t.Notices))
		for _, seq := range t.Seqs {
			num(int(seq))
		}
	}
	num(w.Ends...)
	num(w.Queue...)
	for i := range w.Writers {
		wr := &w.Writers[i]
		num(wr.Done, wr.Tx, wr.PC)
		if wr.Lost {
			num(1)
		}
	}
	w.appendModes(num)
	return b
}

package feed

import (
	"fmt"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// oracle knows what a node must dispatch and says where it did not.
type oracle struct {
	started bool
	from    change.Snapshot    // what the first Opened saw: never delivered
	got     []int              // of each transaction, how many of its changes were dispatched
	phantom bool               // something was dispatched that a crash undid
	part    int                // the transaction of which only a part was, or -1
	settled int                // so many of the first to commit are dispatched whole, or never will be
	ver     [mvcctest.Rows]int // of each row, the version dispatched last
}

func newOracle() oracle { return oracle{part: -1} }

func (o *oracle) start(w *mvcctest.World, s change.Snapshot) {
	o.started, o.from = true, s
	for _, l := range w.Log {
		if l.Undone {
			continue
		}
		if t := &w.Txs[l.Tx]; t.State == mvcctest.Committed && s.Sees(t.XID) {
			o.ver[l.Row] = max(o.ver[l.Row], l.Ver)
		}
	}
}

// whole reports whether transaction i needs nothing more.
func (o *oracle) whole(w *mvcctest.World, i int) bool {
	t := &w.Txs[i]
	return o.from.Sees(t.XID) || len(t.Seqs) == 0 || i < len(o.got) && o.got[i] == len(t.Seqs)
}

// dispatched checks one transaction, or part of one, that the machine gave.
func (o *oracle) dispatched(w *mvcctest.World, t change.Txn) error {
	o.grow(w)
	i := w.Index(t.XID)
	switch {
	case i < 0 || w.Txs[i].State != mvcctest.Committed:
		return fmt.Errorf("transaction %d is not committed", t.XID)
	case o.from.Sees(t.XID):
		return fmt.Errorf("transaction %d had committed before the node started", t.XID)
	case t.Continued != (o.got[i] > 0):
		return fmt.Errorf("transaction %d: Continued is %v after %d changes", t.XID, t.Continued, o.got[i])
	case o.part >= 0 && o.part != i:
		return fmt.Errorf("transaction %d comes between the parts of %d", t.XID, w.Txs[o.part].XID)
	case t.Stub == nil && len(t.Changes) == 0:
		return fmt.Errorf("transaction %d: nothing in it", t.XID)
	}
	if err := o.before(w, i); err != nil {
		return err
	}
	if t.Stub != nil {
		if err := o.stub(w, i, t); err != nil {
			return err
		}
	}
	for _, c := range t.Changes {
		if err := o.change(w, i, c.Seq); err != nil {
			return err
		}
	}
	o.part = i
	if o.whole(w, i) {
		o.part = -1
	}
	return nil
}

// before checks that all that had committed before transaction i began is dispatched.
func (o *oracle) before(w *mvcctest.World, i int) error {
	for o.settled < len(w.Ends) && o.whole(w, w.Ends[o.settled]) {
		o.settled++
	}
	if first := w.Txs[i].First; o.settled < first {
		return fmt.Errorf("transaction %d before %d, which had committed before it began", w.Txs[i].XID, w.Txs[w.Ends[o.settled]].XID)
	}
	return nil
}

// crashed takes note of a crash that undid transactions. What the node began from is named by what it saw of it, since its
// xids may be given out again.
func (o *oracle) crashed(w *mvcctest.World, lost []change.XID) {
	for _, x := range lost {
		i := int(x) - mvcctest.FirstXID
		o.phantom = o.phantom || o.from.Sees(x) || i < len(o.got) && o.got[i] > 0
	}
	o.got = o.got[:min(len(o.got), len(w.Txs))]
	o.grow(w)
	for i := range w.Txs {
		switch t := &w.Txs[i]; {
		case t.State != mvcctest.Committed:
			o.got[i] = 0
		case o.from.Sees(t.XID):
			o.got[i] = len(t.Seqs)
		}
	}
	o.from, o.settled = change.Snapshot{}, 0
	if o.part >= len(w.Txs) || o.part >= 0 && o.got[o.part] == 0 {
		o.part = -1
	}
}

// giveUp takes what s sees for dispatched: it must not come any more.
func (o *oracle) giveUp(w *mvcctest.World, s change.Snapshot) {
	o.grow(w)
	for i := range w.Txs {
		t := &w.Txs[i]
		if t.State != mvcctest.Committed || !s.Sees(t.XID) {
			continue
		}
		o.got[i] = len(t.Seqs)
		for _, seq := range t.Seqs {
			l := w.Log[seq-1]
			o.ver[l.Row] = max(o.ver[l.Row], l.Ver)
		}
	}
	if o.part >= 0 && o.whole(w, o.part) {
		o.part = -1
	}
}

func (o *oracle) stub(w *mvcctest.World, i int, t change.Txn) error {
	seqs := w.Txs[i].Seqs
	for k, seq := range seqs {
		if (k < o.got[i]) != (seq <= t.Stub.AfterSeq) || seq > t.Stub.LastSeq {
			return fmt.Errorf("transaction %d: the stub (%d, %d] does not fit after %d of %v", t.XID, t.Stub.AfterSeq, t.Stub.LastSeq, o.got[i], seqs)
		}
	}
	for o.got[i] < len(seqs) {
		if err := o.change(w, i, seqs[o.got[i]]); err != nil {
			return err
		}
	}
	return nil
}

func (o *oracle) change(w *mvcctest.World, i int, seq int64) error {
	t := &w.Txs[i]
	if o.got[i] >= len(t.Seqs) || t.Seqs[o.got[i]] != seq {
		return fmt.Errorf("transaction %d: seq %d after %d of %v", t.XID, seq, o.got[i], t.Seqs)
	}
	o.got[i]++
	l := w.Log[seq-1]
	if l.Ver != o.ver[l.Row]+1 {
		return fmt.Errorf("row %d: version %d after %d (transaction %d)", l.Row, l.Ver, o.ver[l.Row], t.XID)
	}
	o.ver[l.Row] = l.Ver
	return nil
}

// rest checks that nothing is left over.
func (o *oracle) rest(w *mvcctest.World) error {
	for _, i := range w.Ends {
		if !o.whole(w, i) {
			return fmt.Errorf("transaction %d is lost: %d of its changes of %v were dispatched", w.Txs[i].XID, o.gotOf(i), w.Txs[i].Seqs)
		}
	}
	return nil
}

func (o *oracle) gotOf(i int) int {
	if i < len(o.got) {
		return o.got[i]
	}
	return 0
}

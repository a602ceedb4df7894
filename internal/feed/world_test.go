package feed

import (
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// The model of Postgres that the simulator runs the machine over: transactions with row locks, a change log, snapshots
// as pg_current_snapshot gives them, and the notification queue, whose lock is held from queueing to commit. The golden
// tests in postgres_test.go hold real Postgres to what is assumed here.

const rowCount = 3

// op is one thing that a writer's transaction does.
type op struct {
	kind byte
	row  int
}

// Kinds of op.
const (
	inline    = 'i' // a change that fits into its notification
	large     = 'l' // a change too large for it: a marker
	nested    = 'n' // a change whose order may be off: a marker, and markers only to the end of the transaction
	savepoint = 's'
	rollback  = 'r' // to the newest savepoint
)

// plan is a writer's transaction.
type plan struct {
	ops   []op
	abort bool
	stub  bool // sweeps give it as a stub
}

type writer struct {
	plans []plan
	done  int // plans
	tx    int // index of the running transaction, or -1
	pc    int
	saved []mark
	lost  bool // rolled back because of a deadlock: its plan ends
}

// mark is what a savepoint goes back to.
type mark struct{ seqs, notices, nested int }

type txState byte

const (
	running txState = iota
	queued
	committed
	aborted
)

type tx struct {
	xid     change.XID
	state   txState
	stub    bool
	first   int     // how many transactions had committed when it logged its first change
	seqs    []int64 // its changes; once committed, in canonical order
	nested  int     // place in seqs from which on only markers are sent; -1: none
	notices []note
}

type note struct {
	seq    int64
	marker bool
}

type logged struct {
	tx   int
	row  int
	ver  int
	undo bool // rolled back to a savepoint
}

type world struct {
	next, completed change.XID
	running         []change.XID // ascending
	txs             []tx         // by xid
	log             []logged     // by seq, from 1
	ends            []int        // committed transactions in commit order
	queue           []int        // transactions with notifications, in the queue's order
	notifier        int          // holds the queue's lock, or -1
	rows            [rowCount]struct{ holder, ver int }
	writers         []writer
}

const firstXID = 10

func newWorld(writers []writer) *world {
	w := &world{next: firstXID, completed: firstXID - 1, notifier: -1, writers: writers}
	for i := range w.rows {
		w.rows[i].holder = -1
	}
	for i := range w.writers {
		w.writers[i].tx = -1
	}
	return w
}

func (w *world) index(x change.XID) int {
	if x < firstXID || int(x-firstXID) >= len(w.txs) {
		return -1
	}
	return int(x - firstXID)
}

func (w *world) snapshot() change.Snapshot {
	s := change.Snapshot{Xmin: w.completed + 1, Xmax: w.completed + 1}
	for _, x := range w.running {
		if x < s.Xmax {
			s.Xip = append(s.Xip, x)
			s.Xmin = min(s.Xmin, x)
		}
	}
	return s
}

// step lets writer i do its next thing; false if it has none or waits for a lock.
func (w *world) step(i int) bool {
	wr := &w.writers[i]
	if wr.tx < 0 {
		if wr.done == len(wr.plans) {
			return false
		}
		w.begin(wr)
		return true
	}
	p := &wr.plans[wr.done]
	t := &w.txs[wr.tx]
	if wr.pc < len(p.ops) && !wr.lost {
		return w.op(wr, p.ops[wr.pc])
	}
	switch {
	case p.abort || wr.lost:
		w.abort(wr)
	case t.state == running && len(t.notices) > 0:
		if w.notifier >= 0 {
			return false
		}
		t.state = queued
		w.notifier = wr.tx
		w.queue = append(w.queue, wr.tx)
	default:
		w.commit(wr)
	}
	return true
}

func (w *world) begin(wr *writer) {
	wr.tx, wr.pc, wr.lost, wr.saved = len(w.txs), 0, false, nil
	w.txs = append(w.txs, tx{xid: w.next, stub: wr.plans[wr.done].stub, nested: -1})
	w.running = append(w.running, w.next)
	w.next++
}

func (w *world) op(wr *writer, o op) bool {
	t := &w.txs[wr.tx]
	switch o.kind {
	case savepoint:
		wr.saved = append(wr.saved, mark{len(t.seqs), len(t.notices), t.nested})
	case rollback:
		if n := len(wr.saved); n > 0 {
			w.undo(t, wr.saved[n-1])
			wr.saved = wr.saved[:n-1]
		}
	default:
		r := &w.rows[o.row]
		if r.holder >= 0 && r.holder != wr.tx {
			return false
		}
		r.holder = wr.tx
		r.ver++
		w.log = append(w.log, logged{tx: wr.tx, row: o.row, ver: r.ver})
		seq := int64(len(w.log))
		if t.seqs == nil {
			t.first = len(w.ends)
		}
		if o.kind == nested && t.nested < 0 {
			t.nested = len(t.seqs)
		}
		t.seqs = append(t.seqs, seq)
		w.notify(t, note{seq, o.kind != inline || t.nested >= 0})
	}
	wr.pc++
	return true
}

// notify collapses markers, as Postgres collapses equal payloads of a transaction.
func (w *world) notify(t *tx, n note) {
	if n.marker {
		n.seq = 0
		if slices.ContainsFunc(t.notices, func(o note) bool { return o.marker }) {
			return
		}
	}
	t.notices = append(t.notices, n)
}

func (w *world) undo(t *tx, to mark) {
	for _, seq := range t.seqs[to.seqs:] {
		l := &w.log[seq-1]
		l.undo = true
		w.rows[l.row].ver--
	}
	t.seqs, t.notices, t.nested = t.seqs[:to.seqs], t.notices[:to.notices], to.nested
}

func (w *world) abort(wr *writer) {
	t := &w.txs[wr.tx]
	w.undo(t, mark{0, 0, -1})
	t.state = aborted
	w.end(wr)
}

func (w *world) commit(wr *writer) {
	t := &w.txs[wr.tx]
	w.canonical(t)
	t.state = committed
	w.ends = append(w.ends, wr.tx)
	w.end(wr)
}

// canonical puts the changes whose order was off into another order than that of their seqs: the last two trade places
// if they may.
func (w *world) canonical(t *tx) {
	n := len(t.seqs)
	if t.nested >= 0 && n-t.nested >= 2 && w.log[t.seqs[n-1]-1].row != w.log[t.seqs[n-2]-1].row {
		t.seqs = slices.Clone(t.seqs)
		t.seqs[n-1], t.seqs[n-2] = t.seqs[n-2], t.seqs[n-1]
	}
}

func (w *world) end(wr *writer) {
	x := w.txs[wr.tx].xid
	w.running = slices.DeleteFunc(w.running, func(r change.XID) bool { return r == x })
	w.completed = max(w.completed, x)
	for i := range w.rows {
		if w.rows[i].holder == wr.tx {
			w.rows[i].holder = -1
		}
	}
	if w.notifier == wr.tx {
		w.notifier = -1
	}
	wr.tx = -1
	wr.done++
}

// deadlocked reports whether writer i waits for itself.
func (w *world) deadlocked(i int) bool {
	for at, hops := i, 0; hops <= len(w.writers); hops++ {
		wr := &w.writers[at]
		if wr.tx < 0 || wr.lost || wr.pc >= len(wr.plans[wr.done].ops) {
			return false
		}
		o := wr.plans[wr.done].ops[wr.pc]
		if o.kind == savepoint || o.kind == rollback {
			return false
		}
		h := w.rows[o.row].holder
		if h < 0 || h == wr.tx {
			return false
		}
		at = slices.IndexFunc(w.writers, func(o writer) bool { return o.tx == h })
		if at == i {
			return true
		}
	}
	return false
}

// read gives what a sweep from f finds under snapshot s: the predicate, the order, the place in the open transaction.
func (w *world) read(f *change.Frontier, s change.Snapshot) []change.Txn {
	var out []change.Txn
	open, openSeq := f.Open()
	for i := range w.txs {
		t := &w.txs[i]
		new := t.xid >= f.Snapshot.Xmax || slices.Contains(f.Snapshot.Xip, t.xid)
		if t.state != committed || len(t.seqs) == 0 || !new || !s.Sees(t.xid) || f.Contains(t.xid) {
			continue
		}
		var after int64
		if t.xid == open {
			after = openSeq
		}
		out = append(out, w.txn(t, after))
	}
	slices.SortFunc(out, func(a, b change.Txn) int {
		if a.XID == open || b.XID == open {
			if a.XID == open {
				return -1
			}
			return 1
		}
		return int(a.LastSeq() - b.LastSeq())
	})
	return out
}

func (w *world) txn(t *tx, after int64) change.Txn {
	out := change.Txn{XID: t.xid}
	if t.stub {
		out.Stub = &change.Stub{AfterSeq: after, LastSeq: slices.Max(t.seqs)}
		return out
	}
	for _, seq := range t.seqs {
		if seq > after {
			out.Changes = append(out.Changes, change.Change{XID: t.xid, Seq: seq})
		}
	}
	return out
}

func (t *tx) notice(i int) Notice {
	n := t.notices[i]
	return Notice{Change: change.Change{XID: t.xid, Seq: n.seq}, Marker: n.marker}
}

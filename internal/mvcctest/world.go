// Package mvcctest is a model of Postgres for simulators: transactions with row locks, a change log, snapshots as
// pg_current_snapshot gives them, and the notification queue, whose lock is held from queueing to commit. Nothing in it
// happens by itself or by chance: whoever holds a World says who does the next thing. The golden tests of internal/feed hold
// real Postgres to what is assumed here.
//
// Its fields are open, because a simulator's oracle has to look at everything.
package mvcctest

import (
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// Rows is how many rows there are.
const Rows = 3

// FirstXID is the xid of the first transaction.
const FirstXID = 10

// Op is one thing that a writer's transaction does.
type Op struct {
	Kind Kind
	Row  int
}

// Kind is what an Op is.
type Kind byte

// Kinds of Op.
const (
	Inline    Kind = 'i' // a change that fits into its notification
	Large     Kind = 'l' // a change too large for it: a marker
	Nested    Kind = 'n' // a change whose order may be off: a marker, and markers only to the end of the transaction
	Savepoint Kind = 's'
	Rollback  Kind = 'r' // to the newest savepoint
)

// Plan is a writer's transaction.
type Plan struct {
	Ops   []Op
	Abort bool
	Stub  bool // sweeps give it as a stub

	// Prepare has it prepared before it commits. If it has notified, that is an error, and it is rolled back.
	Prepare bool
}

// Writer runs its plans, one transaction after the other.
type Writer struct {
	Plans []Plan
	Done  int  // plans
	Tx    int  // index of the running transaction, or -1
	PC    int  // of the plan's Ops
	Lost  bool // rolled back to end a deadlock: its plan ends
	saved []mark

	untried Note // of the change that is logged, and for which K was not tried yet; a zero Seq: none
}

// mark is what a savepoint goes back to.
type mark struct {
	seqs, notices, nested int
	silence               silence
}

// State is a transaction's.
type State byte

// The states.
const (
	Running   State = iota
	Queued          // its notifications are in the queue, it is about to commit
	Committed       // and visible
	Aborted
	Prepared // to commit; it survives a crash
)

// Tx is a transaction.
type Tx struct {
	XID     change.XID
	State   State
	Stub    bool
	First   int     // how many transactions had committed when it logged its first change
	Seqs    []int64 // its changes; once committed, in canonical order
	Notices []Note
	nested  int // place in Seqs from which on only markers are sent; -1: none
	silence
}

// Note is a notification: a change's seq, a marker, or an announcement.
type Note struct {
	Seq    int64
	Marker bool
	Says   bool
	Mode   ModeRow // if Says
}

// Logged is a row of the log, which has its place by its seq, from 1.
type Logged struct {
	Tx, Row, Ver int
	At           int64 // microseconds; no two are equal
	Undone       bool  // rolled back, to a savepoint or as a whole
}

// World is the database.
type World struct {
	Next, Completed change.XID   // the xid to give next, and the highest that has ended
	Running         []change.XID // ascending
	Txs             []Tx         // by xid
	Log             []Logged
	Ends            []int // committed transactions in commit order
	Queue           []int // transactions with notifications, in the queue's order
	Notifier        int   // holds the queue's lock, or -1
	Writers         []Writer
	rows            [Rows]struct{ holder, ver int }
	Modes           Modes

	Ticks   []TickRow
	Era     change.Era
	Dropped change.XID // the greatest xid whose changes were ever dropped from the log
	Kept    int64      // changes up to this seq were dropped
	durable int        // so many of Ends survive a crash for sure
	clock   int64
}

// New returns a database in which nothing has happened yet.
func New(writers []Writer) *World {
	w := &World{Next: FirstXID, Completed: FirstXID - 1, Notifier: -1, Writers: writers, Era: 1}
	for i := range w.rows {
		w.rows[i].holder = -1
	}
	for i := range w.Writers {
		w.Writers[i].Tx = -1
	}
	return w
}

// Index gives the index of transaction x in Txs, or -1.
func (w *World) Index(x change.XID) int {
	if x < FirstXID || int(x-FirstXID) >= len(w.Txs) {
		return -1
	}
	return int(x - FirstXID)
}

// Snapshot is pg_current_snapshot.
func (w *World) Snapshot() change.Snapshot {
	s := change.Snapshot{Xmin: w.Completed + 1, Xmax: w.Completed + 1}
	for _, x := range w.Running {
		if x < s.Xmax {
			s.Xip = append(s.Xip, x)
			s.Xmin = min(s.Xmin, x)
		}
	}
	return s
}

// LastSeq is the newest seq given out.
func (w *World) LastSeq() int64 { return int64(len(w.Log)) }

// Can reports whether writer i has something to do and waits for nothing.
func (w *World) Can(i int) bool {
	wr := &w.Writers[i]
	if wr.Tx < 0 {
		return wr.Done < len(wr.Plans)
	}
	p, t := &wr.Plans[wr.Done], &w.Txs[wr.Tx]
	if wr.untried.Seq != 0 {
		return true
	}
	if wr.PC < len(p.Ops) && !wr.Lost {
		h := w.holder(p.Ops[wr.PC])
		return h < 0 || h == wr.Tx
	}
	return p.Abort || p.Prepare || wr.Lost || t.State == Queued || len(t.Notices) == 0 || w.Notifier < 0
}

// holder is the transaction that holds the row of an op, or -1.
func (w *World) holder(o Op) int {
	if o.Kind == Savepoint || o.Kind == Rollback {
		return -1
	}
	return w.rows[o.Row].holder
}

// Step lets writer i, which Can, do its next thing.
func (w *World) Step(i int) {
	wr := &w.Writers[i]
	if wr.Tx < 0 {
		w.begin(wr)
		return
	}
	p, t := &wr.Plans[wr.Done], &w.Txs[wr.Tx]
	switch {
	case wr.untried.Seq != 0:
		w.try(t, wr.untried)
		wr.untried = Note{}
	case wr.PC < len(p.Ops) && !wr.Lost:
		w.op(wr, p.Ops[wr.PC])
	case p.Abort || wr.Lost || p.Prepare && len(t.Notices) > 0:
		w.abort(wr)
	case p.Prepare && t.State == Running:
		t.State = Prepared
		t.HasK = t.HasK && !w.Modes.Bugs.PrepareFrees
		w.durable = len(w.Ends)
	case t.State == Running && len(t.Notices) > 0:
		t.State = Queued
		w.Notifier = wr.Tx
		w.Queue = append(w.Queue, wr.Tx)
	default:
		w.commit(wr)
	}
}

// Deadlocked reports whether writer i waits for itself.
func (w *World) Deadlocked(i int) bool {
	for at, hops := i, 0; hops <= len(w.Writers); hops++ {
		wr := &w.Writers[at]
		if wr.Tx < 0 || wr.Lost || wr.untried.Seq != 0 || wr.PC >= len(wr.Plans[wr.Done].Ops) {
			return false
		}
		h := w.holder(wr.Plans[wr.Done].Ops[wr.PC])
		if h < 0 || h == wr.Tx {
			return false
		}
		at = slices.IndexFunc(w.Writers, func(o Writer) bool { return o.Tx == h })
		if at == i {
			return true
		}
	}
	return false
}

// Victim rolls writer i back to end a deadlock.
func (w *World) Victim(i int) {
	w.Writers[i].Lost = true
	w.Step(i)
}

func (w *World) begin(wr *Writer) {
	wr.PC, wr.Lost, wr.saved, wr.untried = 0, false, nil, Note{}
	wr.Tx = w.assign(Tx{Stub: wr.Plans[wr.Done].Stub, nested: -1})
}

// assign gives a transaction its xid, and returns its index.
func (w *World) assign(t Tx) int {
	t.XID = w.Next
	w.Txs = append(w.Txs, t)
	w.Running = append(w.Running, w.Next)
	w.Next++
	return len(w.Txs) - 1
}

func (w *World) op(wr *Writer, o Op) {
	t := &w.Txs[wr.Tx]
	wr.PC++
	switch o.Kind {
	case Savepoint:
		wr.saved = append(wr.saved, mark{len(t.Seqs), len(t.Notices), t.nested, t.silence})
	case Rollback:
		if n := len(wr.saved); n > 0 {
			w.undo(t, wr.saved[n-1])
			wr.saved = wr.saved[:n-1]
		}
	default:
		r := &w.rows[o.Row]
		r.holder = wr.Tx
		r.ver++
		w.clock++
		w.Log = append(w.Log, Logged{Tx: wr.Tx, Row: o.Row, Ver: r.ver, At: w.clock})
		if t.Seqs == nil {
			t.First = len(w.Ends)
		}
		if o.Kind == Nested && t.nested < 0 {
			t.nested = len(t.Seqs)
		}
		t.Seqs = append(t.Seqs, w.LastSeq())
		n := Note{Seq: w.LastSeq(), Marker: o.Kind != Inline || t.nested >= 0}
		if w.Modes.On {
			wr.untried = n
			return
		}
		t.notify(n)
	}
}

// notify collapses markers, as Postgres collapses equal payloads of a transaction.
func (t *Tx) notify(n Note) {
	if n.Marker {
		n.Seq = 0
		if slices.Contains(t.Notices, n) {
			return
		}
	}
	t.Notices = append(t.Notices, n)
}

func (w *World) undo(t *Tx, to mark) {
	for _, seq := range t.Seqs[to.seqs:] {
		l := &w.Log[seq-1]
		l.Undone = true
		w.rows[l.Row].ver--
	}
	remembers := w.Modes.Bugs.Remembers && t.silent
	t.Seqs, t.Notices, t.nested, t.silence = t.Seqs[:to.seqs], t.Notices[:to.notices], to.nested, to.silence
	t.silent = t.silent || remembers
}

func (w *World) abort(wr *Writer) {
	t := &w.Txs[wr.Tx]
	w.undo(t, mark{nested: -1})
	t.State = Aborted
	w.end(wr)
}

func (w *World) commit(wr *Writer) {
	t := &w.Txs[wr.Tx]
	w.canonical(t)
	t.State = Committed
	w.Ends = append(w.Ends, wr.Tx)
	w.end(wr)
}

// canonical puts the changes whose order was off into another order than that of their seqs: the last two trade places
// if they may.
func (w *World) canonical(t *Tx) {
	n := len(t.Seqs)
	if t.nested >= 0 && n-t.nested >= 2 && w.Log[t.Seqs[n-1]-1].Row != w.Log[t.Seqs[n-2]-1].Row {
		t.Seqs = slices.Clone(t.Seqs)
		t.Seqs[n-1], t.Seqs[n-2] = t.Seqs[n-2], t.Seqs[n-1]
	}
}

func (w *World) end(wr *Writer) {
	w.ended(w.Txs[wr.Tx].XID)
	for i := range w.rows {
		if w.rows[i].holder == wr.Tx {
			w.rows[i].holder = -1
		}
	}
	if w.Notifier == wr.Tx {
		w.Notifier = -1
	}
	wr.Tx = -1
	wr.Done++
}

func (w *World) ended(x change.XID) {
	w.Running = slices.DeleteFunc(w.Running, func(r change.XID) bool { return r == x })
	w.Completed = max(w.Completed, x)
}

// Change is the change of this seq, as the log has it.
func (w *World) Change(seq int64) change.Change {
	l := &w.Log[seq-1]
	return change.Change{XID: w.Txs[l.Tx].XID, Seq: seq, At: time.UnixMicro(l.At)}
}

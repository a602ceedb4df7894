package mvcctest

import (
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// TickRow is a row of the table of ticks.
type TickRow struct {
	change.Tick
	Tx   int // that wrote it
	Gone bool
}

// BeginTick begins a transaction that writes a tick: its snapshot is of now, and omits the transaction itself.
func (w *World) BeginTick() {
	w.clock++
	i := w.assign(Tx{nested: -1})
	snapshot := w.Snapshot()
	snapshot.Xip = slices.DeleteFunc(snapshot.Xip, func(x change.XID) bool { return x == w.Txs[i].XID })
	stamp := change.Stamp{ID: int64(len(w.Ticks) + 1), Bits: uint64(w.clock)}
	w.Ticks = append(w.Ticks, TickRow{Tick: change.Tick{Stamp: stamp, Snapshot: snapshot}, Tx: i})
}

// Ticking reports whether a tick has begun and not committed.
func (w *World) Ticking() bool {
	n := len(w.Ticks)
	return n > 0 && w.Txs[w.Ticks[n-1].Tx].State == Running
}

// CommitTick commits the tick that has begun, with synchronous_commit on: it and all before it are durable.
func (w *World) CommitTick() {
	t := &w.Txs[w.Ticks[len(w.Ticks)-1].Tx]
	t.State = Committed
	w.Ends = append(w.Ends, w.Ticks[len(w.Ticks)-1].Tx)
	w.durable = len(w.Ends)
	w.ended(t.XID)
}

// Tick gives the tick with this id as it can be read now, or nil.
func (w *World) Tick(id int64) *change.Tick {
	if id < 1 || id > int64(len(w.Ticks)) {
		return nil
	}
	t := &w.Ticks[id-1]
	if t.Gone || w.Txs[t.Tx].State != Committed {
		return nil
	}
	return &t.Tick
}

// NewestTick gives the newest tick that s sees.
func (w *World) NewestTick(s change.Snapshot) *change.Tick {
	for id := int64(len(w.Ticks)); id > 0; id-- {
		if t := w.Tick(id); t != nil && s.Sees(w.Txs[w.Ticks[id-1].Tx].XID) {
			return t
		}
	}
	return nil
}

// Drop empties a slot of the log: all changes up to this seq, none of whose transactions runs, and the ticks that nobody can
// read on from. The newest tick must stay.
func (w *World) Drop(seq int64) {
	for i := range w.Txs {
		for _, s := range w.Txs[i].Seqs {
			if s > w.Kept && s <= seq {
				w.Dropped = max(w.Dropped, w.Txs[i].XID)
			}
		}
	}
	w.Kept = seq
	for i := range w.Ticks {
		t := &w.Ticks[i]
		t.Gone = t.Gone || t.Snapshot.Xmax <= w.Dropped
	}
}

// MayDrop reports whether Drop may be called with this seq: the newest tick sees all that would go, so that from there on
// everything can be read.
func (w *World) MayDrop(seq int64) bool {
	if seq <= w.Kept || seq > w.LastSeq() || len(w.Ticks) == 0 || w.Ticking() {
		return false
	}
	newest := &w.Ticks[len(w.Ticks)-1]
	for s := w.Kept + 1; s <= seq; s++ {
		if w.Log[s-1].Undone {
			continue
		}
		t := &w.Txs[w.Log[s-1].Tx]
		if t.State == Running || t.State == Queued || t.State == Prepared || !newest.Snapshot.Sees(t.XID) {
			return false
		}
	}
	return true
}

// Standing is what the database says about its history.
func (w *World) Standing() change.Standing {
	return change.Standing{Era: w.Era, Now: w.Snapshot(), Dropped: w.Dropped}
}

// Crash ends all that runs and is not prepared, and loses commits beyond the first keep, or as many as were durable. Their xids and seqs are
// given out again. It returns the transactions lost that had logged something.
func (w *World) Crash(keep int) (lost []change.XID) {
	keep = max(keep, w.durable)
	for _, i := range w.Ends[keep:] {
		if len(w.Txs[i].Seqs) > 0 {
			lost = append(lost, w.Txs[i].XID)
		}
	}
	w.Ends = w.Ends[:keep]
	survives := map[int]bool{}
	w.Next = FirstXID
	for i := range w.Txs {
		if w.Txs[i].State == Prepared || slices.Contains(w.Ends, i) {
			survives[i] = true
			w.Next = max(w.Next, w.Txs[i].XID+1)
		}
	}
	w.rows = [Rows]struct{ holder, ver int }{}
	for r := range w.rows {
		w.rows[r].holder = -1
	}
	last := int64(0)
	for n := range w.Log {
		l := &w.Log[n]
		if !survives[l.Tx] {
			l.Undone = true
		} else if !l.Undone {
			last = int64(n + 1)
			w.rows[l.Row].ver = max(w.rows[l.Row].ver, l.Ver)
			if w.Txs[l.Tx].State == Prepared {
				w.rows[l.Row].holder = l.Tx
			}
		}
	}
	w.Log = w.Log[:max(last, w.Kept)]
	w.Txs = w.Txs[:w.Next-FirstXID]
	for i := range w.Txs {
		if !survives[i] {
			w.Txs[i].State, w.Txs[i].Seqs, w.Txs[i].Notices = Aborted, nil, nil
		}
	}
	w.Ticks = slices.DeleteFunc(w.Ticks, func(t TickRow) bool { return !survives[t.Tx] })
	w.Running = slices.DeleteFunc(slices.Clone(w.Running), func(x change.XID) bool { return !survives[int(x)-FirstXID] })
	w.Queue, w.Notifier = nil, -1
	w.Modes.crashed(survives)
	w.Completed = w.Next - 1
	w.durable = len(w.Ends)
	w.Era++
	for i := range w.Writers {
		if wr := &w.Writers[i]; wr.Tx >= 0 && !survives[wr.Tx] {
			wr.Tx, wr.untried = -1, Note{}
			wr.Done++
		}
	}
	return lost
}

package change

import "slices"

// Frontier is the set of changes that a node has dispatched: all that its snapshot sees, the transactions done since,
// and of the one being received, what came up to a place in it. The zero Frontier holds nothing.
type Frontier struct {
	Snapshot Snapshot
	done     map[XID]struct{} // not seen by Snapshot, and dispatched whole
	open     XID              // being received; zero: none
	openSeq  int64            // of the newest change of open that was dispatched
}

// NewFrontier returns the frontier that holds exactly what s sees. The snapshot must come from a transaction without an
// xid of its own, on the primary: a snapshot omits its own transaction and calls it seen.
func NewFrontier(s Snapshot) Frontier {
	return Frontier{Snapshot: s, done: map[XID]struct{}{}}
}

// Contains reports whether all of transaction x has been dispatched.
func (f *Frontier) Contains(x XID) bool {
	if f.Snapshot.Sees(x) {
		return true
	}
	_, ok := f.done[x]
	return ok
}

// ContainsChange reports whether the change of transaction x with this seq has been dispatched.
func (f *Frontier) ContainsChange(x XID, seq int64) bool {
	return f.Contains(x) || x == f.open && seq <= f.openSeq
}

// Open returns the transaction being received and the seq of its newest dispatched change; a zero xid if there is none.
func (f *Frontier) Open() (XID, int64) { return f.open, f.openSeq }

// Receive records that the change of transaction x with this seq is dispatched and that more of x may come. Another
// transaction that was being received is thereby complete: notifications of a transaction arrive together.
func (f *Frontier) Receive(x XID, seq int64) {
	if f.open != x {
		f.Close()
		f.open, f.openSeq = x, seq
	}
	f.openSeq = max(f.openSeq, seq)
}

// Close records that the transaction being received is complete.
func (f *Frontier) Close() {
	if f.open != 0 {
		f.Add(f.open)
		f.open, f.openSeq = 0, 0
	}
}

// Add records that all of transaction x is dispatched.
func (f *Frontier) Add(x XID) {
	if f.open == x {
		f.open, f.openSeq = 0, 0
	}
	if !f.Snapshot.Sees(x) {
		if f.done == nil {
			f.done = map[XID]struct{}{}
		}
		f.done[x] = struct{}{}
	}
}

// Fold advances the frontier to snapshot s. All that s sees must have been dispatched, or be dispatched next by the caller: it is called
// with the snapshot of a sweep whose rows are dispatched. What s does not see and was dispatched stays.
func (f *Frontier) Fold(s Snapshot) {
	f.Snapshot = s
	if f.open != 0 && s.Sees(f.open) {
		f.open, f.openSeq = 0, 0
	}
	for x := range f.done {
		if s.Sees(x) {
			delete(f.done, x)
		}
	}
	if f.done == nil {
		f.done = map[XID]struct{}{}
	}
}

// Len is the number of transactions that Done lists.
func (f *Frontier) Len() int { return len(f.done) }

// Done returns the xids dispatched whole that the snapshot does not see, ascending, in a slice of the caller's.
func (f *Frontier) Done() []XID {
	xs := make([]XID, 0, len(f.done))
	for x := range f.done {
		xs = append(xs, x)
	}
	slices.Sort(xs)
	return xs
}

// Clone returns a copy that shares nothing that changes.
func (f *Frontier) Clone() Frontier {
	c := *f
	c.done = make(map[XID]struct{}, len(f.done))
	for x := range f.done {
		c.done[x] = struct{}{}
	}
	return c
}

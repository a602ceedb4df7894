package change

import (
	"errors"
	"slices"
	"time"
)

// ErrDropped says that changes were dropped from the log before they were delivered, or can't be delivered in order any more.
var ErrDropped = errors.New("changes that were not delivered yet are gone from the log, or can't be delivered in order any more")

// Stamp names a tick: by its id, and by random bits that tell it from a tick of another history with the same id.
type Stamp struct {
	ID   int64
	Bits uint64
}

// Tick is a place in the history that the database keeps: a snapshot, in a row that was committed durably. What its snapshot
// sees had committed before, and so is as durable: a tick that is there vouches for all that it sees.
type Tick struct {
	Stamp
	Snapshot Snapshot
}

// Era is one life of a database server: it changes when the server is started, restored, or promoted. Within an era no
// transaction that was seen as committed is ever undone.
type Era uint64

// Mark tells one logged change from any other that could ever have its xid and seq: what was lost in a crash, and its
// numbers given out again, has another time. A transaction's mark is that of the change with its last seq.
type Mark struct {
	XID XID
	Seq int64
	At  time.Time
}

// MarkOf is the mark of a change.
func MarkOf(c *Change) Mark { return Mark{XID: c.XID, Seq: c.Seq, At: c.At} }

// Sum mixes the mark into a number. The sum of several marks is the sum of their numbers, whatever their order.
func (m Mark) Sum() uint64 {
	h := uint64(m.XID)
	for _, n := range [2]uint64{uint64(m.Seq), uint64(m.At.UnixMicro())} {
		h = mix(h) + n
	}
	return mix(h)
}

// mix is the finalizer of splitmix64: each bit of h decides about half of the bits of what comes out.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// behind reports whether changes that the tick's snapshot does not see may be gone from the log. dropped is the greatest
// xid whose changes were ever dropped; now is a snapshot of a later statement than the one that read the log. has tells which
// transactions nobody misses.
func (t *Tick) behind(dropped XID, now Snapshot, has func(XID) bool) bool {
	return dropped >= t.Snapshot.Xmax || slices.ContainsFunc(t.Snapshot.Xip, func(x XID) bool {
		return x <= dropped && now.Sees(x) && !has(x)
	})
}

// Package change is what flows through the program and how it is ordered: a Change, the Txn that holds it, the
// Snapshot and Frontier that say which transactions have been seen. Pure values: no goroutine, clock, SQL or socket, and
// no import of another package of ours.
package change

import "time"

// XID is a 64-bit Postgres transaction id (xid8), epoch included.
type XID uint64

// WatchID names a watched table for as long as it is watched. Zero is no table: a published event.
type WatchID int32

// Op is what happened to the row, as the log's op column has it.
type Op byte

// The operations a change can be.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Truncate Op = 'T' // concerns every tenant of its table; carries no image
	Event    Op = 'E' // a published event: New is its data
)

// Topic is what a subscription listens to: one watched table, or one channel of published events.
type Topic struct {
	Watch   WatchID
	Channel string
}

// TID is a row version's place (ctid) in its leaf table.
type TID struct {
	Block  uint32
	Offset uint16
}

// Change is one row's INSERT, UPDATE or DELETE, a TRUNCATE, or one published event.
//
// A Change is immutable once it has been handed on; its byte slices are shared by all who read it.
type Change struct {
	XID XID
	Seq int64     // grows with each change logged; per row it is commit order
	At  time.Time // the time of the write, not of the commit

	Topic          Topic
	Op             Op
	Unserializable bool   // the images could not be converted to JSON; both are nil
	Shared         bool   // belongs to every tenant
	Tenant         string // the new image's tenant; empty: nobody
	OldTenant      string // the old image's tenant; empty: nobody
	EventType      string // of a published event

	Leaf    uint32 // the table the row is in: the watched one, or a partition of it
	OldLeaf uint32 // the one it was in, if it moved from another partition; else zero
	OldTID  TID    // zero where there is no old row
	NewTID  TID    // zero where there is no new row

	Old, New []byte // JSON objects as row_to_json wrote them; nil where absent
}

// Size is about how many bytes the change keeps in memory.
func (c *Change) Size() int {
	return 176 + len(c.Old) + len(c.New) + len(c.Tenant) + len(c.OldTenant) + len(c.EventType) + len(c.Topic.Channel)
}

// Txn is one committed transaction's changes, or a part of them, in canonical order.
type Txn struct {
	XID       XID
	Changes   []Change
	Continued bool  // an earlier part of the transaction was dispatched before
	Whole     bool  // nothing of the transaction follows; where it is not set, more of it may
	Stub      *Stub // not nil: (the rest of) the transaction is in the log only, and Changes is empty

	// Before is the place before the transaction, or in it where it is Continued, from which the cursors of its changes are
	// made; nil where there are no places.
	Before *Point
}

// LastSeq is the seq of the transaction's last change, as far as it is known here; zero if there is none.
func (t *Txn) LastSeq() int64 {
	var last int64
	if t.Stub != nil {
		last = t.Stub.LastSeq
	}
	for i := range t.Changes {
		last = max(last, t.Changes[i].Seq)
	}
	return last
}

// Mark is that of the transaction's last change, as far as it is known here.
func (t *Txn) Mark() Mark {
	m := Mark{XID: t.XID}
	if t.Stub != nil {
		m.Seq, m.At = t.Stub.LastSeq, t.Stub.LastAt
	}
	for i := range t.Changes {
		if c := &t.Changes[i]; c.Seq > m.Seq {
			m = MarkOf(c)
		}
	}
	return m
}

// Stub stands for a transaction, or the rest of one, that is in the log only.
type Stub struct {
	AfterSeq int64 // the changes meant are those with Seq above this one
	LastSeq  int64
	LastAt   time.Time // of the change with LastSeq
	Era      Era       // in which it is known to be in the log; zero: in any
	Scopes   []Scope   // whom it concerns; nil: anybody
}

// Scope is one topic and tenant that a stub concerns. An empty tenant with Shared false concerns all tenants of the topic.
type Scope struct {
	Topic  Topic
	Tenant string
}

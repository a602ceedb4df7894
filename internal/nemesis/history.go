package nemesis

import (
	"slices"
	"time"
)

// Row is a row of a watched table.
type Row struct {
	ID      int64
	Version int64 // grows by one with each write of the row
	Stamp   int64 // random, and so a name for this version of the row; odd if its writer meant to roll it back
	Tenant  string
	N       int
	Group   string
}

// Doomed reports whether the row's writer meant to roll it back.
func (r *Row) Doomed() bool { return r.Stamp&1 == 1 }

// Written is one committed change of a row, Old is nil of an insert and New of a delete; or an event published on the channel Table, New;
// or a TRUNCATE, which has neither.
type Written struct {
	Table    string
	XID      uint64
	Seq      int64 // which of a TRUNCATE and another change of its table was first
	Old, New *Row
}

func (w *Written) row() *Row {
	if w.New != nil {
		return w.New
	}
	return w.Old
}

// Snapshot tells which transactions had ended.
type Snapshot struct {
	Xmax uint64
	Xip  []uint64
}

func (s *Snapshot) sees(xid uint64) bool { return xid < s.Xmax && !slices.Contains(s.Xip, xid) }

// Txn is what is known of a committed transaction.
type Txn struct {
	Before    Snapshot // when it wrote first
	Committed time.Time
}

// Truth is what the database did.
type Truth struct {
	Written []Written // in no order
	Txns    map[uint64]Txn
	Rows    map[string][]Row // by table: the rows at the end
	Lost    []time.Time      // when the end of the history may have been lost: a crash without durable commits, a fail-over
}

// Kind is what a subscriber noted.
type Kind byte

const (
	Begun     Kind = iota // it asked for all rows, and changes from there on; of a channel, for what is published from there on
	Resumed               // it asked for what follows its last cursor, over another connection
	Initial               // a row as it stands
	Synced                // all before now was sent
	Completed             // no more comes of the transaction that came last
	Insert
	Update
	Delete
	Truncate // all rows of the table were removed
	Event    // of a channel
	Expired  // its place in the history is gone, with a Cause
)

func (k Kind) String() string {
	return [...]string{"Begun", "Resumed", "Initial", "Synced", "Completed", "Insert", "Update", "Delete", "Truncate", "Event", "Expired"}[k]
}

// Cause is why a place in the history is gone, as the one who looked into the database then says.
type Cause byte

const (
	Unknown   Cause = iota // nothing that would explain it
	Retention              // the log does not reach back so far
	NodeAway               // its node could not read the log for longer than that reaches back
	LostTail               // the database has lost commits since
	Torn                   // a transaction can't be continued in order: it had notified its beginning when the leader was lost
)

// Note is one thing that came to a subscriber.
type Note struct {
	Kind     Kind
	At       time.Time
	Old, New *Row
	XID      uint64
	Cause    Cause
	Said     string // of an expiry, the message
	Batch    int    // changes that came in one message have the same number, if messages are batches; else 0
	Complete bool   // the batch said that no more of its transaction comes
}

// Filter is what a subscription's where says.
type Filter struct {
	Below int    // N is below it; 0: any
	Group string // Group is this, or Marker; empty: any
}

// Marker is a group that matches each filter.
const Marker = "marker"

// Match reports whether a row is of the filter's set. Nil is not.
func (f Filter) Match(r *Row) bool {
	return r != nil && (f.Below == 0 || r.N < f.Below) && (f.Group == "" || r.Group == f.Group || r.Group == Marker)
}

// Subscription is what one subscriber wanted and got, over all its connections.
type Subscription struct {
	Name    string
	Table   string
	Channel bool // Table is a channel's name
	Tenant  string
	Filter  Filter
	Notes   []Note
}

func (s *Subscription) match(r *Row) bool { return s.Filter.Match(r) && r.Tenant == s.Tenant }

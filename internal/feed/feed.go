// Package feed is the machine that owns a node's frontier, its order and its duplicates. Inputs go in, ordered
// transactions and actions come out. It has no goroutine, no clock, no SQL and no socket: whoever drives it carries out
// its actions and feeds back what came of them. docs/delivery.md has the invariants and why they hold.
//
// A Machine has one owner. The driver gives it one input at a time, in the order in which things happened to the node,
// and hands on what comes out before it gives the next one.
package feed

import (
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// Input is what happens to a node: Opened, Notified, Swept, SweepFailed, Expired, Lost, Beat, Ticked or Joining.
type Input interface{ input() }

// Opened says that the listener LISTENs, and that in a later transaction (READ ONLY, READ COMMITTED, on the primary, with
// no xid of its own) Snapshot was taken. The first one gives the frontier: what it sees is never delivered. Each later
// one is followed by a sweep, and its Snapshot does not count.
//
// The notifications of this connection follow it: those that came while it was being opened too.
type Opened struct {
	Snapshot change.Snapshot

	// Tick is the newest one visible in Snapshot, and Done are the marks of the logged transactions that Snapshot sees and Tick
	// does not. A zero Tick: there are no places in this history, and no cursors.
	Tick change.Tick
	Done []change.Mark

	// Mode is the row on the mode as Snapshot sees it.
	Mode ModeRow

	// Relayed says that what comes was dispatched by another node, in that node's order, and not notified: Notice.Txn and
	// Notice.Folded. All that Snapshot does not see comes. Nothing is awaited, and where that node folds, this one does.
	Relayed bool

	// Gone says that the server has begun another life, of which Enter was told, and has lost some of what Enter's place stands
	// for. The node goes on from Snapshot, and the driver ends all subscriptions, as after Expired.
	Gone bool
}

// Notified carries the notifications that arrived together, in queue order. The machine keeps the images and the texts,
// not the slice.
type Notified struct{ Notices []Notice }

// Notice is one notification: a change, a marker, or an announcement; or what stands for notifications where another node relays. A marker without an XID is of a transaction that could
// not be read.
type Notice struct {
	Change change.Change // with Marker: only XID and Topic are set, and Tenant if one tenant only is meant
	Marker bool          // a change of the transaction is in the log, not here

	// Announced, if not nil, says that from here on the stream is in this mode; nothing else is set. One to Busy with the
	// Number 0 is not the leader's: a writer found the leader gone, and others may have been silent before it.
	Announced *ModeRow

	// Txn, if not nil, is what another node has dispatched: a transaction, or a part of one. Nothing else is set. See Opened.Relayed.
	Txn *change.Txn

	// Folded, if not nil, says that the node whose dispatches these are has dispatched before this all that a snapshot sees and its
	// first one did not. Nothing else is set.
	Folded *Folded
}

// Folded is how far a node is.
type Folded struct {
	Snapshot change.Snapshot
	Tick     *change.Tick // the newest one visible in Snapshot; nil: none
}

// size is about how many bytes the notice keeps in memory.
func (n *Notice) size() int {
	size := n.Change.Size()
	if n.Txn != nil {
		for i := range n.Txn.Changes {
			size += n.Txn.Changes[i].Size()
		}
	}
	return size
}

// Swept answers the action Sweep: the log rows visible in Snapshot and not in From, as transactions.
//
// Snapshot and rows must be of one statement or one REPEATABLE READ transaction, READ ONLY and without an xid of its own,
// that began after the Sweep was asked for. Each transaction is whole, but for what From holds of the open one, and in
// canonical order; large ones are stubs. They come in ascending order of last seq, the one that From holds open first.
//
// What is too much for one answer comes as several with the same ID, all of the same Snapshot and in order all together,
// every one but the last with More. SweepFailed may end it at any place.
type Swept struct {
	ID       int // of the Sweep
	Snapshot change.Snapshot
	Tick     *change.Tick // the newest one visible in Snapshot; nil: none
	Torn     []change.XID // of those that From lacks, the ones that notified a beginning and found the leader gone before they went on
	Txns     []change.Txn
	More     bool // another Swept of this ID follows
}

// SweepFailed answers the action Sweep when it could not be done, or not to its end. The machine asks again at once if it
// needs it, so the driver has waited (backed off) before it says this; a new listener connection ends that wait early.
type SweepFailed struct{ ID int }

// Expired answers the action Sweep when changes that From lacks may be gone from the log, as was asked after the log was
// read, or when they are abandoned. Before it may have come parts of an answer that were known to be whole. Snapshot, of a later transaction like that of
// Swept, is where the node goes on from: what it sees and was not dispatched never will be. So whoever was to get it must be
// told: the driver ends all subscriptions that there are before it dispatches what comes out of this.
type Expired struct {
	ID       int // of the Sweep
	Snapshot change.Snapshot
	Tick     *change.Tick  // the newest one visible in Snapshot; nil: none
	Done     []change.Mark // of the logged transactions that Snapshot sees and Tick does not
}

// Lost says that the listener's connection is gone. Notifications of it that come later are ignored.
type Lost struct{}

// Beat says that it is time for a heartbeat; once a second is meant. It carries what one cheap statement says:
//
//	select s.last_value, pg_current_snapshot() from notifyql.change_seq s
//
// and, where there are modes, what came of a try to lock in shared mode what the leader holds.
type Beat struct {
	LastSeq  int64           // newest seq given out, whether committed or not
	Snapshot change.Snapshot // of that statement
	Number   int64           // of the row on the mode, as Snapshot sees it

	// Free says that the lock was granted, after Snapshot was taken (and released at once): nobody keeps the writers from being
	// silent.
	Free bool
}

// Ticked answers the action Tick, whether a tick was made or not. If not, the driver has waited before it says this.
type Ticked struct{}

// Joining asks for a sweep that begins from now on, and for Joined when it is dispatched. Tickets grow.
type Joining struct{ Ticket int }

func (Opened) input()      {}
func (Notified) input()    {}
func (Swept) input()       {}
func (SweepFailed) input() {}
func (Expired) input()     {}
func (Lost) input()        {}
func (Beat) input()        {}
func (Ticked) input()      {}
func (Joining) input()     {}

// Action is what the machine asks of its driver: Sweep, Reopen, Tick or Joined.
type Action interface{ action() }

// Sweep asks for all log rows that are visible now and not in From; the answer is Swept, SweepFailed or Expired with its
// ID. At most one is under way. It goes on when the listener is lost or opened meanwhile.
//
// Under load From holds nearly all that is visible: read images only of what it lacks.
//
// It is of one life of the server. Had that ended when the log was read, the answer is SweepFailed.
//
// With Abandon nothing is to be read: what From lacks can't be delivered in order any more. The answer is Expired, or SweepFailed.
type Sweep struct {
	ID   int
	From change.Frontier // a copy, the driver's own
	Era  change.Era
	Wait time.Duration // so long the driver waits before it begins

	Abandon bool
}

// Reopen asks for a new listener connection: the present one has missed something. The driver closes it, says Lost, and
// opens another as after any loss.
type Reopen struct{ Reason string }

// Tick asks for a tick, unless there is one newer than After. The answer is Ticked. At most one is under way.
type Tick struct{ After int64 }

// Joined says that a sweep which began after Joining with this ticket, and with all lower ones, is dispatched to its end. At is
// the place behind all that was dispatched so far; nil where there are no places.
type Joined struct {
	Ticket int
	At     *change.Point
}

func (Sweep) action()  {}
func (Reopen) action() {}
func (Tick) action()   {}
func (Joined) action() {}

// Package feed is the machine that owns a node's frontier, its order and its duplicates. Inputs go in, ordered
// transactions and actions come out. It has no goroutine, no clock, no SQL and no socket: whoever drives it carries out
// its actions and feeds back what came of them. See docs/delivery.md for the invariants.
package feed

import "github.com/notifyql/notifyql/internal/change"

// Input is what happens to a node: Opened, Notified, Swept, SweepFailed, Lost or Beat.
type Input interface{ input() }

// Opened says that the listener LISTENs, and that in a later READ ONLY transaction Snapshot was taken. The first one
// gives the frontier; each later one is followed by a sweep.
type Opened struct{ Snapshot change.Snapshot }

// Notified carries the notifications that arrived together, in queue order.
type Notified struct{ Notices []Notice }

// Notice is one notification: a change, or a marker.
type Notice struct {
	Change change.Change // with Marker: only XID and Topic are set, and Tenant if one tenant only is meant
	Marker bool          // the change is in the log, not here
}

// Swept answers the action Sweep: all log rows visible in Snapshot and not in From, as transactions.
// Each is whole (but for what From holds of the open one) and in canonical order; large ones are stubs.
type Swept struct {
	ID       int // of the Sweep
	Snapshot change.Snapshot
	Txns     []change.Txn
	LastSeqs []int64 // of each of Txns: the seq of its last change
}

// SweepFailed answers the action Sweep when it could not be done. The driver has waited already; the machine asks again.
type SweepFailed struct{ ID int }

// Lost says that the listener's connection is gone.
type Lost struct{}

// Beat says that it is time for a heartbeat.
type Beat struct{}

func (Opened) input()      {}
func (Notified) input()    {}
func (Swept) input()       {}
func (SweepFailed) input() {}
func (Lost) input()        {}
func (Beat) input()        {}

// Action is what the machine asks of its driver: Sweep or Reopen.
type Action interface{ action() }

// Sweep asks for all log rows that are visible now and not in From. At most one is under way.
type Sweep struct {
	ID   int
	From change.Frontier // a copy
}

// Reopen asks for a new listener connection: the present one has missed something. The driver answers Lost.
type Reopen struct{ Reason string }

func (Sweep) action()  {}
func (Reopen) action() {}

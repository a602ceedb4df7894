// Package subs takes transactions and plans in and gives frames out. It knows no SQL and no socket.
//
// # What is kept
//
// The Hub keeps the newest dispatched transactions, its tail, bounded in bytes. Subscriptions with an equal plan and
// equal tenants are one group: a change is matched once and encoded once for it, and each subscription is a Reader, a
// place in the group's list of what matched. A reader owns no queue: it pulls when its consumer can send. One that the
// tail leaves behind ends with ErrOverflow; it never skips.
//
// A transaction that is only in the log is a stub in the tail. A reader that it concerns reads it from History, page by
// page, before it goes on; readers of one group share the pages. Other groups go on.
//
// # Phases
//
// A subscription that begins behind a cursor, or with rows that stand, reads the log up to a place of the node and goes on in the list
// from there; so does one that the tail has left behind. Its phases are standing (rows), joining (it waits for a place that is
// not before its own), catching (it reads the log up to that place) and live.
//
// # Resolvers
//
// A plan that calls resolvers is encoded in the background: of its group a few encodings at once, each of what one call can serve, and each
// reader takes what is ready in its order. Resolvers work without a lock, and without a turn to read that others wait for; their context ends
// with the group's last reader.
//
// # Sequences
//
// A subscription whose rows depend on keys in another table is a Sequence: readers, one behind the other, each with constant keys. See
// keyed.go for what such a plan is, undo.go for how rows stood at a place, and G1–G7 of docs/delivery.md.
//
// # Invariants
//
//  1. A reader gets every matching change that follows where it began, once, in the order of the history, until it is closed or ends
//     with an error. One that began now may get before it what of a batch was open then.
//  2. Whoever appends, or completes what readers wait for, wakes every reader of the group afterwards; a reader clears
//     its flag before it looks. So no wake is lost.
//  3. A frame is immutable once it is ready.
//  4. A live reader's place (at, in) claims what it has got, no more and no less of what matches: with an entry it goes to the entry's
//     change; behind a stub when the last page of it was given; to the hub's place only when the list has nothing more, no batch
//     is open (what is in one was dispatched, and is in no list), and the hub's place is not of before what was read: Dispatch
//     fills the lists first. A cursor that is told in a round is that place, and for readers at that very place only.
//  5. A reader joins the list at the place up to which it catches up: both are taken under Hub.mu. If a batch of its group is open, that
//     waits until the batch is sent, so that others get it whole.
//  6. What is read from the log is used when History has judged it: a page's frames and the place behind them together, or neither.
//  7. Pages and rows are shared within a group only, where plan and tenants are equal, and under what they were read for: a stub and the
//     page's number, the places from and to, the query. Nobody gets the first part of rows from one reading and the rest from another.
//     A page that is given up is no page that somebody who comes later may find.
//  8. What waits for a slow consumer is bounded: a page, and of rows SnapshotBytes. Reading waits for the one who is served; the others
//     read for themselves.
//
// # Who runs with whom
//
// Dispatch is called by one goroutine at a time. Attach, Close, Recheck and each Reader's Next may run beside it and each other;
// one Reader is used by one goroutine at a time. Locks are taken in the order Hub.mu, group.mu; no lock is held while a
// plan encodes, a wake function runs or History is read.
package subs

import (
	"context"
	"errors"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// Plan is a compiled subscription: table, filter, projection. It is immutable and used by many goroutines at once.
type Plan interface {
	// Key is equal for plans that give equal frames for equal changes and tenants.
	Key() string
	// Topics is what the plan listens to, each once.
	Topics() []change.Topic
	// Match says what the change is to the set of rows that the plan's filter and the identity's tenants make. It does
	// not keep m, and allocates nothing for a change that matches nothing.
	Match(m *Match) Effect
	// Encode gives the GraphQL ExecutionResult of the change, as JSON text in a slice of its own. A failing resolver gives a
	// result with errors, never an error here. Nil: nothing is sent.
	Encode(ctx context.Context, m *Match, e Effect) []byte
	// Blocks reports whether Encode may take long: it calls a resolver, whose time the plan bounds. Such a plan is encoded in the
	// background.
	Blocks() bool
	// EncodeSynced is Encode for the news that all before at was sent. at is nil where there are no places to resume from.
	EncodeSynced(at *change.Point) []byte
	// Cursors reports whether the plan shows cursors: then its subscribers are told from time to time where they are.
	Cursors() bool
}

// Batcher is a Plan that may want whole transactions: one frame for all that matches in one, or for a part of a large one.
type Batcher interface {
	Plan
	// Batches reports whether the plan wants that.
	Batches() bool
	// EncodeBatch is Encode for matching changes: those of one transaction, or rows that stand. complete is false if more of the same
	// follows in the next frame. The frame's cursor is that of its last change; without any it has none.
	EncodeBatch(ctx context.Context, changes []Matched, complete bool) []byte
}

// Resolving is a Plan that asks for the values of several changes at once.
type Resolving interface {
	Plan
	// Together is how many changes at most it can ask for at once.
	Together() int
	// EncodeAll is Encode of each of the changes.
	EncodeAll(ctx context.Context, changes []Matched) [][]byte
}

// Matched is a change that concerns a plan, and how.
type Matched struct {
	Match
	Effect Effect
}

// Match is a change with its images taken apart, as seen by one identity.
type Match struct {
	Change   *change.Change
	Old, New *change.Row // nil where the image is absent or the identity may not see it
	Identity *auth.Identity
	Before   *change.Point // from which the change's cursor is made; nil: it has none
}

// Effect is what a change is to a filtered set of rows.
type Effect byte

// The effects. Failed is a change whose images could not be converted: whether it concerns the set is not known. Stands is no
// change, but a row that stands when a subscription begins; its Change is an insert without an xid.
const (
	None Effect = iota
	Enters
	Changes
	Leaves
	Truncates
	Happens // a published event
	Failed
	Stands
	Moves  // alters the keys of a Sequence, and no row
	Gained // a row that stands when the keys of its set have come to have its own
	Lost   // and when they have ceased to
)

// Start says where a subscription begins. The zero Start is now.
type Start struct {
	After *change.Cursor // behind this place
	Rows  *change.Query  // with the rows that stand now, and then what changes; not with After
}

// History reads the database for what is not in memory.
type History interface {
	// Txn returns a page of the changes of transaction xid that stub means, of these topics, in canonical order: those
	// behind after (nil: from the first), at most limit of them and fewer if they are large, and whether there are more.
	// tenants limits what is read; it is not the last word: Match is. An error that wraps change.ErrDropped is final; after any
	// other, change.ErrOtherEra among them, the page is asked for again.
	Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, topics []change.Topic, tenants []string, limit int) (cs []change.Change, more bool, err error)

	// Since returns a page of what follows from on the way to to, a place that this node is behind, of these topics and tenants: at
	// most about limit changes, none perhaps. A page that leads nowhere is not returned: there is progress until it has Arrived.
	// Nothing is returned that may have a gap. An error that wraps change.ErrCursorExpired or change.ErrCursorInvalid is final,
	// with change.ErrOtherEra or change.ErrTarget another to is needed; after any other the page is asked for again.
	Since(ctx context.Context, from, to change.Cursor, topics []change.Topic, tenants []string, limit int) (change.Page, error)

	// Rows reads the rows of q as they stand at one moment, and returns the place of that moment in the history. page gets them in
	// order, at most about limit at a time, as inserts without xid and seq, and ends the reading with its error. An error that
	// wraps change.ErrUnreadable is final.
	Rows(ctx context.Context, q *change.Query, limit int, page func([]change.Change) error) (change.Cursor, error)
}

// The ends of a reader that are not its consumer's doing.
var (
	ErrOverflow = errors.New("the subscription fell too far behind and would have missed changes")
	ErrClosed   = errors.New("the subscription is closed")
)

// ErrNoHistory says that there is nothing to begin from but now.
var ErrNoHistory = errors.New("there is no log to resume from and no table to begin with")

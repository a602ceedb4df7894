// Package subs takes transactions and plans in and gives frames out. It knows no SQL and no socket.
package subs

import (
	"context"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// Plan is a compiled subscription: table, filter, projection. It is immutable and used by many goroutines at once.
type Plan interface {
	// Key is equal for plans that give equal frames for equal changes and identities.
	Key() string
	// Topic is what the plan listens to.
	Topic() change.Topic
	// Match says what the change is to the set of rows that the plan's filter and the identity's tenants make. It does
	// not keep m, and allocates nothing for a change that matches nothing.
	Match(m *Match) Effect
	// Encode gives the GraphQL ExecutionResult of the change, as JSON text in a slice of its own. ctx bounds a
	// resolver's time; a failing resolver gives a result with errors, never an error here.
	Encode(ctx context.Context, m *Match, e Effect) []byte
}

// Match is a change with its images taken apart, as seen by one identity.
type Match struct {
	Change   *change.Change
	Old, New *change.Row // nil where the image is absent or the identity may not see it
	Identity *auth.Identity
}

// Effect is what a change is to a filtered set of rows.
type Effect byte

// The effects. Failed is a change whose images could not be converted: whether it concerns the set is not known.
const (
	None Effect = iota
	Enters
	Changes
	Leaves
	Truncates
	Happens // a published event
	Failed
)

// History reads the log for what is not in memory any more.
type History interface {
	// Txn returns changes of transaction xid with this topic in canonical order, at most limit of them, those behind
	// after (nil: from the first), and whether there are more. tenants limits what is read; it is not the last word:
	// Match is.
	Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, topic change.Topic, tenants []string, limit int) (cs []change.Change, more bool, err error)
}

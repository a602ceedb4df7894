// Package gql is the GraphQL face: a schema from the catalog and from custom fields, documents parsed, validated and
// compiled to plans, introspection, and the JSON of each result.
//
// Invariants: a Schema and a Plan are immutable (but for the Schema's cache of documents, which has its own lock) and
// used by many goroutines at once. A schema follows a catalog by being built anew; plans of the old one go on as long as
// Fits says so. Nothing a client sends, and no image, makes the package panic or costs more than the limits allow. An
// image of another tenant is never shown, whatever happened to the row, and a value that does not fit the schema is an
// error at its path, never a guess.
package gql

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// Request is a GraphQL request as a client sent it.
type Request struct {
	Query         string
	OperationName string
	Variables     []byte // a JSON object or nil
	Extensions    []byte // a JSON object or nil
}

// Field is a custom field: of Subscription, over a channel of published events, or of a table's rows.
type Field struct {
	// SDL extends a type by one field and defines the types that it needs: Subscription,
	//
	//	extend type Subscription { priceChanged(symbol: String!): Price! }
	//	type Price { symbol: String! amount: Decimal! }
	//
	// or the type of a table's rows, which has the field as long as the table is watched:
	//
	//	extend type Orders { customer: Customer }
	//	type Customer { name: String! }
	//
	// It may use the types of other fields' SDL and our scalars, but no type made from a table.
	//
	// A field of Subscription with an argument "after: Cursor" can be resumed: each result has its cursor in extensions.cursor, and if the
	// field may be null, a null with extensions.synced says that all before now was sent. The resolver does not see the argument.
	SDL string
	// Channel is what a field of Subscription listens to. Empty: the channel of the field's name.
	Channel string
	// Needs names the columns that the resolver of a row's field is given. Who may not see one of them does not have the field.
	Needs []string
	// Resolve makes the field's value from an event, or a row: anything that encoding/json can write. It must return when ctx is
	// done. Its error becomes a GraphQL error at the field; with ErrSkip an event is not sent. Nil: the event's data.
	Resolve func(ctx context.Context, e *Event) (any, error)
	// ResolveBatch is called instead of Resolve, for what waits at the time: at most 100 events, or different rows, with equal arguments. It
	// returns a value for each of them, in their order; one that is an error is the error of that one.
	ResolveBatch func(ctx context.Context, es []*Event) ([]any, error)
	// SameForAll says that a value does not depend on the identity: the resolver is not told it, and is called once for all who have equal
	// tenants and ask for the same. Otherwise it is called once for each identity.
	SameForAll bool

	calls *calls
}

// Prepared is the field for schemas that are made one after the other: what is known of its calls is kept.
func (f Field) Prepared() Field {
	f.calls = newCalls()
	return f
}

// Event is a published event, or a row, as a resolver sees it.
type Event struct {
	Field    string         // the field's name: priceChanged, Orders.customer
	Args     map[string]any // coerced: Int is an int, Float a float64, scalars of ours their text, enums their name. Not to be changed
	Type     string
	Channel  string
	Table    string // of a row: schema.name
	Tenant   string
	Shared   bool
	At       time.Time       // of an event
	Data     json.RawMessage // of a row: an object of the columns that the field needs, as row_to_json has them
	Identity *auth.Identity  // whom the value is for, without ExpiresAt; nil with SameForAll
}

// Options are the settings of a Schema. The zero value has sane ones.
type Options struct {
	Version    string // of the program, for serverInfo
	Federation bool   // be a subgraph that a gateway can compose with others
	NoBatches  bool   // no fields of whole transactions
	NoRows     bool   // subscriptions do not begin with rows as they stand
	// NoIntrospection refuses to tell the schema.
	NoIntrospection bool
	Limits          Limits
	// Rows reads rows as they stand, in any order, for a gateway that asks for entities: at most Limits.List of them, those that
	// the query's condition names by key. Nil: of an entity only the key is known.
	Rows func(ctx context.Context, q *change.Query) ([]change.Change, error)
	// Narrow says which rows of a table, schema.name, an identity may see beyond its tenants: a filter in the form of the
	// argument where, nil for all of them; or an error for none. It is asked about entities; of a subscription's plan Schema.Narrow
	// makes a narrower one. Nil: all.
	Narrow func(ctx context.Context, table string, id *auth.Identity) (map[string]any, error)
	Log    *slog.Logger // for what a client must not see, such as a resolver's panic; nil: nowhere
}

// Limits bound what one request may cost. Zero fields have the value in the comment.
type Limits struct {
	Bytes      int // of the document: 64 KiB
	Tokens     int // of the document: 10,000
	Operations int // in one document: 50
	Depth      int // of nested fields: 20
	Fields     int // selected, each as often as its fragment is spread: 1,000
	Aliases    int // 200
	Variables  int // bytes of variables: 1 MiB
	List       int // values in one list: 1,000
	Filter     int // comparisons in one filter: 200
	Nesting    int // of and, or, not, and of JSON values: 20
	Documents  int // kept parsed: 1,000

	ResolverTimeout time.Duration // of one call: 5 s
	ResolverBytes   int           // of one value of a resolver, as JSON: 1 MiB. Sixteen times as much for a frame
}

func (l Limits) withDefaults() Limits {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&l.Bytes, 64<<10)
	set(&l.Tokens, 10_000)
	set(&l.Operations, 50)
	set(&l.Depth, 20)
	set(&l.Fields, 1_000)
	set(&l.Aliases, 200)
	set(&l.Variables, 1<<20)
	set(&l.List, 1_000)
	set(&l.Filter, 200)
	set(&l.Nesting, 20)
	set(&l.Documents, 1_000)
	set(&l.ResolverBytes, 1<<20)
	if l.ResolverTimeout <= 0 {
		l.ResolverTimeout = 5 * time.Second
	}
	return l
}

// Problem is something about a table that the schema could not take as it is. It was resolved, or left out.
type Problem struct {
	Table   string // schema.name
	Column  string // empty: the table
	Message string // what, and what to do
}

func (p Problem) String() string {
	where := p.Table
	if p.Column != "" {
		where += "." + p.Column
	}
	return where + ": " + p.Message
}

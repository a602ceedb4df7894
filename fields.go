package notifyql

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/gql"
)

// Field is a field of your own: of Subscription, over a channel of published events, or of a table's rows.
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
	// It may use the types of other fields' SDL and the schema's scalars, but no type made from a table. Descriptions and @deprecated are
	// in the schema. New refuses what does not fit, with the line and the column.
	//
	// A field of Subscription with an argument "after: Cursor" can be resumed: each result has its cursor in extensions.cursor, and if the
	// field may be null, a null with extensions.synced says that all before now was sent. The resolver does not see the argument.
	SDL string

	// Channel is what a field of Subscription listens to. Empty: the channel of the field's name.
	Channel string

	// Needs names the columns that the resolver of a row's field is given, whatever the client selects. Who may not see one of them, by a
	// policy, does not have the field in his schema.
	Needs []string

	// Resolve makes the field's value from an event, or from a row: anything that encoding/json can write, of at most
	// Limits.ResolverBytes. It is called from many goroutines at once. ctx ends after Limits.ResolverTimeout, and when the last
	// subscriber leaves; a call that goes on is given up, and what it returns then is dropped.
	//
	// An error is the client's to see, as a GraphQL error at the field: of a *RequestError the messages and extensions, of any other
	// its text. With ErrSkip an event is not sent. A panic is told to the log, and to the client as an internal error.
	//
	// Nil: an event's data is the value.
	Resolve func(ctx context.Context, e *FieldEvent) (any, error)

	// ResolveBatch is called instead of Resolve, for what waits at the time: those rows of a transaction that a group of subscribers sees,
	// rows that stand, events behind which others came. They are at most 100, with equal Args and Identity, and of equal rows only one.
	// It returns a value for each of them, in their order; one that is an error is that one's. An error beside it is that of all.
	ResolveBatch func(ctx context.Context, es []*FieldEvent) ([]any, error)

	// SameForAll says that a value does not depend on who asks: it is resolved once for all subscribers that have equal tenants and
	// ask for the same, and the resolver is not told an identity. Otherwise it is resolved once for each identity.
	SameForAll bool
}

// FieldEvent is what a Field's resolver gets: an event or a row, the field's arguments and who asks. It is the resolver's to keep, but for
// Args and Identity, which are not to be changed.
type FieldEvent struct {
	Field    string         // the field's name: priceChanged, Orders.customer
	Args     map[string]any // coerced: Int is an int, Float a float64, scalars of ours their text, enums their name
	Type     string         // of an event
	Channel  string         // of an event
	Table    string         // of a row: schema.name
	Tenant   string         // whose the event or the row is; empty if Shared
	Shared   bool
	At       time.Time       // of an event
	Data     json.RawMessage // of an event; of a row, an object of the columns in Needs by their names, as row_to_json writes them
	Identity *Identity       // whom the value is for, as it was when the subscription began, without ExpiresAt; nil with SameForAll
}

// ErrSkip is what a Field's resolver returns for an event that its subscriber is not to see: nothing is sent.
var ErrSkip = gql.ErrSkip

// fields are Config.Fields as the schema has them.
type fields struct {
	all   []gql.Field
	names []string
}

// Field returns the field of Config.Fields with this name, such as priceChanged or Orders.customer.
func (s *Server) Field(name string) (f Field, ok bool) {
	i := slices.Index(s.fields.names, name)
	if i < 0 {
		return Field{}, false
	}
	return s.cfg.Fields[i], true
}

func fieldEvent(e *gql.Event) *FieldEvent {
	return &FieldEvent{
		Field: e.Field, Args: e.Args, Type: e.Type, Channel: e.Channel, Table: e.Table, Tenant: e.Tenant, Shared: e.Shared, At: e.At, Data: e.Data,
		Identity: (*Identity)(e.Identity),
	}
}

// gqlFields are fields as the schema has them.
func gqlFields(fields []Field, t *tracer) []gql.Field {
	out := make([]gql.Field, len(fields))
	for i, f := range fields {
		g := gql.Field{SDL: f.SDL, Channel: f.Channel, Needs: slices.Clone(f.Needs), SameForAll: f.SameForAll}
		if f.Resolve != nil {
			g.Resolve = func(ctx context.Context, e *gql.Event) (any, error) {
				ctx, over := t.resolves(ctx, e.Field, 1)
				err := errPanicked
				defer func() { over(err) }()
				v, err := f.Resolve(ctx, fieldEvent(e))
				return v, told(err)
			}
		}
		if f.ResolveBatch != nil {
			g.ResolveBatch = func(ctx context.Context, es []*gql.Event) ([]any, error) {
				events := make([]*FieldEvent, len(es))
				for i, e := range es {
					events[i] = fieldEvent(e)
				}
				ctx, over := t.resolves(ctx, es[0].Field, len(es))
				err := errPanicked
				defer func() { over(err) }()
				values, err := f.ResolveBatch(ctx, events)
				values = slices.Clone(values)
				for i, v := range values {
					if err, failed := v.(error); failed {
						values[i] = told(err)
					}
				}
				return values, told(err)
			}
		}
		out[i] = g.Prepared()
	}
	return out
}

// errPanicked is what a call ends with that does not return.
var errPanicked = errors.New("the resolver panicked")

// told is a resolver's error for the schema.
func told(err error) error {
	var refused *RequestError
	if errors.As(err, &refused) {
		return gql.Told(refused.Errors)
	}
	return err
}

package gql

import (
	"context"
	"slices"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
	"github.com/notifyql/notifyql/internal/subs"
)

// Plan is a compiled subscription.
type Plan struct {
	key    string
	topics []change.Topic
	field  string // of Subscription
	root   *selection
	prefix []byte // {"data":{"key":
	start  start

	// Of a table's field:
	table   *table
	admits  *filter.Predicate // what the table's policies let its identity see
	where   *filter.Predicate
	uses    map[int16]bool // columns it relies on, by number
	usesKey bool           // and the primary key
	fields  []changeField
	batch   []batchField // instead of fields: for whole transactions

	// Of a table whose rows are visible through another one:
	policy  *memberPolicy
	members *Plan // the identity's rows of that

	// Of a table whose rows have custom fields that are selected:
	schema *Schema
	id     *auth.Identity
	who    string // the key of the identity, if a load depends on it
	loads  []*load
	loadAt []int // which load each selection of one is, in their order

	// Of a custom field:
	custom *customPlan
}

var _ subs.Resolving = (*Plan)(nil)

// Key is equal for plans that give equal frames.
func (p *Plan) Key() string { return p.key }

// Topics is what the plan listens to.
func (p *Plan) Topics() []change.Topic { return p.topics }

// Match says what a change is to the plan's set of rows, for the identity in m.
func (p *Plan) Match(m *subs.Match) subs.Effect {
	c := m.Change
	if p.custom != nil {
		if c.Op == change.Event && visible(m, c.Tenant) {
			return subs.Happens
		}
		return subs.None
	}
	if p.admits.Never() || p.members != nil && c.XID != 0 { // what follows is for a plan Under keys
		return subs.None
	}
	if c.Op == change.Truncate {
		return subs.Truncates
	}
	seesOld := (c.Op == change.Update || c.Op == change.Delete) && visible(m, c.OldTenant)
	seesNew := (c.Op == change.Update || c.Op == change.Insert) && visible(m, c.Tenant)
	if !seesOld && !seesNew {
		return subs.None
	}
	if c.Unserializable {
		return subs.Failed
	}
	before, after := filter.False, filter.False
	if seesOld {
		before = p.holds(m.Old)
	}
	if seesNew {
		after = p.holds(m.New)
	}
	switch {
	case before == filter.Invalid || after == filter.Invalid:
		return subs.Failed
	case before == filter.True && after == filter.True:
		if p.table.hides && p.table.unchanged(m.Old, m.New) {
			return subs.None
		}
		return subs.Changes
	case after == filter.True:
		return subs.Enters
	case before == filter.True:
		return subs.Leaves
	}
	return subs.None
}

func (p *Plan) holds(row *change.Row) filter.Truth {
	if !row.Ok() {
		return filter.Invalid
	}
	// What where makes of a row is nothing to who may not see it, not even that it does not fit.
	switch p.admits.Eval(row) {
	case filter.True:
		return p.where.Eval(row)
	case filter.Invalid:
		return filter.Invalid
	}
	return filter.False
}

// visible reports whether the identity may see what belongs to tenant, or to all.
func visible(m *subs.Match, tenant string) bool {
	return m.Change.Shared || m.Identity != nil && m.Identity.Sees(tenant)
}

// Blocks reports whether Encode calls a resolver.
func (p *Plan) Blocks() bool { return p.custom != nil && p.custom.resolves() || len(p.loads) > 0 }

// Together is how many changes one call of a resolver can serve.
func (p *Plan) Together() int {
	if p.custom != nil && p.custom.ResolveBatch != nil || slices.ContainsFunc(p.loads, func(l *load) bool { return l.ResolveBatch != nil }) {
		return together
	}
	return 1
}

// Encode gives the ExecutionResult of a change that Match found to have effect e; nil if a resolver skips the event.
func (p *Plan) Encode(ctx context.Context, m *subs.Match, e subs.Effect) []byte {
	if p.custom == nil && len(p.loads) == 0 {
		return p.encodeChange(m, e, nil)
	}
	return p.EncodeAll(ctx, []subs.Matched{{Match: *m, Effect: e}})[0]
}

// EncodeAll is Encode of each change, where one call of a resolver can serve several.
func (p *Plan) EncodeAll(ctx context.Context, ms []subs.Matched) [][]byte {
	if p.custom == nil {
		out := make([][]byte, len(ms))
		values := p.load(ctx, ms)
		for i := range ms {
			out[i] = p.encodeChange(&ms[i].Match, ms[i].Effect, values)
		}
		return out
	}
	if p.custom.name != channelField {
		return p.encodeEvents(ctx, ms)
	}
	out := make([][]byte, len(ms))
	for i := range ms {
		out[i] = p.event(channelEvent{&ms[i].Match}, nil)
	}
	return out
}

// EncodeSynced gives the ExecutionResult that says: all before at was sent. For a custom field it is nil unless the field
// has the argument after and may be null.
func (p *Plan) EncodeSynced(at *change.Point) []byte {
	switch {
	case p.custom != nil:
		return p.syncedEvent(at)
	case p.batch != nil:
		return p.encodeBatch(nil, true, &synced{at}, nil)
	}
	return p.syncedChange(at)
}

// Cursors reports whether the plan shows cursors.
func (p *Plan) Cursors() bool {
	if p.custom != nil {
		return p.custom.cursors
	}
	shows := func(f changeField) bool { return f.name == "cursor" }
	return slices.ContainsFunc(p.fields, shows) || slices.ContainsFunc(p.batch, func(f batchField) bool {
		return f.name == "cursor" || slices.ContainsFunc(f.fields, shows)
	})
}

package gql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
	"github.com/notifyql/notifyql/internal/subs"
)

// memberPolicy lets those rows through whose column equals the key of a row of the member table that is the identity's.
type memberPolicy struct {
	info   catalog.Policy
	user   rowPolicy      // of the member table: whose its rows are
	column *filter.Column // of the table; nil: something of it is gone, and there are no such rows
	key    *filter.Column // of the member table
	table  *table         // that
}

// linkMembers finds what the tables' policies need of each other.
func (b *builder) linkMembers() {
	for _, t := range b.tables {
		for _, info := range t.info.Policies {
			if info.Kind != catalog.MemberPolicy {
				continue
			}
			p := &memberPolicy{info: info, user: rowPolicy{claim: info.Claim, bypass: info.Roles}}
			if why := p.link(t, b.tables); why != "" {
				b.problem(t.qualified(), "", "is visible through another table, and %s, so that nobody sees its rows but who bypasses that. Look into notifyql.restricted", why)
				p.column = nil
			}
			t.members = append(t.members, p)
		}
	}
}

// link finds the columns. Else it says what is wrong.
func (p *memberPolicy) link(t *table, tables []*table) string {
	m := p.info.Member
	if m == nil {
		return "that table or a column of it is gone or not watched, or a table has no fit primary key"
	}
	at := slices.IndexFunc(tables, func(t *table) bool { return t.info.Watch == m.Watch })
	if at < 0 {
		return "that table is not seen"
	}
	p.table = tables[at]
	p.column, p.key, p.user.column = t.columnOf(p.info.Column), p.table.columnOf(m.Key), p.table.columnOf(m.User)
	switch {
	case p.column == nil || p.key == nil || p.user.column == nil:
		return "a column is gone, or excluded"
	case len(t.info.Key) == 0 || len(p.table.info.Key) == 0:
		return "a table has no primary key, or one with an excluded column"
	case !joins(p.column, p.key) || !p.user.compares():
		return "a column is of a type by which rows cannot be restricted"
	}
	return ""
}

// joins reports whether the columns' values are equal just where their texts in images are.
func joins(a, b *filter.Column) bool {
	return a.Class == b.Class && (a.Class == filter.Int || a.Class == filter.UUID || a.Class == filter.Text)
}

// columnOf is the column with a number, of all that the table has; nil if there is none.
func (t *table) columnOf(number int16) *filter.Column {
	for i, c := range t.info.Columns {
		if c.Number == number {
			return filter.NewColumn(c.Name, i, c.Type)
		}
	}
	return nil
}

// membership is the plan of the identity's rows of the member table, and the policy that asks for them; without one, or for who
// bypasses it, nil.
func (t *table) membership(id *auth.Identity) (*memberPolicy, *Plan, error) {
	if id == nil {
		id = &auth.Identity{}
	}
	var policy *memberPolicy
	for _, p := range t.whole.members {
		switch {
		case id.HasRole(p.info.Roles):
		case policy != nil:
			return nil, nil, errors.New("it has more than one policy of members")
		default:
			policy = p
		}
	}
	if policy == nil {
		return nil, nil, nil
	}
	if policy.column == nil {
		return nil, nil, errors.New("what its policy of members needs is gone, excluded or of another type")
	}
	values, err := policy.user.values(id)
	if err == nil && len(values) == 0 {
		err = fmt.Errorf("%s is empty", policy.user.source())
	}
	if err != nil {
		return nil, nil, err
	}
	m := policy.table
	p := &Plan{
		topics: []change.Topic{{Watch: m.info.Watch}}, table: m, admits: filter.And(), where: filter.In(policy.user.column, values),
		usesKey: true, uses: map[int16]bool{policy.info.Member.Key: true, policy.info.Member.User: true},
	}
	for _, i := range m.key {
		p.uses[m.columns[i].info.Number] = true
	}
	p.key = fmt.Sprintf("%s\n%q %s", m.signature, policy.key.Name, p.where.Key())
	return policy, p, nil
}

var _ subs.Keyed = (*Plan)(nil)

// Follows reports whether the plan's rows depend on those of another table. Then it is one to be followed, as subs.Keyed says.
func (p *Plan) Follows() bool { return p.members != nil }

// Members is the identity's rows of the member table.
func (p *Plan) Members() subs.Set { return p.members }

// KeyOf is the key in a row of the member table.
func (p *Plan) KeyOf(row *change.Row) (string, bool) {
	raw, ok := p.policy.key.Raw(row)
	switch {
	case !ok:
		return "", false
	case string(raw) == "null":
		return "", true
	case isString(raw):
		return string(filter.AppendText(nil, raw[1:len(raw)-1])), true
	}
	return string(raw), isNumber(raw)
}

// Under is the plan for rows with one of these keys.
func (p *Plan) Under(keys []string) (subs.Set, error) {
	values := make([]filter.Value, len(keys))
	for i, key := range keys {
		var err error
		if values[i], err = p.policy.column.ParseValue(key); err != nil {
			return nil, fmt.Errorf("a key of table %s is none of table %s: %w", p.policy.table.qualified(), p.table.qualified(), err)
		}
	}
	under := *p
	under.admits = filter.And(p.admits, filter.In(p.policy.column, values))
	under.policy, under.members, under.start = nil, nil, start{}
	under.key = under.tableKey()
	return &under, nil
}

// Query asks for the plan's rows that stand.
func (p *Plan) Query(id *auth.Identity) *change.Query {
	q := &change.Query{Watch: p.table.info.Watch, OrderBy: p.start.orderBy, Limit: p.start.limit}
	if id != nil {
		q.Tenants = id.Tenants
	}
	if rows := filter.And(p.admits, p.where); !rows.Always() {
		q.Where, q.Args = rows.SQL(nil)
	}
	p.policy.among(q, p.members)
	return q
}

// among leaves of a query's rows those that the identity's rows of the member table let through.
func (p *memberPolicy) among(q *change.Query, members *Plan) {
	if p == nil {
		return
	}
	q.Among = &change.Among{Column: p.column.Name, Watch: p.table.info.Watch, Key: p.key.Name}
	q.Among.Where, q.Args = members.where.SQL(q.Args)
}

// RowKey is a row's primary key.
func (p *Plan) RowKey(row *change.Row) (string, bool) {
	t := p.table.whole
	var key strings.Builder
	for _, i := range t.key {
		raw, ok := t.columns[i].filter.Raw(row)
		if !ok {
			return "", false
		}
		key.Write(raw)
		key.WriteByte(',')
	}
	return key.String(), len(t.key) > 0
}

// keyOf is the plan's key, if there is a plan.
func (p *Plan) keyOf() string {
	if p == nil {
		return ""
	}
	return p.key
}

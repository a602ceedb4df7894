package gql

import (
	"fmt"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// SchemaChanged is why a plan of an earlier schema cannot go on.
type SchemaChanged struct {
	What string
}

func (e *SchemaChanged) Error() string { return e.What + "; subscribe again" }

// Recheck returns a *SchemaChanged if a plan that an earlier schema compiled would mean something else in this one. What
// the plan does not use may change: a column that it neither shows nor filters by, another table.
func (s *Schema) Recheck(plan subs.Plan) error {
	p, ok := plan.(*Plan)
	if !ok {
		return nil
	}
	if p.custom != nil {
		if now := s.customs[p.field]; now == nil || now.signature != p.custom.signature {
			return &SchemaChanged{"the field " + p.field + " changed"}
		}
		return nil
	}
	if why := p.difference(s.tables[p.field]); why != "" {
		return &SchemaChanged{why}
	}
	if p.members != nil && p.members.difference(s.watched(p.members.table.info.Watch)) != "" {
		return &SchemaChanged{fmt.Sprintf("what table %s is visible through is another table", p.Table())}
	}
	return nil
}

// watched is the table with this watch; nil if there is none.
func (s *Schema) watched(watch change.WatchID) *table {
	for _, t := range s.tables {
		if t.info.Watch == watch {
			return t
		}
	}
	return nil
}

// difference says in a line what changed of that which the plan relies on; nothing: an empty line.
func (p *Plan) difference(now *table) string {
	was := p.table.whole
	name := was.qualified()
	switch {
	case now == nil || now.info.Watch != was.info.Watch:
		return fmt.Sprintf("table %s is watched no more, or under another name", name)
	case now.signature == was.signature:
		return ""
	case now.name != was.name:
		return fmt.Sprintf("the type of table %s is now called %s", name, now.name)
	case now.info.Shared != was.info.Shared || now.info.TenantColumn != was.info.TenantColumn:
		return fmt.Sprintf("table %s has another tenant column", name)
	case now.policies != was.policies:
		return fmt.Sprintf("table %s has other policies", name)
	case p.usesKey && !slices.Equal(now.info.Key, was.info.Key):
		return fmt.Sprintf("table %s has another primary key", name)
	}
	for i := range was.columns {
		c := &was.columns[i]
		if !p.uses[c.info.Number] {
			continue
		}
		why := c.difference(now, name)
		if _, seen := p.table.byName[c.name]; !seen && why != "" { // OnSubscribe may filter by what the client may not know of
			why = fmt.Sprintf("table %s is another one", name)
		}
		if why != "" {
			return why
		}
	}
	return ""
}

// difference says what changed of a column of the table of that name.
func (c *column) difference(now *table, name string) string {
	at := slices.IndexFunc(now.columns, func(n column) bool { return n.info.Number == c.info.Number })
	if at < 0 {
		return fmt.Sprintf("column %s of table %s is gone", c.info.Name, name)
	}
	switch n := &now.columns[at]; {
	case n.info.Name != c.info.Name || n.name != c.name:
		return fmt.Sprintf("column %s of table %s is now called %s", c.info.Name, name, n.info.Name)
	case !c.same(n):
		return fmt.Sprintf("column %s of table %s has another type", c.info.Name, name)
	}
	return ""
}

// same reports whether two states of a column hold values of the same kind. Labels may have been added to an enum, but
// then its values are compared and shown by another list.
func (c *column) same(n *column) bool {
	if c.typ != n.typ || c.nonNull && !n.nonNull {
		return false
	}
	a, b := c.info.Type, n.info.Type
	for a != nil && b != nil {
		if a.Schema != b.Schema || a.Name != b.Name || a.Kind != b.Kind || !slices.Equal(a.Labels, b.Labels) {
			return false
		}
		a, b = a.Elem, b.Elem
	}
	return a == nil && b == nil
}

package gql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/filter"
)

// Field is the name of the plan's field of Subscription.
func (p *Plan) Field() string { return p.field }

// Table is the plan's table, schema.name; empty for a custom field.
func (p *Plan) Table() string {
	if p.table == nil {
		return ""
	}
	return p.table.qualified()
}

// qualified is the table's name in the database.
func (t *table) qualified() string { return t.info.Schema + "." + t.info.Name }

// Args are the field's arguments, coerced. They are not to be changed.
func (p *Plan) Args() map[string]any { return p.root.args }

// Narrow returns the plan for those of its rows that where selects as well, in the form of the argument where: a row that
// it does not select is, to the subscriber, not there. The plan must be of this schema. The error is for a log: the
// client wrote none of it.
func (s *Schema) Narrow(p *Plan, where map[string]any) (*Plan, error) {
	if p.table == nil {
		return nil, fmt.Errorf("the field %s has no argument where", p.field)
	}
	narrow := *p
	narrow.uses = maps.Clone(p.uses)
	hidden, err := s.hidden(p.table, where, narrow.uses)
	if err != nil {
		return nil, err
	}
	narrow.where = filter.And(p.where, hidden)
	narrow.key = narrow.tableKey()
	return &narrow, nil
}

// hidden compiles a filter that no document has, over all columns, and notes those that it relies on.
func (s *Schema) hidden(t *table, given map[string]any, uses map[int16]bool) (*filter.Predicate, error) {
	s, t = s.family.whole, t.whole
	text, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("the filter is not JSON: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("the filter is not JSON: %w", err)
	}
	c := coercer{schema: s.ast, limits: s.options.Limits}
	got, bad := c.value(ast.NonNullNamedType(t.name+"Where", nil), v, 0)
	if bad == nil {
		w := where{table: t, limits: s.options.Limits, uses: uses}
		var p *filter.Predicate
		if p, bad = w.predicate(got, 0); bad == nil {
			return p, nil
		}
	}
	return nil, errors.New("the filter does not fit " + t.name + "Where: " + bad.Error())
}

package gql

import (
	"fmt"

	"github.com/notifyql/notifyql/internal/filter"
)

// where compiles filters over one table.
type where struct {
	table  *table
	limits Limits
	count  int            // comparisons so far
	uses   map[int16]bool // columns, by number
}

// predicate compiles a coerced Where object. Nil selects every row.
func (w *where) predicate(v any, depth int) (*filter.Predicate, *badInput) {
	given, _ := v.(map[string]any)
	if depth > w.limits.Nesting {
		return nil, &badInput{want: fmt.Sprintf("and, or and not may be nested %d deep", w.limits.Nesting), limit: "filterNesting", max: w.limits.Nesting}
	}
	all, bad := w.junctions(given, depth)
	if bad != nil {
		return nil, bad
	}
	for i := range w.table.columns {
		c := &w.table.columns[i]
		ops, ok := given[c.name]
		if !ok {
			continue
		}
		if ops == nil {
			return nil, &badInput{at: []any{c.name}, want: "expected a comparison, not null; for NULL there is isNull"}
		}
		p, bad := w.column(c, ops.(map[string]any))
		if bad != nil {
			return nil, within(c.name, bad)
		}
		w.uses[c.info.Number] = true
		all = append(all, p...)
	}
	return filter.And(all...), nil
}

// junctions compiles and, or and not.
func (w *where) junctions(given map[string]any, depth int) (all []*filter.Predicate, bad *badInput) {
	for _, name := range []string{"and", "or"} {
		v, ok := given[name]
		if !ok {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			return nil, &badInput{at: []any{name}, want: "expected a list, not null"}
		}
		kids := make([]*filter.Predicate, len(list))
		for i, kid := range list {
			if kids[i], bad = w.predicate(kid, depth+1); bad != nil {
				return nil, within(name, within(i, bad))
			}
		}
		if name == "and" {
			all = append(all, kids...)
		} else {
			all = append(all, filter.Or(kids...))
		}
	}
	if kid, ok := given["not"]; ok {
		if kid == nil {
			return nil, &badInput{at: []any{"not"}, want: "expected a filter, not null"}
		}
		p, bad := w.predicate(kid, depth+1)
		if bad != nil {
			return nil, within("not", bad)
		}
		all = append(all, filter.Not(p))
	}
	return all, nil
}

// column compiles the comparisons of one column, in an order of its own: maps have none.
func (w *where) column(c *column, ops map[string]any) (all []*filter.Predicate, bad *badInput) {
	for _, name := range sortedKeys(ops) {
		if bad := w.spend(1); bad != nil {
			return nil, bad
		}
		p, bad := w.operator(c, name, ops[name])
		if bad != nil {
			return nil, within(name, bad)
		}
		all = append(all, p)
	}
	return all, nil
}

// spend counts comparisons.
func (w *where) spend(n int) *badInput {
	if w.count += n; w.count > w.limits.Filter {
		return &badInput{want: fmt.Sprintf("a filter may have %d comparisons", w.limits.Filter), limit: "filter", max: w.limits.Filter}
	}
	return nil
}

// comparisons are the operators that take one value.
var comparisons = map[string]filter.Op{
	"eq": filter.Eq, "ne": filter.Ne, "gt": filter.Gt, "gte": filter.Gte, "lt": filter.Lt, "lte": filter.Lte,
}

// operator compiles one comparison.
func (w *where) operator(c *column, name string, v any) (*filter.Predicate, *badInput) {
	if name == "isNull" || name == "isEmpty" {
		return question(c.filter, name, v)
	}
	if v == nil && c.filter.Class != filter.JSONB {
		return nil, &badInput{want: "expected a value, not null; for NULL there is isNull"}
	}
	switch c.filter.Class {
	case filter.JSONB:
		return w.json(c.filter, name, nil, v)
	case filter.Array:
		return w.array(c, name, v)
	case filter.Range, filter.MultiRange:
		got, bad := c.value(c.filter.Elem, v)
		return filter.Contains(c.filter, got), bad
	}
	if op, ok := comparisons[name]; ok {
		got, bad := c.value(c.filter, v)
		return filter.Compare(c.filter, op, got), bad
	}
	if name == "in" || name == "notIn" {
		vs, bad := c.values(c.filter, v)
		if bad != nil {
			return nil, bad
		}
		if name == "in" {
			return filter.In(c.filter, vs), nil
		}
		return filter.Not(filter.In(c.filter, vs)), nil
	}
	text, _ := v.(string)
	return pattern(c.filter, name, text)
}

// question compiles what is answered by yes or no.
func question(c *filter.Column, name string, v any) (*filter.Predicate, *badInput) {
	yes, ok := v.(bool)
	if !ok {
		return nil, &badInput{want: "expected true or false, not null"}
	}
	p := filter.IsNull(c)
	if name == "isEmpty" {
		p = filter.IsEmpty(c)
	}
	if !yes {
		p = filter.Not(p)
	}
	return p, nil
}

// pattern compiles the operators of text.
func pattern(c *filter.Column, name, text string) (*filter.Predicate, *badInput) {
	switch name {
	case "contains":
		text = "%" + filter.Literal(text) + "%"
	case "startsWith":
		text = filter.Literal(text) + "%"
	case "endsWith":
		text = "%" + filter.Literal(text)
	}
	p, err := filter.Like(c, text, name == "ilike")
	if err != nil {
		return nil, &badInput{want: err.Error()}
	}
	return p, nil
}

// array compiles the operators of arrays.
func (w *where) array(c *column, name string, v any) (*filter.Predicate, *badInput) {
	if name == "has" {
		got, bad := c.value(c.filter.Elem, v)
		return filter.Has(c.filter, got), bad
	}
	vs, bad := c.values(c.filter.Elem, v)
	switch {
	case bad != nil:
		return nil, bad
	case name == "hasAny":
		return filter.HasAny(c.filter, vs), nil
	}
	return filter.HasAll(c.filter, vs), nil
}

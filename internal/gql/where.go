package gql

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/notifyql/notifyql/internal/filter"
)

// where compiles filters over one table.
type where struct {
	table  *table
	limits Limits
	count  int          // comparisons so far
	uses   map[int]bool // columns
}

// predicate compiles a coerced Where object. Nil selects every row.
func (w *where) predicate(v any, depth int) (*filter.Predicate, *badInput) {
	given, _ := v.(map[string]any)
	if depth > w.limits.Nesting {
		return nil, &badInput{want: fmt.Sprintf("and, or and not may be nested %d deep", w.limits.Nesting)}
	}
	var all []*filter.Predicate
	for _, name := range []string{"and", "or"} {
		list, ok := given[name].([]any)
		if !ok {
			if _, null := given[name]; null {
				return nil, &badInput{at: []any{name}, want: "expected a list, not null"}
			}
			continue
		}
		kids := make([]*filter.Predicate, len(list))
		for i, kid := range list {
			var bad *badInput
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
		w.uses[i] = true
		all = append(all, p...)
	}
	return filter.And(all...), nil
}

// operators are those that take one value.
var operators = []struct {
	name string
	op   filter.Op
}{{"eq", filter.Eq}, {"ne", filter.Ne}, {"gt", filter.Gt}, {"gte", filter.Gte}, {"lt", filter.Lt}, {"lte", filter.Lte}}

func (w *where) column(c *column, ops map[string]any) (all []*filter.Predicate, bad *badInput) {
	if w.count += len(ops); w.count > w.limits.Filter {
		return nil, &badInput{want: fmt.Sprintf("a filter may have %d comparisons", w.limits.Filter)}
	}
	for _, o := range operators {
		given, ok := ops[o.name]
		if !ok {
			continue
		}
		v, bad := c.value(given)
		if bad != nil {
			return nil, within(o.name, bad)
		}
		all = append(all, filter.Compare(c.filter, o.op, v))
	}
	if given, ok := ops["in"]; ok {
		list, isList := given.([]any)
		if !isList {
			return nil, &badInput{at: []any{"in"}, want: "expected a list, not null"}
		}
		vs := make([]filter.Value, len(list))
		for i, one := range list {
			if vs[i], bad = c.value(one); bad != nil {
				return nil, within("in", within(i, bad))
			}
		}
		all = append(all, filter.In(c.filter, vs))
	}
	if given, ok := ops["isNull"]; ok {
		null, isBool := given.(bool)
		if !isBool {
			return nil, &badInput{at: []any{"isNull"}, want: "expected true or false, not null"}
		}
		p := filter.IsNull(c.filter)
		if !null {
			p = filter.Not(p)
		}
		all = append(all, p)
	}
	return all, nil
}

// value is a coerced value as the column's type has it.
func (c *column) value(v any) (filter.Value, *badInput) {
	var text string
	switch v := v.(type) {
	case nil:
		return filter.Value{}, &badInput{want: "expected a value, not null; for NULL there is isNull"}
	case bool:
		text = strconv.FormatBool(v)
	case int:
		text = strconv.Itoa(v)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		text = v
		switch {
		case c.filter.Class == filter.Enum && c.enum != nil:
			text = c.enum.labels[v]
		case c.filter.Class == filter.Bytea:
			b, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				return filter.Value{}, &badInput{want: "expected base64"}
			}
			text = `\x` + hex.EncodeToString(b)
		}
	}
	got, err := c.filter.ParseValue(text)
	if err != nil {
		return got, &badInput{want: err.Error()}
	}
	return got, nil
}

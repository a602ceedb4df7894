package gql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
	"github.com/notifyql/notifyql/internal/subs"
)

// entities answers a gateway's question for rows by key: those of a table with one query. A row that is not there, or not
// for this identity to see, is null.
func (q query) entities(args map[string]any) any {
	list, _ := args["representations"].([]any)
	out := make([]any, len(list))
	asked := map[*table]*lookup{}
	for i, one := range list {
		t, fields, err := q.schema.representation(one)
		switch {
		case err != nil:
			out[i] = err
		case q.schema.options.Rows == nil || !t.finds():
			out[i] = entityKey{t, fields}
		default:
			if asked[t] == nil {
				asked[t] = &lookup{query: q, table: t, wanted: map[string][]int{}}
				asked[t].see(q.id)
			}
			if err := asked[t].add(fields, i); err != nil {
				out[i] = err
			}
		}
	}
	for _, l := range asked {
		l.fill(out)
	}
	return out
}

// representation takes apart what a gateway knows of a row.
func (s *Schema) representation(v any) (*table, map[string]any, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, nil, errors.New("a representation must be an object")
	}
	name, _ := fields["__typename"].(string)
	for _, t := range s.tables {
		if t.name != name || len(t.key) == 0 {
			continue
		}
		for _, k := range t.key {
			if fields[t.columns[k].name] == nil {
				return nil, nil, fmt.Errorf("the representation of %s lacks %s", name, t.columns[k].name)
			}
		}
		return t, fields, nil
	}
	return nil, nil, fmt.Errorf("%.80q is no type with a key", name)
}

// finds reports whether rows of the table can be asked for by key: its columns compare, and equal values have one key.
func (t *table) finds() bool {
	return !slices.ContainsFunc(t.key, func(k int) bool {
		c := &t.columns[k]
		return !c.filter.Class.Ordered() && c.where != "OpaqueWhere"
	})
}

// lookup is the rows of one table that a gateway asks for.
type lookup struct {
	query
	table   *table
	wanted  map[string][]int // places in the answer, by what finds the row
	rows    []*filter.Predicate
	found   askedRows
	values  []filter.Value    // of the key's first column
	admits  *filter.Predicate // what the table's policies let the identity see
	policy  *memberPolicy
	members *Plan // of that, which rows are the identity's
}

// see finds out what the table's policies let the identity see.
func (l *lookup) see(id *auth.Identity) {
	var why error
	if l.admits, why = l.table.admits(id); why == nil {
		l.policy, l.members, why = l.table.membership(id)
	}
	if why != nil {
		l.admits = filter.Or()
	}
}

// add asks for one row more.
func (l *lookup) add(fields map[string]any, place int) error {
	p, first, err := l.find(fields)
	if err != nil {
		return err
	}
	if _, again := l.wanted[p.Key()]; !again {
		l.rows = append(l.rows, p)
		l.values = append(l.values, first)
	}
	l.wanted[p.Key()] = append(l.wanted[p.Key()], place)
	return nil
}

// find gives the predicate that is true for the row with a key, and the value of the key's first column. Predicates of equal
// keys have equal keys themselves, however the values were written.
func (l *lookup) find(fields map[string]any) (p *filter.Predicate, first filter.Value, err error) {
	c := coercer{schema: l.schema.ast, limits: l.schema.options.Limits}
	var all []*filter.Predicate
	for i, k := range l.table.key {
		col := &l.table.columns[k]
		var v filter.Value
		ops, bad := c.value(ast.NamedType(col.where, nil), map[string]any{"eq": fields[col.name]}, 0)
		if bad == nil {
			v, bad = col.value(col.filter, ops.(map[string]any)["eq"])
		}
		if bad != nil {
			return nil, first, fmt.Errorf("the representation of %s has an invalid key %s: %s", l.table.name, col.name, bad.want)
		}
		if i == 0 {
			first = v
		}
		all = append(all, filter.Compare(col.filter, filter.Eq, v))
	}
	return filter.And(all...), first, nil
}

// condition is true for the rows asked for, of those that the identity may see.
func (l *lookup) condition() (*filter.Predicate, error) {
	asked := filter.Or(l.rows...)
	if len(l.table.key) == 1 {
		asked = filter.In(l.table.columns[l.table.key[0]].filter, l.values)
	}
	asked = filter.And(asked, l.admits)
	narrow := l.schema.options.Narrow
	if narrow == nil {
		return asked, nil
	}
	given, err := narrow(l.ctx, l.table.qualified(), l.id)
	if err != nil || given == nil {
		return asked, err
	}
	hidden, err := l.schema.hidden(l.table, given, map[int16]bool{})
	if err != nil {
		return nil, err
	}
	return filter.And(asked, hidden), nil
}

// fill reads the rows and puts them into their places.
func (l *lookup) fill(out []any) {
	if len(l.rows) == 0 {
		return
	}
	q := &change.Query{Watch: l.table.info.Watch}
	if l.id != nil {
		q.Tenants = l.id.Tenants
	}
	condition, err := l.condition()
	if err != nil {
		l.schema.log().Info("rows that a gateway asked for are refused", "table", l.table.info.Name, "error", err)
		l.missing(out, &codedError{code: codeForbidden, message: "the rows of " + l.table.name + " are not allowed"})
		return
	}
	q.Where, q.Args = condition.SQL(nil)
	l.policy.among(q, l.members)
	found, err := l.schema.options.Rows(l.ctx, q)
	if err != nil {
		l.schema.log().Warn("rows that a gateway asked for could not be read", "table", l.table.info.Name, "error", err)
		l.missing(out, &codedError{code: codeInternal, message: "the rows of " + l.table.name + " cannot be read now"})
		return
	}
	lost := false
	l.found.query, l.found.table = l.query, l.table
	for i := range found {
		c := &found[i]
		if visible(&subs.Match{Change: c, Identity: l.id}, c.Tenant) && !l.put(out, c) {
			lost = true
		}
	}
	if lost {
		l.missing(out, &codedError{code: codeUnserial, message: "a row of " + l.table.name + " cannot be converted to JSON, or does not fit the schema"})
	}
}

// missing is what is said of the rows that were not found.
func (l *lookup) missing(out []any, err error) {
	for _, places := range l.wanted {
		for _, i := range places {
			if out[i] == nil {
				out[i] = err
			}
		}
	}
}

// put puts a row where it is wanted. It reports whether it is known where that is.
func (l *lookup) put(out []any, of *change.Change) bool {
	row := new(change.Row)
	if row.Parse(of.New) != nil {
		return false
	}
	if l.admits.Eval(row) != filter.True {
		return true // not for this identity
	}
	fields := map[string]any{}
	for _, k := range l.table.key {
		c := &l.table.columns[k]
		text, code := c.append(nil, row, &selection{})
		if code != "" {
			return false
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return false
		}
		fields[c.name] = v
	}
	p, _, err := l.find(fields)
	if err != nil {
		return false
	}
	places := l.wanted[p.Key()]
	for _, i := range places {
		out[i] = entityRow{l.table, row, &l.found}
	}
	l.found.rows = append(l.found.rows, shownRow{row, of.Tenant, of.Shared})
	return len(places) > 0
}

// entityRow is a row as an entity.
type entityRow struct {
	table *table
	row   *change.Row
	of    *askedRows // it is one of
}

func (e entityRow) typename() string { return e.table.name }

func (e entityRow) get(field string, args map[string]any) any {
	if x := e.table.extensions[field]; x != nil {
		return e.of.custom(x, e.row, args)
	}
	return cell{e.table, &e.table.columns[e.table.byName[field]], e.row}
}

// entityKey is an entity of which only the key is known.
type entityKey struct {
	table  *table
	fields map[string]any
}

func (e entityKey) typename() string { return e.table.name }

func (e entityKey) get(field string, _ map[string]any) any {
	for _, k := range e.table.key {
		if e.table.columns[k].name == field {
			raw, err := json.Marshal(e.fields[field])
			if err != nil {
				return err
			}
			return json.RawMessage(raw)
		}
	}
	return fmt.Errorf("%s.%s is known only within an event: of a row by itself this subgraph has the key", e.table.name, field)
}

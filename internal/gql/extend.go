package gql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// extension is a custom field of a table's rows.
type extension struct {
	*custom
	needs []int // the table's columns
}

// extend gives tables the custom fields of their rows, and returns the SDL of those that there are. A field is not there for who may not see
// a column that it needs.
func (b *builder) extend() (exts ast.DefinitionList) {
	for _, c := range b.rowFields {
		at := slices.IndexFunc(b.tables, func(t *table) bool { return t.name == c.on })
		if at < 0 {
			b.problem(c.on, "", "is no type of a watched table's rows, so that it has no field %s", c.field.Name)
			continue
		}
		t := b.tables[at]
		e := &extension{custom: c}
		hidden := false
		for _, name := range c.Needs {
			i := slices.IndexFunc(t.columns, func(col column) bool { return col.info.Name == name })
			if i >= 0 {
				e.needs = append(e.needs, i)
				continue
			}
			hidden = true
			if !slices.ContainsFunc(t.info.Columns, func(col catalog.Column) bool { return col.Name == name }) {
				b.problem(t.qualified(), name, "is gone or excluded, so that %s has no field %s, which needs it", t.name, c.field.Name)
			}
		}
		if hidden {
			continue
		}
		if t.extensions == nil {
			t.extensions = map[string]*extension{}
		}
		t.extensions[c.field.Name] = e
		exts = append(exts, &ast.Definition{Kind: ast.Object, Name: c.on, Fields: ast.FieldList{c.field}, Position: c.field.Position})
	}
	return exts
}

// reserved are the names that custom fields take of a type's columns.
func (b *builder) reserved(typ string, names namer) {
	for _, c := range b.rowFields {
		if c.on == typ {
			names[c.field.Name] = true
		}
	}
}

// load is a custom field of rows with its arguments, which a plan selects once or more often.
type load struct {
	*extension
	key   string // equal for equal fields and arguments
	event Event  // what all have in common
	stuck stuck
}

// loadOf is the plan's load for a selection of a row: its place among them, from 1.
func (p *Plan) loadOf(e *extension, s *selection) int {
	key := e.loadKey(s.args)
	at := slices.IndexFunc(p.loads, func(l *load) bool { return l.key == key })
	if at < 0 {
		l := &load{extension: e, key: key, event: *e.custom.event(s.args, p.id)}
		for _, i := range e.needs {
			p.uses[p.table.columns[i].info.Number] = true
		}
		if !e.SameForAll && p.who == "" {
			p.who = identityKey(p.id)
		}
		at = len(p.loads)
		p.loads = append(p.loads, l)
	}
	p.loadAt = append(p.loadAt, at+1)
	return at + 1
}

func (e *extension) loadKey(args map[string]any) string {
	text, _ := json.Marshal(args) // a map marshals with its keys sorted
	return e.name + string(text)
}

// loadsKey is what the plan's custom fields add to its key: which are selected where, since the shape tells no arguments, and what they are.
func (p *Plan) loadsKey(key *strings.Builder) {
	if len(p.loads) > 0 {
		fmt.Fprintf(key, "\n%v", p.loadAt)
	}
	for _, l := range p.loads {
		fmt.Fprintf(key, "\n%s\n%s", l.signature, l.key)
		if !l.SameForAll {
			fmt.Fprintf(key, "\n%s", p.who)
		}
	}
}

// given is what a resolver is given of a row.
func (e *extension) given(t *table, row *change.Row) (data []byte, err error) {
	data = []byte{'{'}
	for k, i := range e.needs {
		c := &t.columns[i]
		raw, ok := c.filter.Raw(row)
		if !ok {
			return nil, &codedError{code: codeValue, message: "the row lacks a column that the field needs"}
		}
		if k > 0 {
			data = append(data, ',')
		}
		data = append(appendString(data, c.info.Name), ':')
		data = append(data, raw...)
	}
	return append(data, '}'), nil
}

// shownRow is a row for which a custom field is wanted, and whose it is.
type shownRow struct {
	row    *change.Row
	tenant string
	shared bool
}

// answersFor asks for the field's values of rows, of equal ones once.
func (l *load) answersFor(ctx context.Context, t *table, rows []shownRow) []*answer {
	out := make([]*answer, len(rows))
	asked := map[string]*answer{}
	var es []*Event
	var answers []*answer
	for i, r := range rows {
		data, err := l.given(t, r.row)
		if err != nil {
			out[i] = &answer{err: err}
			continue
		}
		key := fmt.Sprintf("%t%q%s", r.shared, r.tenant, data)
		if out[i] = asked[key]; out[i] != nil {
			continue
		}
		e := l.event
		e.Table, e.Tenant, e.Shared, e.Data = t.qualified(), r.tenant, r.shared, data
		out[i] = new(answer)
		asked[key] = out[i]
		es, answers = append(es, &e), append(answers, out[i])
	}
	if len(es) == 0 {
		return out
	}
	for i, a := range l.answers(ctx, &l.stuck, es) {
		*answers[i] = a
	}
	return out
}

// loaded are the values of custom fields that a frame shows.
type loaded map[loadedKey]*answer

type loadedKey struct {
	load int // from 1
	row  *change.Row
}

// load asks for all custom fields of rows that the changes show, all fields at once.
func (p *Plan) load(ctx context.Context, ms []subs.Matched) loaded {
	if len(p.loads) == 0 {
		return nil
	}
	rows := make([][]shownRow, len(p.loads)+1)
	want := func(fields []changeField) {
		for i := range fields {
			f := &fields[i]
			if f.name != "new" && f.name != "old" {
				continue
			}
			for k := range f.rows {
				if n := f.rows[k].load; n > 0 {
					for m := range ms {
						if r := shown(&ms[m], f.name); r.row.Ok() {
							rows[n] = append(rows[n], r)
						}
					}
				}
			}
		}
	}
	want(p.fields)
	for i := range p.batch {
		want(p.batch[i].fields)
	}
	answers := make([][]*answer, len(rows))
	done := make(chan struct{}, len(rows))
	for n := 1; n < len(rows); n++ {
		go func() {
			defer func() { done <- struct{}{} }()
			answers[n] = p.loads[n-1].answersFor(ctx, p.table, rows[n])
		}()
	}
	out := loaded{}
	for n := 1; n < len(rows); n++ {
		<-done
	}
	for n := 1; n < len(rows); n++ {
		for i, r := range rows[n] {
			out[loadedKey{n, r.row}] = answers[n][i]
		}
	}
	return out
}

// shown is the row that the field new or old of a change shows.
func shown(m *subs.Matched, field string) shownRow {
	before, after, _ := images(&m.Match, m.Effect)
	if field == "new" {
		return shownRow{after, m.Change.Tenant, m.Change.Shared}
	}
	return shownRow{before, m.Change.OldTenant, m.Change.Shared}
}

// writeCustom writes a custom field of a row. It reports whether there is a value, or null where that may be.
func (p *Plan) writeCustom(r *result, f *changeField, rf *rowField, row *change.Row) bool {
	a := r.loaded[loadedKey{rf.load, row}]
	w := &writer{result: r, schema: p.schema.ast, log: p.schema.log(), path: p.path(r, f.key, rf.key), max: perFrame * p.schema.options.Limits.ResolverBytes}
	return w.answer(rf.selection, a)
}

// answer writes what a resolver answered.
func (w *writer) answer(sel *selection, a *answer) bool {
	if a == nil {
		a = &answer{err: errInternal}
	}
	if a.err == nil {
		return w.value(sel, sel.def.Type, a.value)
	}
	w.failResolver(sel, a.err)
	if sel.def.Type.NonNull {
		return false
	}
	w.buf = append(w.buf, "null"...)
	return true
}

// askedRows are the rows of one table that a query answers, of which custom fields are asked for together.
type askedRows struct {
	query
	table *table
	rows  []shownRow
	known map[string]map[*change.Row]*answer // by field and arguments
}

func (o *askedRows) custom(e *extension, row *change.Row, args map[string]any) any {
	key := e.loadKey(args)
	if o.known[key] == nil {
		l := &load{extension: e, event: *e.custom.event(args, o.id)}
		of := map[*change.Row]*answer{}
		for i, a := range l.answersFor(o.ctx, o.table, o.rows) {
			of[o.rows[i].row] = a
		}
		if o.known == nil {
			o.known = map[string]map[*change.Row]*answer{}
		}
		o.known[key] = of
	}
	return o.known[key][row]
}

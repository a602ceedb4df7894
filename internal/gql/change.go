package gql

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// changeField is one response key of a table's change.
type changeField struct {
	*selection
	rows []rowField // of new and old
}

// rowField is one response key of a row: a column, or with column -1 a custom field, or its type's name.
type rowField struct {
	*selection
	column int
	load   int // not 0: which of the plan's loads, from 1
}

// changeFields compiles the selection on a change and notes the columns it relies on.
func (p *Plan) changeFields(sels []*selection) []changeField {
	fields := make([]changeField, len(sels))
	for i, s := range sels {
		f := &fields[i]
		f.selection = s
		switch s.name {
		case "new", "old":
			for _, r := range s.kids[p.table.name] {
				row := rowField{selection: r, column: -1}
				if i, ok := p.table.byName[r.name]; ok {
					row.column = i
					p.uses[p.table.columns[i].info.Number] = true
				} else if e := p.table.extensions[r.name]; e != nil {
					row.load = p.loadOf(e, r)
				}
				f.rows = append(f.rows, row)
			}
		case "key", "oldKey":
			p.usesKey = true
			for _, i := range p.table.key {
				p.uses[p.table.columns[i].info.Number] = true
			}
		case "changedFields":
			for i := range p.table.columns {
				p.uses[p.table.columns[i].info.Number] = true
			}
		}
	}
	return fields
}

// fieldError is an error at a place in a result.
type fieldError struct {
	code, message string
	sel           *selection
	path          []any
	extensions    map[string]any // beside the code, or with another
}

// result is an ExecutionResult being written.
type result struct {
	buf  []byte
	errs []fieldError

	loaded loaded // the values of rows' custom fields

	list *selection // of a batch: where the change being written is
	at   int        // and at which place
}

// path is that of a field of the change being written.
func (p *Plan) path(r *result, fields ...string) []any {
	path := []any{p.root.key}
	if r.list != nil {
		path = append(path, r.list.key, r.at)
	}
	for _, f := range fields {
		path = append(path, f)
	}
	return path
}

// maxErrors is how many errors of one result are told.
const maxErrors = 100

// finish gives the result: errors first, as graphql-js does.
func (r *result) finish() []byte {
	if len(r.errs) == 0 {
		return r.buf
	}
	list := make(errorList, min(len(r.errs), maxErrors))
	for i, e := range r.errs[:len(list)] {
		list[i] = newError(e.code, e.sel.pos, "%s", e.message)
		list[i].Path = e.path
		maps.Copy(list[i].Extensions, e.extensions)
		for _, pos := range e.sel.more {
			list[i].Locations = append(list[i].Locations, locate(pos))
		}
	}
	return slices.Concat([]byte(`{"errors":`), list.json(), []byte(","), r.buf[1:])
}

// failure is the result of a root field that failed as a whole: it is never null.
func (p *Plan) failure(code, message string) []byte {
	r := result{buf: []byte(`{"data":null}`), errs: []fieldError{{code: code, message: message, sel: p.root, path: []any{p.root.key}}}}
	return r.finish()
}

func (p *Plan) encodeChange(m *subs.Match, e subs.Effect, values loaded) []byte {
	if e == subs.Failed {
		return p.failure(failed(m))
	}
	r := &result{buf: append(make([]byte, 0, p.size(p.fields, m.Change)), p.prefix...), loaded: values}
	p.change(r, p.fields, m, e)
	r.buf = append(r.buf, '}', '}')
	return r.finish()
}

// failed says why it is not known what a change is.
func failed(m *subs.Match) (code, message string) {
	if m.Change.Unserializable {
		return codeUnserial, "A change was written whose row cannot be converted to JSON."
	}
	return codeSchema, "A change was written whose row does not fit the schema."
}

// images are the rows that a change shows, and its kind.
func images(m *subs.Match, e subs.Effect) (before, after *change.Row, kind string) {
	switch e {
	case subs.Enters, subs.Gained:
		return nil, m.New, "INSERT"
	case subs.Changes:
		return m.Old, m.New, "UPDATE"
	case subs.Leaves, subs.Lost:
		return m.Old, nil, "DELETE"
	case subs.Stands:
		return nil, m.New, "INITIAL"
	}
	return nil, nil, "TRUNCATE"
}

// change writes one change.
func (p *Plan) change(r *result, fields []changeField, m *subs.Match, e subs.Effect) {
	before, after, kind := images(m, e)
	r.buf = append(r.buf, '{')
	for i := range fields {
		if i > 0 {
			r.buf = append(r.buf, ',')
		}
		f := &fields[i]
		r.buf = append(r.buf, f.prefix...)
		switch f.name {
		case "new":
			p.row(r, f, after)
		case "old":
			p.row(r, f, before)
		case "changedFields":
			p.changedFields(r, before, after)
		case "key":
			if after == nil {
				p.rowKey(r, f, before)
			} else {
				p.rowKey(r, f, after)
			}
		case "oldKey":
			p.rowKey(r, f, before)
		default:
			p.plain(r, f, kind, m, e)
		}
	}
	r.buf = append(r.buf, '}')
}

// size guesses how long the result gets: of an image, no more than a usual value's length for each column selected.
func (p *Plan) size(fields []changeField, c *change.Change) int {
	n := len(p.prefix) + 32*len(fields) + 64
	for i := range fields {
		f := &fields[i]
		n += min(max(len(c.Old), len(c.New)), 48*len(f.rows))
		if f.name == "cursor" {
			n += 100
		}
	}
	return n
}

// plain writes what a change has whatever its images, and of a row that stands only what it is.
func (p *Plan) plain(r *result, f *changeField, kind string, m *subs.Match, e subs.Effect) {
	c := m.Change
	switch {
	case f.name == "kind":
		r.buf = quoted(r.buf, kind)
	case f.name == "__typename":
		r.buf = quoted(r.buf, p.table.name+"Change")
	case e == subs.Stands:
		r.buf = append(r.buf, "null"...)
	case f.name == "cause" && (e == subs.Gained || e == subs.Lost):
		r.buf = append(r.buf, `"MOVED"`...)
	case f.name == "cause":
		r.buf = quoted(r.buf, cause(c.Op))
	case f.name == "transaction":
		r.buf = append(r.buf, '"')
		r.buf = strconv.AppendUint(r.buf, uint64(c.XID), 10)
		r.buf = append(r.buf, '"')
	case f.name == "committedAt":
		r.buf = append(r.buf, '"')
		r.buf = c.At.UTC().AppendFormat(r.buf, time.RFC3339Nano)
		r.buf = append(r.buf, '"')
	case f.name == "cursor":
		r.buf = appendCursor(r.buf, m)
	default:
		r.buf = append(r.buf, "null"...)
	}
}

// syncedChange is the result that says: all before at was sent.
func (p *Plan) syncedChange(at *change.Point) []byte {
	dst := slices.Clone(p.prefix)
	dst = append(dst, '{')
	for i := range p.fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := &p.fields[i]
		dst = append(dst, f.prefix...)
		switch f.name {
		case "kind":
			dst = append(dst, `"SYNCED"`...)
		case "__typename":
			dst = quoted(dst, p.table.name+"Change")
		case "changedFields":
			dst = append(dst, "[]"...)
		case "cursor":
			dst = appendPlace(dst, at)
		default:
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}', '}', '}')
}

// appendCursor writes the cursor behind a change, or null if it has none.
func appendCursor(dst []byte, m *subs.Match) []byte {
	if m.Before == nil {
		return append(dst, "null"...)
	}
	return append(m.Before.AppendBehind(append(dst, '"'), m.Change), '"') // its text needs no escapes
}

// appendPlace writes the cursor of a place, or null if there is none.
func appendPlace(dst []byte, at *change.Point) []byte {
	if at == nil {
		return append(dst, "null"...)
	}
	return append(at.AppendCursor(append(dst, '"')), '"')
}

func cause(op change.Op) string {
	switch op {
	case change.Insert:
		return "INSERT"
	case change.Update:
		return "UPDATE"
	case change.Delete:
		return "DELETE"
	}
	return "TRUNCATE"
}

// row writes an image, or null: where there is none, and where a field that is never null has no value.
func (p *Plan) row(r *result, f *changeField, row *change.Row) {
	start := len(r.buf)
	if !row.Ok() {
		r.buf = append(r.buf, "null"...)
		return
	}
	r.buf = append(r.buf, '{')
	for i := range f.rows {
		if i > 0 {
			r.buf = append(r.buf, ',')
		}
		rf := &f.rows[i]
		r.buf = append(r.buf, rf.prefix...)
		if rf.load > 0 {
			if p.writeCustom(r, f, rf, row) {
				continue
			}
			r.buf = append(r.buf[:start], "null"...)
			return
		}
		if rf.column < 0 {
			r.buf = quoted(r.buf, p.table.name)
			continue
		}
		c := &p.table.columns[rf.column]
		var code string
		if r.buf, code = c.append(r.buf, row, rf.selection); code == "" {
			continue
		}
		r.errs = append(r.errs, fieldError{code: code, message: p.table.complaint(c, code), sel: rf.selection, path: p.path(r, f.key, rf.key)})
		if c.nonNull {
			r.buf = append(r.buf[:start], "null"...)
			return
		}
		r.buf = append(r.buf, "null"...)
	}
	r.buf = append(r.buf, '}')
}

// changedFields writes the names of the fields whose raw values differ.
func (p *Plan) changedFields(r *result, before, after *change.Row) {
	r.buf = append(r.buf, '[')
	if before.Ok() && after.Ok() {
		first := true
		for i := range p.table.columns {
			c := &p.table.columns[i]
			was, ok := c.filter.Raw(before)
			is, okNow := c.filter.Raw(after)
			if ok == okNow && bytes.Equal(was, is) {
				continue
			}
			if !first {
				r.buf = append(r.buf, ',')
			}
			first = false
			r.buf = quoted(r.buf, c.name)
		}
	}
	r.buf = append(r.buf, ']')
}

// rowKey writes the primary key: one column's text, or several as a JSON array in a string.
func (p *Plan) rowKey(r *result, f *changeField, row *change.Row) {
	if len(p.table.key) == 0 || !row.Ok() {
		r.buf = append(r.buf, "null"...)
		return
	}
	var parts [][]byte
	for _, i := range p.table.key {
		raw, ok := p.table.columns[i].filter.Raw(row)
		if !ok {
			r.errs = append(r.errs, fieldError{code: codeValue, message: "The row lacks a column of its primary key.", sel: f.selection, path: p.path(r, f.key)})
			r.buf = append(r.buf, "null"...)
			return
		}
		parts = append(parts, raw)
	}
	switch {
	case len(parts) == 1 && isString(parts[0]):
		r.buf = append(r.buf, parts[0]...)
	case len(parts) == 1 && isNumber(parts[0]):
		r.buf = quoted(r.buf, parts[0])
	default:
		text := append(append([]byte{'['}, bytes.Join(parts, []byte(","))...), ']')
		if len(parts) == 1 {
			text = parts[0]
		}
		r.buf = appendString(r.buf, string(text))
	}
}

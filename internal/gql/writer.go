package gql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
)

// object is a value with fields that are computed when asked for, beside decoded JSON objects.
type object interface {
	typename() string
	get(field string, args map[string]any) any
}

// writer writes values as their types and selections have it. Each method returns false where it wrote nothing, because
// there is no value where one must be; the nearest place above that may be null then is.
type writer struct {
	*result
	schema *ast.Schema
	path   []any
	log    *slog.Logger
	max    int // not 0: bytes that the result may have before the next value
}

func (w *writer) fail(code string, s *selection, format string, args ...any) {
	if len(w.errs) >= maxErrors {
		return
	}
	w.errs = append(w.errs, fieldError{code: code, message: fmt.Sprintf(format, args...), sel: s, path: slices.Clone(w.path)})
}

// value writes v as type t: an object, a list, a string, a bool, JSON text, or an error.
func (w *writer) value(s *selection, t *ast.Type, v any) bool {
	if raw, ok := v.(json.RawMessage); ok {
		if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
			v = nil
		} else {
			v = raw
		}
	}
	if a, is := v.(*answer); is {
		return w.answer(s, a)
	}
	start := len(w.buf)
	ok := v != nil
	if w.max > 0 && start > w.max {
		w.failWith(codeLimit, s, &codedError{code: codeLimit, message: fmt.Sprintf("The result has more than %d bytes.", w.max), limit: "resolverBytes", max: w.max / perFrame})
		ok = false
	} else if err, failed := v.(error); failed {
		w.fail(codeOf(err), s, "%s.", err)
		ok = false
	} else if cell, is := v.(cell); is {
		ok = w.cell(s, cell)
	} else if ok {
		ok = w.present(s, t, v)
	} else if t.NonNull {
		w.fail(codeNull, s, "Cannot return null for non-nullable field %s.%s.", s.parent, s.name)
	}
	if ok {
		return true
	}
	w.buf = w.buf[:start]
	if t.NonNull {
		return false
	}
	w.buf = append(w.buf, "null"...)
	return true
}

func (w *writer) present(s *selection, t *ast.Type, v any) bool {
	if t.Elem != nil {
		return w.list(s, t.Elem, v)
	}
	def := w.schema.Types[t.NamedType]
	if def.IsCompositeType() {
		return w.composite(s, def, v)
	}
	out, ok := appendLeaf(w.buf, def, v)
	if !ok {
		w.fail(codeValue, s, "%s cannot represent the value of field %s.%s.", def.Name, s.parent, s.name)
		return false
	}
	w.buf = out
	return true
}

// cell is a column of a row as an image has it.
type cell struct {
	table  *table
	column *column
	row    *change.Row
}

func (w *writer) cell(s *selection, v cell) bool {
	var code string
	if w.buf, code = v.column.append(w.buf, v.row, s); code != "" {
		w.fail(code, s, "%s", v.table.complaint(v.column, code))
	}
	return code == ""
}

func (w *writer) list(s *selection, elem *ast.Type, v any) bool {
	n := 0
	item := func(v any) bool {
		if n > 0 {
			w.buf = append(w.buf, ',')
		}
		w.path = append(w.path, n)
		ok := w.value(s, elem, v)
		w.path = w.path[:len(w.path)-1]
		n++
		return ok
	}
	w.buf = append(w.buf, '[')
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			if !item(one) {
				return false
			}
		}
	case json.RawMessage:
		if v[0] != '[' {
			w.fail(codeValue, s, "Expected a list for field %s.%s.", s.parent, s.name)
			return false
		}
		for e := filter.NewElements(v); e.Next(); {
			if !item(json.RawMessage(e.Value)) {
				return false
			}
		}
	default:
		w.fail(codeValue, s, "Expected a list for field %s.%s.", s.parent, s.name)
		return false
	}
	w.buf = append(w.buf, ']')
	return true
}

func (w *writer) composite(s *selection, def *ast.Definition, v any) bool {
	name := def.Name
	var get func(f *selection) any
	switch v := v.(type) {
	case object:
		name = v.typename()
		get = func(f *selection) any { return v.get(f.name, f.args) }
	case json.RawMessage:
		if v[0] != '{' {
			w.fail(codeValue, s, "Expected an object for field %s.%s.", s.parent, s.name)
			return false
		}
		if def.IsAbstractType() {
			name = typenameOf(v)
		}
		get = func(f *selection) any { return jsonMember(v, f.name) }
	default:
		w.fail(codeValue, s, "Expected an object for field %s.%s.", s.parent, s.name)
		return false
	}
	kids, ok := s.kids[name]
	if !ok {
		w.fail(codeValue, s, "The value of field %s.%s must say in __typename which type of %s it is.", s.parent, s.name, def.Name)
		return false
	}
	w.buf = append(w.buf, '{')
	for i, kid := range kids {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(w.buf, kid.prefix...)
		if kid.name == "__typename" {
			w.buf = quoted(w.buf, name)
			continue
		}
		w.path = append(w.path, kid.key)
		ok := w.value(kid, kid.def.Type, get(kid))
		w.path = w.path[:len(w.path)-1]
		if !ok {
			return false
		}
	}
	w.buf = append(w.buf, '}')
	return true
}

// jsonMember is an object's member; of several with one name the last, as JSON.parse has it.
func jsonMember(raw json.RawMessage, name string) any {
	var found any
	for m := filter.NewMembers(raw); m.Next(); {
		if key := m.Key[1 : len(m.Key)-1]; string(key) == name || bytes.IndexByte(key, '\\') >= 0 && string(filter.AppendText(nil, key)) == name {
			found = json.RawMessage(m.Value)
		}
	}
	return found
}

func typenameOf(raw json.RawMessage) string {
	var name string
	if text, ok := jsonMember(raw, "__typename").(json.RawMessage); !ok || json.Unmarshal(text, &name) != nil {
		return ""
	}
	return name
}

// appendLeaf writes a scalar or an enum value.
func appendLeaf(dst []byte, def *ast.Definition, v any) ([]byte, bool) {
	raw, isJSON := v.(json.RawMessage)
	if isJSON && def.Kind == ast.Scalar && !def.BuiltIn {
		if (def.Name == "BigInt" || def.Name == "Decimal") && isNumber(raw) {
			return quoted(dst, raw), true
		}
		return encodeJSON(dst, raw, nil)
	}
	if isJSON {
		if raw[0] == '{' || raw[0] == '[' {
			return dst, false
		}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&v) != nil {
			return dst, false
		}
	}
	switch {
	case def.Kind == ast.Enum:
		s, ok := v.(string)
		if !ok || def.EnumValues.ForName(s) == nil {
			return dst, false
		}
		return quoted(dst, s), true
	case def.BuiltIn:
		return appendBuiltin(dst, def.Name, v)
	}
	return appendJSON(dst, v)
}

// appendBuiltin writes one of GraphQL's own scalars, as far as a value can be taken for one without guessing.
func appendBuiltin(dst []byte, name string, v any) ([]byte, bool) {
	switch name {
	case "Int":
		f, ok := asFloat(v)
		if !ok || f != math.Trunc(f) || f < math.MinInt32 || f > math.MaxInt32 {
			return dst, false
		}
		return strconv.AppendInt(dst, int64(f), 10), true
	case "Float":
		f, ok := asFloat(v)
		if n, isNumber := v.(json.Number); ok && isNumber {
			return append(dst, n...), true
		}
		return strconv.AppendFloat(dst, f, 'g', -1, 64), ok
	case "Boolean":
		if b, ok := v.(bool); ok {
			return strconv.AppendBool(dst, b), true
		}
		n, ok := v.(json.Number)
		f, _ := asFloat(n)
		return strconv.AppendBool(dst, f != 0), ok
	}
	switch v := v.(type) {
	case string:
		return appendString(dst, v), true
	case json.Number:
		if name == "ID" && strings.ContainsAny(v.String(), ".eE") {
			return dst, false
		}
		return quoted(dst, v.String()), true
	case bool:
		return quoted(dst, strconv.FormatBool(v)), name == "String"
	}
	return dst, false
}

// asFloat takes a number, or what graphql-js takes for one, as a finite float.
func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		return asFloat(v.String())
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

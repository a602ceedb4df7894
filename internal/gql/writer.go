package gql

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
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
}

func (w *writer) fail(code string, s *selection, format string, args ...any) {
	w.errs = append(w.errs, fieldError{code, fmt.Sprintf(format, args...), s, slices.Clone(w.path)})
}

// value writes v as type t.
func (w *writer) value(s *selection, t *ast.Type, v any) bool {
	start := len(w.buf)
	ok := v != nil
	if ok {
		ok = w.present(s, t, v)
	} else if t.NonNull {
		w.fail(codeNull, s, "Cannot return null for non-nullable field %s.", s.name)
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
		items, ok := v.([]any)
		if !ok {
			w.fail(codeValue, s, "Expected a list for field %s.", s.name)
			return false
		}
		w.buf = append(w.buf, '[')
		for i, item := range items {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.path = append(w.path, i)
			ok := w.value(s, t.Elem, item)
			w.path = w.path[:len(w.path)-1]
			if !ok {
				return false
			}
		}
		w.buf = append(w.buf, ']')
		return true
	}
	def := w.schema.Types[t.NamedType]
	if def.IsCompositeType() {
		return w.composite(s, def, v)
	}
	out, ok := appendLeaf(w.buf, def, v)
	if !ok {
		w.fail(codeValue, s, "%s cannot represent the value of field %s.", def.Name, s.name)
		return false
	}
	w.buf = out
	return true
}

func (w *writer) composite(s *selection, def *ast.Definition, v any) bool {
	name := def.Name
	get := func(f *selection) any { return v.(object).get(f.name, f.args) }
	switch v := v.(type) {
	case object:
		name = v.typename()
	case map[string]any:
		if def.IsAbstractType() {
			name, _ = v["__typename"].(string)
		}
		get = func(f *selection) any { return v[f.name] }
	default:
		w.fail(codeValue, s, "Expected an object for field %s.", s.name)
		return false
	}
	kids, ok := s.kids[name]
	if !ok {
		w.fail(codeValue, s, "The value of field %s must say in __typename which type of %s it is.", s.name, def.Name)
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

// appendLeaf writes a scalar or an enum value.
func appendLeaf(dst []byte, def *ast.Definition, v any) ([]byte, bool) {
	if def.Kind == ast.Enum {
		s, ok := v.(string)
		if !ok || def.EnumValues.ForName(s) == nil {
			return dst, false
		}
		return quoted(dst, s), true
	}
	switch def.Name {
	case "Int":
		f, ok := asFloat(v)
		if !ok || f != math.Trunc(f) || f < math.MinInt32 || f > math.MaxInt32 {
			return dst, false
		}
		return strconv.AppendInt(dst, int64(f), 10), true
	case "Float":
		f, ok := asFloat(v)
		if !ok || math.IsInf(f, 0) || math.IsNaN(f) {
			return dst, false
		}
		if n, ok := v.(json.Number); ok {
			return append(dst, n...), true
		}
		return strconv.AppendFloat(dst, f, 'g', -1, 64), true
	case "Boolean":
		b, ok := v.(bool)
		return strconv.AppendBool(dst, b), ok
	case "String", "ID", "BigInt", "Decimal":
		switch n := v.(type) {
		case json.Number:
			return quoted(dst, string(n)), true
		case bool:
			if def.Name != "String" {
				return dst, false
			}
			return quoted(dst, strconv.FormatBool(n)), true
		case string:
		default:
			return dst, false
		}
	}
	if raw, ok := v.(json.RawMessage); ok {
		return append(dst, raw...), true
	}
	return appendJSON(dst, v)
}

func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

package filter

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// JSONValue is a client's JSON as a jsonb column's value. v is as encoding/json decodes it, numbers as json.Number.
func JSONValue(v any) (Value, error) {
	d, err := newDocument(v)
	if err != nil {
		return Value{}, err
	}
	text, err := json.Marshal(v) // map keys come sorted
	return Value{doc: d, text: string(text)}, err
}

// JSONCompare compares a jsonb column, or what is at a path in it, with a value. Eq and Ne take any value and compare
// as jsonb does. The others take a number or a string and compare with values of that kind; others count as NULL.
func JSONCompare(c *Column, path []string, op Op, v Value) (*Predicate, error) {
	if op != Eq && op != Ne && v.doc.kind != 'd' && v.doc.kind != 's' {
		return nil, errors.New("only numbers and strings are ordered")
	}
	return inJSON(c, path, &jsonComparison{op, v}), nil
}

// JSONContains is jsonb's @>.
func JSONContains(c *Column, path []string, v Value) *Predicate {
	return inJSON(c, path, &jsonContainment{v})
}

// JSONHasKey is jsonb's ?: the object has the key, or the array the string.
func JSONHasKey(c *Column, path []string, key string) (*Predicate, error) {
	if strings.IndexByte(key, 0) >= 0 {
		return nil, errors.New("text in Postgres cannot hold a NUL character")
	}
	return inJSON(c, path, &jsonKey{[]byte(key)}), nil
}

// JSONIsNull is true where nothing is at the path, or null is.
func JSONIsNull(c *Column, path []string) *Predicate { return inJSON(c, path, jsonNull{}) }

func inJSON(c *Column, path []string, t jsonTest) *Predicate {
	at := &jsonAt{test: t}
	for _, s := range path {
		at.path = append(at.path, newStep(s))
	}
	return about(c, at)
}

// jsonAt asks about what is at a path.
type jsonAt struct {
	path []step
	test jsonTest
}

// jsonTest is a question about a jsonb value; raw is nil where there is none, or null.
type jsonTest interface {
	eval(raw []byte) Truth
	sql(w *writer, operand string)
	key() string
}

func (t *jsonAt) eval(_ *Column, raw []byte) Truth {
	for i := range t.path {
		if raw = t.path[i].follow(raw); raw == nil {
			break
		}
	}
	if string(raw) == "null" {
		raw = nil
	}
	return t.test.eval(raw)
}

// step is one step of a path as jsonb's #> takes it: a key of an object, a place in an array, counted from its end if
// negative.
type step struct {
	key   []byte
	place int
	array bool // it can be a place
}

func newStep(s string) step {
	// Postgres reads the place with strtol.
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 32)
	return step{[]byte(s), int(n), err == nil}
}

// follow returns what is there; nil: nothing.
func (s *step) follow(raw []byte) []byte {
	switch kindOf(raw) {
	case 'o':
		v, _ := member(raw, s.key)
		return v
	case 'a':
		if !s.array {
			return nil
		}
		i := s.place
		if i < 0 {
			for e := NewElements(raw); e.Next(); {
				i++
			}
		}
		for e := NewElements(raw); i >= 0 && e.Next(); i-- {
			if i == 0 {
				return e.Value
			}
		}
	}
	return nil
}

func (t *jsonAt) sql(w *writer, c *Column) {
	operand := c.operand()
	if len(t.path) > 0 {
		// Built apart, as the operand is written more than once by some tests.
		at := &writer{args: w.args}
		at.write("nullif(", c.quoted(), " #> array[")
		for i := range t.path {
			if i > 0 {
				at.write(", ")
			}
			at.parameter(string(t.path[i].key))
		}
		at.write("], 'null')")
		operand, w.args = at.buf.String(), at.args
	}
	t.test.sql(w, operand)
}

func (t *jsonAt) key(*Column) string {
	var b strings.Builder
	for i := range t.path {
		b.WriteString("." + strconv.Quote(string(t.path[i].key)))
	}
	b.WriteByte(' ')
	b.WriteString(t.test.key())
	return b.String()
}

type jsonComparison struct {
	op    Op
	value Value
}

func (t *jsonComparison) eval(raw []byte) Truth {
	d := t.value.doc
	switch {
	case raw == nil:
		return Unknown
	case t.op == Eq:
		return truth(d.equals(raw))
	case t.op == Ne:
		return truth(!d.equals(raw))
	case kindOf(raw) != d.kind:
		return Unknown
	case d.kind == 'd':
		got, ok := parseDecimal(raw)
		if !ok {
			return Invalid
		}
		return t.op.holds(got.compare(d.dec))
	case !isString(raw):
		return Invalid
	}
	return t.op.holds(compareText(raw[1:len(raw)-1], d.text, false))
}

func (t *jsonComparison) sql(w *writer, operand string) {
	switch {
	case t.op == Eq || t.op == Ne:
		w.write(operand, " ", opNames[t.op], " ")
		w.parameter(t.value.text)
		w.write("::jsonb")
	case t.value.doc.kind == 'd':
		w.write("case when jsonb_typeof(", operand, ") = 'number' then (", operand, ")::numeric ", opNames[t.op], " ")
		w.parameter(t.value.text)
		w.write("::numeric end")
	default:
		w.write("case when jsonb_typeof(", operand, ") = 'string' then (", operand, " #>> '{}') collate \"C\" ", opNames[t.op], " ")
		w.parameter(string(t.value.doc.text))
		w.write(" end")
	}
}

func (t *jsonComparison) key() string { return opNames[t.op] + t.value.text }

type jsonContainment struct{ value Value }

func (t *jsonContainment) eval(raw []byte) Truth {
	if raw == nil {
		return Unknown
	}
	return truth(t.value.doc.contained(raw, true))
}

func (t *jsonContainment) sql(w *writer, operand string) {
	w.write(operand, " @> ")
	w.parameter(t.value.text)
	w.write("::jsonb")
}

func (t *jsonContainment) key() string { return "@>" + t.value.text }

type jsonKey struct{ name []byte }

func (t *jsonKey) eval(raw []byte) Truth {
	if raw == nil {
		return Unknown
	}
	switch kindOf(raw) {
	case 'o':
		_, ok := member(raw, t.name)
		return truth(ok)
	case 'a':
		for e := NewElements(raw); e.Next(); {
			if t.is(e.Value) {
				return True
			}
		}
	case 's':
		return truth(t.is(raw))
	}
	return False
}

func (t *jsonKey) is(raw []byte) bool {
	return isString(raw) && compareText(raw[1:len(raw)-1], t.name, false) == 0
}

func (t *jsonKey) sql(w *writer, operand string) {
	w.write(operand, " ? ")
	w.parameter(string(t.name))
}

func (t *jsonKey) key() string { return "?" + strconv.Quote(string(t.name)) }

type jsonNull struct{}

func (jsonNull) eval(raw []byte) Truth         { return truth(raw == nil) }
func (jsonNull) sql(w *writer, operand string) { w.write("(", operand, " is null)") }
func (jsonNull) key() string                   { return "null" }

func isString(raw []byte) bool { return len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' }

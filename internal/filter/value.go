package filter

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
)

// Class is how values of a type compare.
type Class byte

// The classes. Opaque types are compared by the text of their output function, and only for equality.
const (
	Opaque Class = iota
	Bool
	Int
	Float4
	Float8
	Numeric
	Text
	Char // character(n): trailing blanks do not count
	UUID
	Date
	Timestamp
	TimestampTZ
	Time
	Bytea
	Enum
	JSON // only IsNull
)

// ClassOf tells the class of a type; that of a domain is that of the type below.
func ClassOf(t *catalog.Type) Class {
	for t.Kind == catalog.Domain && t.Elem != nil {
		t = t.Elem
	}
	if t.Kind == catalog.Enum {
		return Enum
	}
	if t.Kind != catalog.Base || t.Schema != "pg_catalog" && t.Schema != "" {
		return Opaque
	}
	switch t.Name {
	case "bool":
		return Bool
	case "int2", "int4", "int8", "oid":
		return Int
	case "float4":
		return Float4
	case "float8":
		return Float8
	case "numeric":
		return Numeric
	case "text", "varchar", "name":
		return Text
	case "bpchar":
		return Char
	case "uuid":
		return UUID
	case "date":
		return Date
	case "timestamp":
		return Timestamp
	case "timestamptz":
		return TimestampTZ
	case "time":
		return Time
	case "bytea":
		return Bytea
	case "json", "jsonb":
		return JSON
	}
	return Opaque
}

// Ordered reports whether values of the class are ordered, so that gt, gte, lt and lte mean something.
func (c Class) Ordered() bool { return c != Opaque && c != JSON }

// Column is a column as a predicate sees it.
type Column struct {
	Name  string
	Hint  int // its place in an image where no column is missing
	Type  *catalog.Type
	Class Class

	key    string         // its name in an image
	labels map[string]int // of an enum: place in its order
}

// NewColumn describes a column.
func NewColumn(name string, hint int, t *catalog.Type) *Column {
	c := &Column{Name: name, Hint: hint, Type: t, Class: ClassOf(t), key: ImageName(name)}
	for t.Kind == catalog.Domain && t.Elem != nil {
		t = t.Elem
	}
	if c.Class == Enum {
		c.labels = make(map[string]int, len(t.Labels))
		for i, l := range t.Labels {
			c.labels[l] = i
		}
	}
	return c
}

// Raw is the column's raw JSON value in a row; false if the row lacks it.
func (c *Column) Raw(row *change.Row) ([]byte, bool) { return row.Get(c.key, c.Hint) }

// Value is a value of a column's type: one that a client gave, or one read from an image.
type Value struct {
	n    int64   // bool, int, dates and times, an enum's place
	f    float64 // floats
	dec  decimal
	b    []byte // the decoded text of a client's value; the raw JSON string of an image's
	raw  bool   // b is a raw JSON string
	text string // what SQL gets as a parameter; empty for an image's
}

// ParseValue reads a client's value of the column's type, written as Postgres reads it.
func (c *Column) ParseValue(text string) (Value, error) {
	v := Value{text: text}
	ok := false
	switch c.Class {
	case Bool:
		v.n, ok = boolean([]byte(text))
	case Int:
		v.n, ok = integer([]byte(text))
	case Float4, Float8:
		v.f, ok = float([]byte(text), c.Class)
		if ok && math.IsInf(v.f, 0) && !strings.Contains(strings.ToLower(text), "inf") {
			return v, fmt.Errorf("%s is out of range for %s", text, c.Type.Name)
		}
	case Numeric:
		v.dec, ok = parseDecimal([]byte(text))
		if ok && !v.dec.fits() {
			return v, fmt.Errorf("%.40s is out of range for numeric", text)
		}
	case Text, Char, Opaque:
		if strings.IndexByte(text, 0) >= 0 {
			return v, fmt.Errorf("text in Postgres cannot hold a NUL character")
		}
		v.b, ok = []byte(text), true
		if c.Class == Char {
			v.b = bytes.TrimRight(v.b, " ")
		}
	case UUID:
		if v.b, ok = uuid(text); ok {
			v.text = string(v.b)
		}
	case Date, Timestamp, TimestampTZ, Time:
		v.n, ok = instant([]byte(text), c.Class)
	case Bytea:
		v.b, ok = []byte(text), hexadecimal(text)
	case Enum:
		var i int
		i, ok = c.labels[text]
		v.n = int64(i)
	}
	if !ok {
		return v, fmt.Errorf("%.80q is no %s", text, c.Type.Name)
	}
	return v, nil
}

// read takes a value from its raw JSON text, which is not null. It does not keep or copy it.
func (c *Column) read(raw []byte) (v Value, ok bool) {
	switch c.Class {
	case Bool:
		v.n, ok = boolean(raw)
	case Int:
		v.n, ok = integer(raw)
	case Float4, Float8:
		v.f, ok = float(unquote(raw), c.Class)
	case Numeric:
		v.dec, ok = parseDecimal(unquote(raw))
	case Text, Char, Opaque:
		if len(raw) < 2 || raw[0] != '"' {
			// An opaque type's cast to json may give anything; its text is then not known.
			return v, false
		}
		v.b, v.raw, ok = raw[1:len(raw)-1], true, true
	case UUID:
		v.b = unquote(raw)
		ok = len(v.b) == 36
	case Date, Timestamp, TimestampTZ, Time:
		v.n, ok = instant(unquote(raw), c.Class)
	case Bytea:
		v.b = unquote(raw)
		ok = bytes.HasPrefix(v.b, []byte(`\\x`))
		v.b = v.b[min(3, len(v.b)):]
	case Enum:
		var i int
		i, ok = c.labels[string(unquote(raw))]
		if !ok && bytes.IndexByte(raw, '\\') >= 0 {
			i, ok = c.labels[string(AppendText(nil, unquote(raw)))]
		}
		v.n = int64(i)
	}
	return v, ok
}

// compare orders an image's value and a client's.
func (c *Column) compare(a, b *Value) int {
	switch c.Class {
	case Float4, Float8:
		return compareFloats(a.f, b.f)
	case Numeric:
		return a.dec.compare(b.dec)
	case Text, Opaque:
		return compareText(a.b, b.b, false)
	case Char:
		return compareText(a.b, b.b, true)
	case UUID:
		return bytes.Compare(a.b, b.b)
	case Bytea:
		return bytes.Compare(a.b, b.b[min(2, len(b.b)):])
	}
	return cmp.Compare(a.n, b.n)
}

// order orders two of a client's values.
func (c *Column) order(a, b Value) int {
	switch c.Class {
	case Text, Opaque, Char, UUID, Bytea:
		return bytes.Compare(a.b, b.b)
	}
	return c.compare(&a, &b)
}

// compareFloats orders floats as Postgres does: NaN equals NaN and is greater than all else.
func compareFloats(a, b float64) int {
	switch {
	case math.IsNaN(a) && math.IsNaN(b):
		return 0
	case math.IsNaN(a):
		return 1
	case math.IsNaN(b):
		return -1
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func boolean(b []byte) (int64, bool) {
	switch string(b) {
	case "true":
		return 1, true
	case "false":
		return 0, true
	}
	return 0, false
}

func integer(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(view(b), 10, 64)
	return n, err == nil
}

func float(b []byte, class Class) (float64, bool) {
	bits := 64
	if class == Float4 {
		bits = 32
	}
	if len(b) > 0 && (b[0] == '+' || bytes.ContainsAny(b, "_xXpP")) {
		return 0, false
	}
	f, err := strconv.ParseFloat(view(b), bits)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// unquote strips a JSON string's quotes. For types whose text holds nothing to escape that is all there is to do.
func unquote(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}

// uuid gives the canonical text of a UUID written with or without hyphens, in either case.
func uuid(s string) ([]byte, bool) {
	const shape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	hex := strings.ToLower(s)
	if len(s) == len(shape) && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		hex = strings.ReplaceAll(hex, "-", "")
	}
	if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
		return nil, false
	}
	return []byte(hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]), true
}

// hexadecimal reports whether s is a bytea in hex form, \x and lower-case digits, as an image has it.
func hexadecimal(s string) bool {
	return len(s)%2 == 0 && strings.HasPrefix(s, `\x`) && strings.Trim(s[2:], "0123456789abcdef") == ""
}

// keyed is a predicate's key: operator, column, values, each so that no two differ and look the same.
func (c *Column) keyed(op string, vs ...Value) string {
	var b strings.Builder
	b.WriteString(op)
	b.WriteByte(' ')
	b.WriteString(strconv.Quote(c.Name))
	for i := range vs {
		b.WriteByte(' ')
		switch c.Class {
		case Text, Opaque, Char, UUID, Bytea:
			b.WriteString(strconv.Quote(string(vs[i].b)))
		case Float4, Float8:
			f := vs[i].f
			if f == 0 {
				f = 0 // one zero
			}
			b.WriteString(strconv.FormatFloat(f, 'g', -1, 64))
		case Numeric:
			b.WriteString(vs[i].dec.key())
		default:
			b.WriteString(strconv.FormatInt(vs[i].n, 10))
		}
	}
	return b.String()
}

// Valid reports whether text is a value of the class, as a client writes it.
func Valid(class Class, text string) bool {
	c := Column{Class: class, Type: &catalog.Type{}}
	_, err := c.ParseValue(text)
	return err == nil
}

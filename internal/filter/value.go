package filter

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

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
	Interval
	JSONB
	JSON  // only IsNull
	Array // of Elem
	Range // of Elem
	MultiRange
)

// ClassOf tells the class of a type; that of a domain is that of the type below.
func ClassOf(t *catalog.Type) Class {
	for t.Kind == catalog.Domain && t.Elem != nil {
		t = t.Elem
	}
	switch t.Kind {
	case catalog.Enum:
		return Enum
	case catalog.Array:
		return Array
	case catalog.Range:
		return Range
	case catalog.MultiRange:
		return MultiRange
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
	case "interval":
		return Interval
	case "jsonb":
		return JSONB
	case "json":
		return JSON
	}
	return Opaque
}

// Ordered reports whether values of the class are ordered, so that gt, gte, lt and lte mean something.
func (c Class) Ordered() bool { return c > Opaque && c < JSONB }

// Column is a column as a predicate sees it.
type Column struct {
	Name  string
	Hint  int // its place in an image where no column is missing
	Type  *catalog.Type
	Class Class

	Elem *Column // of an array or a range, as if it were a column

	below   *catalog.Type  // Type without domains
	key     string         // its name in an image
	labels  map[string]int // of an enum: place in its order
	scratch sync.Pool      // of *[]byte, for text that must be decoded
}

// NewColumn describes a column.
func NewColumn(name string, hint int, t *catalog.Type) *Column {
	c := &Column{Name: name, Hint: hint, Type: t, Class: ClassOf(t), below: t, key: ImageName(name)}
	c.scratch.New = func() any { return new([]byte) }
	for c.below.Kind == catalog.Domain && c.below.Elem != nil {
		c.below = c.below.Elem
	}
	switch c.Class {
	case Enum:
		c.labels = make(map[string]int, len(c.below.Labels))
		for i, l := range c.below.Labels {
			c.labels[l] = i
		}
	case Array, Range, MultiRange:
		if c.below.Elem == nil {
			c.Class = Opaque
			break
		}
		elem := c.below.Elem
		if c.Class == MultiRange && elem.Elem != nil {
			elem = elem.Elem
		}
		c.Elem = NewColumn(name, hint, elem)
	}
	return c
}

// Raw is the column's raw JSON value in a row; false if the row lacks it.
func (c *Column) Raw(row *change.Row) ([]byte, bool) { return row.Get(c.key, c.Hint) }

// Value is a value of a column's type: one that a client gave, or one read from an image.
type Value struct {
	n    int64   // bool, int, dates and times, an enum's place, an interval's days
	us   int64   // an interval's microseconds, less than a day
	f    float64 // floats
	dec  decimal
	doc  *document // jsonb
	b    []byte    // a client's text, or an image's as it stands between the quotes
	text string    // what SQL gets as a parameter; empty for an image's
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
		if ok && (math.IsInf(v.f, 0) && !strings.Contains(strings.ToLower(text), "inf") || v.f == 0 && strings.ContainsAny(mantissa(text), "123456789")) {
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
			v.text = string(v.b)
		}
	case UUID:
		if v.b, ok = uuid(text); ok {
			v.text = string(v.b)
		}
	case Date, Timestamp, TimestampTZ, Time:
		if v.n, ok = instant([]byte(text), c.Class); ok {
			v.text = string(appendPostgres(nil, v.n, c.Class))
		}
	case Interval:
		var span interval
		// A client writes ISO 8601; Postgres has other styles beside it.
		if span, ok = parseInterval([]byte(text)); ok && text[0] >= '0' && text[0] <= '9' {
			ok = false
		} else if ok {
			v.n, v.us = span.order()
			v.text = string(span.append(nil))
		}
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
		v.n, ok = integer(unquote(raw)) // oid stands between quotes
	case Float4, Float8:
		v.f, ok = float(unquote(raw), c.Class)
	case Numeric:
		v.dec, ok = parseDecimal(unquote(raw))
	case Text, Char, Opaque:
		if len(raw) < 2 || raw[0] != '"' {
			// An opaque type's cast to json may give anything; its text is then not known.
			return v, false
		}
		v.b, ok = raw[1:len(raw)-1], true
	case UUID:
		v.b = unquote(raw)
		ok = len(v.b) == 36
	case Date, Timestamp, TimestampTZ, Time:
		v.n, ok = instant(unquote(raw), c.Class)
	case Interval:
		var span interval
		span, ok = parseInterval(unquote(raw))
		v.n, v.us = span.order()
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

// readText takes a value from its plain text, as a range has its bounds.
func (c *Column) readText(text []byte) (v Value, ok bool) {
	switch c.Class {
	case Text, Char, Opaque:
		return v, false
	case Enum:
		i, ok := c.labels[string(text)]
		return Value{n: int64(i)}, ok
	}
	return c.read(text)
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
	case Interval:
		return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.us, b.us))
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

func mantissa(text string) string {
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		return text[:i]
	}
	return text
}

// Valid reports whether text is a value of the class, as a client writes it.
func Valid(class Class, text string) bool {
	c := Column{Class: class, Type: &catalog.Type{}}
	_, err := c.ParseValue(text)
	return err == nil
}

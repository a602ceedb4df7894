package gql

import (
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/filter"
)

// typeOf sets the GraphQL side of a column's type: its output type, how it is encoded, and the input type of its filters.
func (b *builder) typeOf(c *column, t *catalog.Type, full string) {
	for t.Kind == catalog.Domain && t.Elem != nil {
		t = t.Elem
	}
	class := filter.ClassOf(t)
	switch {
	case class == filter.Array && t.Elem != nil:
		b.arrayOf(c, t, full)
	case class == filter.Range && t.Elem != nil:
		b.rangeOf(c, t.Elem, full)
		c.encode = encodeRange(c.object, c.encode, quotedBounds(t.Elem))
	case class == filter.MultiRange && t.Elem != nil && t.Elem.Elem != nil:
		b.rangeOf(c, t.Elem.Elem, full)
		c.encode = encodeMultiRange(c.object, c.encode, quotedBounds(t.Elem.Elem))
		c.typ = "[" + c.typ + "!]"
	case t.Kind == catalog.Composite:
		c.typ, c.encode, c.where = "JSON", encodeJSON, "NullWhere"
	case class == filter.Enum:
		c.enum = b.enumOf(t, full)
		c.typ, c.encode, c.where = c.enum.name, encodeEnum(c.enum.names), c.enum.name+"Where"
	default:
		c.typ, c.encode = scalarOf(t)
		c.where = c.typ + "Where"
		switch class {
		case filter.Opaque:
			c.where = "OpaqueWhere"
		case filter.JSON:
			c.where = "NullWhere"
		}
	}
	b.use(c.where)
}

// use notes that a column has need of a type, unless the column is hidden.
func (b *builder) use(name string) {
	if !b.hiding {
		b.used[name] = true
	}
}

// asNumber shows whole and decimal numbers as JSON numbers, which JavaScript may round.
func (c *column) asNumber() {
	if c.typ == "BigInt" || c.typ == "Decimal" {
		c.typ, c.encode, c.where = "Float", encodeNumber, "FloatWhere"
	}
}

func (b *builder) arrayOf(c *column, t *catalog.Type, full string) {
	var elem column
	b.typeOf(&elem, t.Elem, full)
	c.typ, c.encode, c.enum, c.object = "["+elem.typ+"]", encodeList(elem.encode), elem.enum, elem.object
	c.where = "ListWhere"
	if filter.ClassOf(t.Elem).Ordered() {
		c.where = elem.typ + "ListWhere"
	}
}

// rangeOf gives a range's type from that of its bounds. c.encode is then the bounds'.
func (b *builder) rangeOf(c *column, bounds *catalog.Type, full string) {
	var elem column
	b.typeOf(&elem, bounds, full)
	c.typ, c.object, c.encode, c.enum = elem.typ+"Range", elem.typ+"Range", elem.encode, elem.enum
	c.where = "RangeWhere"
	if boundsCompared(filter.ClassOf(bounds)) {
		c.where = elem.typ + "RangeWhere"
	}
	b.use(c.object)
}

// boundsCompared reports whether a value can be looked for in a range: text has an order of its own there.
func boundsCompared(c filter.Class) bool {
	return c.Ordered() && c != filter.Text && c != filter.Char && c != filter.Bytea
}

// quotedBounds reports whether values of a type are JSON strings in an image, so that a range's bounds, which are plain
// text, need quotes to look the same.
func quotedBounds(t *catalog.Type) bool {
	switch filter.ClassOf(t) {
	case filter.Int, filter.Bool, filter.Float4, filter.Float8, filter.Numeric:
		return false
	}
	return true
}

// scalarOf gives the scalar of a type that is no array, enum or composite, and how it is encoded.
func scalarOf(t *catalog.Type) (string, encoder) {
	switch class := filter.ClassOf(t); class {
	case filter.Bool:
		return "Boolean", encodeBoolean
	case filter.Int:
		if t.Name == "int2" || t.Name == "int4" {
			return "Int", encodeInt
		}
		return "BigInt", encodeBigInt
	case filter.Float4, filter.Float8:
		return "Float", encodeFloat
	case filter.Numeric:
		return "Decimal", encodeDecimal
	case filter.UUID:
		return "UUID", encodeText
	case filter.Date:
		return "Date", encodeISO(class)
	case filter.Timestamp:
		return "LocalDateTime", encodeISO(class)
	case filter.TimestampTZ:
		return "DateTime", encodeISO(class)
	case filter.Time:
		return "Time", encodeText
	case filter.Interval:
		return "Duration", encodeDuration
	case filter.Bytea:
		return "Bytes", encodeBytes
	case filter.JSON, filter.JSONB:
		return "JSON", encodeJSON
	case filter.Text, filter.Char:
		return "String", encodeText
	}
	return "String", encodeOpaque
}

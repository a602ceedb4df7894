package filter

import (
	"slices"
	"strconv"
	"strings"
)

// Op compares a column with a value.
type Op byte

// The operators.
const (
	Eq Op = iota
	Ne
	Gt
	Gte
	Lt
	Lte
)

var opNames = [...]string{"=", "<>", ">", ">=", "<", "<="}

// holds tells what the operator makes of an order.
func (op Op) holds(order int) Truth {
	switch op {
	case Eq:
		return truth(order == 0)
	case Ne:
		return truth(order != 0)
	case Gt:
		return truth(order > 0)
	case Gte:
		return truth(order >= 0)
	case Lt:
		return truth(order < 0)
	}
	return truth(order <= 0)
}

// Compare compares the column with a value of its type.
func Compare(c *Column, op Op, v Value) *Predicate { return about(c, &comparison{op, v}) }

type comparison struct {
	op    Op
	value Value
}

func (t *comparison) eval(c *Column, raw []byte) Truth {
	got, ok := c.read(raw)
	if !ok {
		return Invalid
	}
	return t.op.holds(c.compare(&got, &t.value))
}

func (t *comparison) sql(w *writer, c *Column) {
	if t.op == Eq {
		w.equal(c, " = ", "", t.value)
		return
	}
	w.write(c.operand(), " ", opNames[t.op], " ")
	w.values(c, t.value)
}

func (t *comparison) key(c *Column) string { return opNames[t.op] + c.keyOf(t.value) }

// In is true where the column equals one of vs, which may be empty: then it is false even for NULL.
func In(c *Column, vs []Value) *Predicate {
	if len(vs) == 0 {
		return Or()
	}
	vs = c.set(vs)
	return about(c, &membership{vs})
}

// set is vs in ascending order, each once.
func (c *Column) set(vs []Value) []Value {
	vs = slices.Clone(vs)
	slices.SortFunc(vs, c.order)
	return slices.CompactFunc(vs, func(a, b Value) bool { return c.order(a, b) == 0 })
}

type membership struct {
	values []Value // ascending
}

func (t *membership) eval(c *Column, raw []byte) Truth {
	got, ok := c.read(raw)
	if !ok {
		return Invalid
	}
	_, found := c.find(&got, t.values)
	return truth(found)
}

// find looks got up among vs, which ascend.
func (c *Column) find(got *Value, vs []Value) (int, bool) {
	lo, hi := 0, len(vs)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch d := c.compare(got, &vs[mid]); {
		case d == 0:
			return mid, true
		case d > 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

func (t *membership) sql(w *writer, c *Column) { w.equal(c, " in (", ")", t.values...) }

func (t *membership) key(c *Column) string { return "in" + c.keyOf(t.values...) }

// keyOf writes values so that no two differ and look the same.
func (c *Column) keyOf(vs ...Value) string {
	var b strings.Builder
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
		case JSONB:
			b.WriteString(vs[i].text)
		default:
			b.WriteString(strconv.FormatInt(vs[i].n, 10))
			if c.Class == Interval {
				b.WriteString("," + strconv.FormatInt(vs[i].us, 10))
			}
		}
	}
	return b.String()
}

package filter

// Has is true where the array has the element: $1 = any(column).
func Has(c *Column, v Value) *Predicate { return about(c, &has{v}) }

type has struct{ value Value }

func (t *has) eval(c *Column, raw []byte) Truth {
	if raw[0] != '[' {
		return Invalid
	}
	answer := False
	for e := NewElements(raw); e.Next(); {
		one := Unknown
		switch {
		case e.Value[0] == '[':
			one = t.eval(c, e.Value)
		case string(e.Value) != "null":
			got, ok := c.Elem.read(e.Value)
			if !ok {
				return Invalid
			}
			one = truth(c.Elem.compare(&got, &t.value) == 0)
		}
		switch one {
		case True, Invalid:
			return one
		case Unknown:
			answer = Unknown
		}
	}
	return answer
}

func (t *has) sql(w *writer, c *Column) {
	w.values(c.Elem, t.value)
	w.write(" = any(", c.elements(), ")")
}

func (t *has) key(c *Column) string { return "has" + c.Elem.keyOf(t.value) }

// HasAny is true where the array and vs have an element in common: &&.
func HasAny(c *Column, vs []Value) *Predicate { return about(c, &overlap{values: c.Elem.set(vs)}) }

// HasAll is true where the array has all of vs: @>.
func HasAll(c *Column, vs []Value) *Predicate {
	return about(c, &overlap{values: c.Elem.set(vs), all: true})
}

type overlap struct {
	values []Value // ascending
	all    bool
}

func (t *overlap) eval(c *Column, raw []byte) Truth {
	if raw[0] != '[' {
		return Invalid
	}
	if !t.all {
		return t.any(c, raw)
	}
	for i := range t.values {
		one := has{t.values[i]}
		switch one.eval(c, raw) {
		case Invalid:
			return Invalid
		case True:
		default:
			return False
		}
	}
	return True
}

func (t *overlap) any(c *Column, raw []byte) Truth {
	for e := NewElements(raw); e.Next(); {
		if e.Value[0] == '[' {
			if one := t.any(c, e.Value); one != False {
				return one
			}
			continue
		}
		if string(e.Value) == "null" {
			continue
		}
		got, ok := c.Elem.read(e.Value)
		if !ok {
			return Invalid
		}
		if _, found := c.Elem.find(&got, t.values); found {
			return True
		}
	}
	return False
}

func (t *overlap) sql(w *writer, c *Column) {
	w.write(c.elements(), t.operator(), "array[")
	w.values(c.Elem, t.values...)
	w.write("]::", c.Elem.arrayOf(), "[]")
}

func (t *overlap) operator() string {
	if t.all {
		return " @> "
	}
	return " && "
}

func (t *overlap) key(c *Column) string { return t.operator() + c.Elem.keyOf(t.values...) }

// IsEmpty is true where the array has no element, or the range no value.
func IsEmpty(c *Column) *Predicate { return about(c, empty{}) }

type empty struct{}

func (empty) eval(c *Column, raw []byte) Truth {
	switch {
	case c.Class != Array:
		return rangeEmpty(c, raw)
	case raw[0] != '[':
		return Invalid
	}
	e := NewElements(raw)
	return truth(!e.Next())
}

func (empty) sql(w *writer, c *Column) {
	if c.Class == Array {
		w.write("cardinality(", c.quoted(), ") = 0")
	} else {
		w.write("isempty(", c.quoted(), ")")
	}
}

func (empty) key(*Column) string { return "empty" }

// arrayOf is the type of the elements as they are compared.
func (c *Column) arrayOf() string {
	switch c.Class {
	case Text:
		return "text"
	case Int:
		return "int8"
	}
	return typeName(c.below)
}

// elements is an array column as its elements are compared.
func (c *Column) elements() string {
	s := c.quoted() + "::" + c.Elem.arrayOf() + "[]"
	if c.Elem.Class == Text || c.Elem.Class == Char {
		s += ` collate "C"`
	}
	return s
}

package filter

import "bytes"

// Bounds is a range's text taken apart.
type Bounds struct {
	Empty        bool
	Lower, Upper []byte // as they stand between the quotes of the image; nil: unbounded
	LowerIn      bool
	UpperIn      bool
}

// ParseRange takes apart the text of a range, a JSON string as an image has it: [1,10), ("a","b"], empty. Bounds are
// decoded into scratch where they are quoted.
func ParseRange(text []byte, scratch *[]byte) (b Bounds, ok bool) {
	if bytes.IndexByte(text, '\\') >= 0 {
		start := len(*scratch)
		*scratch = AppendText(*scratch, text)
		text = (*scratch)[start:]
	}
	if string(text) == "empty" {
		return Bounds{Empty: true}, true
	}
	if len(text) < 3 || text[0] != '[' && text[0] != '(' {
		return b, false
	}
	end := text[len(text)-1]
	if end != ']' && end != ')' {
		return b, false
	}
	b.LowerIn, b.UpperIn = text[0] == '[', end == ']'
	lower, rest, ok := bound(text[1:len(text)-1], scratch)
	if !ok || len(rest) == 0 || rest[0] != ',' {
		return b, false
	}
	upper, rest, ok := bound(rest[1:], scratch)
	b.Lower, b.Upper = lower, upper
	return b, ok && len(rest) == 0
}

// bound reads a bound up to the comma or the end. Nil: there is none.
func bound(text []byte, scratch *[]byte) (b, rest []byte, ok bool) {
	if len(text) == 0 || text[0] == ',' {
		return nil, text, true
	}
	if text[0] != '"' {
		i := bytes.IndexByte(text, ',')
		if i < 0 {
			i = len(text)
		}
		if bytes.IndexByte(text[:i], '\\') < 0 && bytes.IndexByte(text[:i], '"') < 0 {
			return text[:i], text[i:], true
		}
		return nil, nil, false
	}
	start := len(*scratch)
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			*scratch = append(*scratch, text[i])
		case c == '"' && i+1 < len(text) && text[i+1] == '"':
			i++
			*scratch = append(*scratch, '"')
		case c == '"':
			return (*scratch)[start:len(*scratch):len(*scratch)], text[i+1:], true
		default:
			*scratch = append(*scratch, c)
		}
	}
	return nil, nil, false
}

// SplitRanges gives the ranges of a multirange's text, {[1,2),[4,5)}, decoded, one after another.
func SplitRanges(text []byte) (ranges [][]byte, ok bool) {
	text = AppendText(nil, text)
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, false
	}
	text = text[1 : len(text)-1]
	for start, i, quoted := 0, 0, false; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case (c == ']' || c == ')') && !quoted:
			ranges = append(ranges, text[start:i+1])
			if i++; i < len(text) && text[i] != ',' {
				return nil, false
			}
			start = i + 1
		}
	}
	return ranges, true
}

// Contains is true where the range has the value: @>.
func Contains(c *Column, v Value) *Predicate { return about(c, &rangeHas{v}) }

type rangeHas struct{ value Value }

func (t *rangeHas) eval(c *Column, raw []byte) Truth {
	if !isString(raw) {
		return Invalid
	}
	scratch := c.scratch.Get().(*[]byte)
	defer c.scratch.Put(scratch)
	if c.Class == Range {
		*scratch = (*scratch)[:0]
		return t.within(c, raw[1:len(raw)-1], scratch)
	}
	ranges, ok := SplitRanges(raw[1 : len(raw)-1])
	if !ok {
		return Invalid
	}
	for _, r := range ranges {
		*scratch = (*scratch)[:0]
		if one := t.within(c, r, scratch); one != False {
			return one
		}
	}
	return False
}

func (t *rangeHas) within(c *Column, text []byte, scratch *[]byte) Truth {
	b, ok := ParseRange(text, scratch)
	switch {
	case !ok:
		return Invalid
	case b.Empty:
		return False
	}
	if b.Lower != nil {
		got, ok := c.Elem.readText(b.Lower)
		if !ok {
			return Invalid
		}
		if order := c.Elem.compare(&got, &t.value); order > 0 || order == 0 && !b.LowerIn {
			return False
		}
	}
	if b.Upper != nil {
		got, ok := c.Elem.readText(b.Upper)
		if !ok {
			return Invalid
		}
		if order := c.Elem.compare(&got, &t.value); order < 0 || order == 0 && !b.UpperIn {
			return False
		}
	}
	return True
}

func (t *rangeHas) sql(w *writer, c *Column) {
	w.write(c.quoted(), " @> ")
	w.parameter(t.value.text)
	w.write("::", typeName(c.Elem.below))
}

func (t *rangeHas) key(c *Column) string { return "@>" + c.Elem.keyOf(t.value) }

func rangeEmpty(c *Column, raw []byte) Truth {
	if !isString(raw) {
		return Invalid
	}
	if c.Class == MultiRange {
		return truth(string(raw) == `"{}"`)
	}
	return truth(string(raw) == `"empty"`)
}

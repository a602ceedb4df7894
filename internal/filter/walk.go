package filter

// Elements goes through the raw text of a JSON array's elements without decoding them: Next moves on to the next Value.
// The text comes from the database, but a log can be damaged: whatever the bytes, it ends, at the latest where the text
// breaks off.
type Elements struct {
	Value []byte
	walker
}

// NewElements begins before the first element of raw, an array.
func NewElements(raw []byte) Elements { return Elements{walker: walker{raw: raw, at: 1, first: true}} }

// Next reports whether there is a next element.
func (e *Elements) Next() bool {
	if !e.more(']') {
		return false
	}
	e.Value = e.value()
	return e.Value != nil
}

// Members goes through a JSON object's members in the same way.
type Members struct {
	Key   []byte // quotes included
	Value []byte
	walker
}

// NewMembers begins before the first member of raw, an object.
func NewMembers(raw []byte) Members { return Members{walker: walker{raw: raw, at: 1, first: true}} }

// Next reports whether there is a next member.
func (m *Members) Next() bool {
	if !m.more('}') {
		return false
	}
	m.Key = m.value()
	if !isString(m.Key) || !m.pass(':') {
		return false
	}
	m.Value = m.value()
	return m.Value != nil
}

// Closed reports whether raw is one array or object to its end.
func Closed(raw []byte) bool {
	w := walker{raw: raw}
	v := w.value()
	return len(v) == len(raw) && len(v) > 1
}

type walker struct {
	raw   []byte
	at    int
	first bool
}

func (w *walker) space() {
	for w.at < len(w.raw) && (w.raw[w.at] == ' ' || w.raw[w.at] == '\n' || w.raw[w.at] == '\t' || w.raw[w.at] == '\r') {
		w.at++
	}
}

// pass passes c, and reports whether it was there.
func (w *walker) pass(c byte) bool {
	w.space()
	if w.at >= len(w.raw) || w.raw[w.at] != c {
		return false
	}
	w.at++
	w.space()
	return true
}

// more reports whether an element follows, and passes the comma before it.
func (w *walker) more(end byte) bool {
	w.space()
	if w.at >= len(w.raw) || w.raw[w.at] == end {
		return false
	}
	first := w.first
	w.first = false
	return first || w.pass(',')
}

// value passes a value and returns it: a string, what brackets hold, or all up to the next comma, colon, bracket or
// blank. Nil: there is none, or it breaks off.
func (w *walker) value() []byte {
	start, depth := w.at, 0
	for w.at < len(w.raw) {
		switch c := w.raw[w.at]; c {
		case '"':
			if !w.text() {
				return nil
			}
			if depth == 0 {
				return w.raw[start:w.at]
			}
			continue
		case '[', '{':
			depth++
		case ']', '}':
			if depth == 0 {
				return w.token(start)
			}
			if depth--; depth == 0 {
				w.at++
				return w.raw[start:w.at]
			}
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return w.token(start)
			}
		}
		w.at++
	}
	if depth > 0 {
		return nil
	}
	return w.token(start)
}

func (w *walker) token(start int) []byte {
	if w.at == start {
		return nil
	}
	return w.raw[start:w.at]
}

func (w *walker) text() bool {
	for w.at++; w.at < len(w.raw); w.at++ {
		switch w.raw[w.at] {
		case '"':
			w.at++
			return true
		case '\\':
			w.at++
		}
	}
	return false
}

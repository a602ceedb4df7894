package gql

// elements goes through a JSON array without decoding it. The array comes from the database, but a log can be damaged:
// whatever the bytes, it ends, and broken tells.
type elements struct {
	raw    []byte
	at     int
	broken bool
}

// next returns the raw text of the next element.
func (e *elements) next() ([]byte, bool) {
	first := e.at == 0
	if first {
		if len(e.raw) < 2 || e.raw[0] != '[' {
			return e.fail()
		}
		e.at = 1
	}
	e.space()
	if e.at >= len(e.raw) {
		return e.fail()
	}
	if e.raw[e.at] == ']' {
		return nil, false
	}
	if !first {
		if e.raw[e.at] != ',' {
			return e.fail()
		}
		e.at++
		e.space()
	}
	start := e.at
	if e.value(); e.at == start || e.at > len(e.raw) {
		return e.fail()
	}
	return e.raw[start:e.at], true
}

func (e *elements) fail() ([]byte, bool) {
	e.broken = true
	return nil, false
}

func (e *elements) space() {
	for e.at < len(e.raw) && (e.raw[e.at] == ' ' || e.raw[e.at] == '\n' || e.raw[e.at] == '\t' || e.raw[e.at] == '\r') {
		e.at++
	}
}

// value passes one value: a string, what brackets hold, or all up to the next comma or bracket.
func (e *elements) value() {
	depth := 0
	for e.at < len(e.raw) {
		switch c := e.raw[e.at]; c {
		case '"':
			e.text()
			if depth == 0 {
				return
			}
			continue
		case '[', '{':
			depth++
		case ']', '}':
			if depth == 0 {
				return
			}
			if depth--; depth == 0 {
				e.at++
				return
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return
			}
		}
		e.at++
	}
	if depth > 0 {
		e.at = len(e.raw) + 1
	}
}

func (e *elements) text() {
	for e.at++; e.at < len(e.raw); e.at++ {
		switch e.raw[e.at] {
		case '"':
			e.at++
			return
		case '\\':
			e.at++
		}
	}
	e.at = len(e.raw) + 1
}

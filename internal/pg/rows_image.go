package pg

import (
	"bytes"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
)

// maxImage is how large an image may be. Capture has the same limit.
const maxImage = 268435456 - 4 // a datum's length counts

// written is how a column's value comes from the database. An empty one that is no text could not be converted.
type written byte

const (
	asText   written = iota // its output function's text, which is a JSON string
	asNumber                // likewise; a JSON number, but for NaN and Infinity
	asBool                  // t or f
	asTime                  // a date, a blank, and a time of day, perhaps with the offset of UTC, +00; or infinity
	asJSON                  // JSON already
	asNull                  // it does not come: a trigger sees no value either
)

// imageMaker makes an image of a row's values, byte for byte what row_to_json makes of the row.
// See https://www.postgresql.org/docs/current/functions-json.html, and src/backend/utils/adt/json.c for what it does to which type.
type imageMaker struct {
	keys [][]byte // what stands before each value
	as   []written
	buf  []byte
}

func newImageMaker(columns []rowColumn) *imageMaker {
	m := &imageMaker{}
	for i, c := range columns {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		m.keys = append(m.keys, append(appendString([]byte{before}, []byte(c.name)), ':'))
		m.as = append(m.as, c.as)
	}
	return m
}

// image makes the image of the values, one for each column that is not asNull; ok is false if that is impossible. The caller
// owns it.
func (m *imageMaker) image(values [][]byte) (image []byte, ok bool) {
	b := m.buf[:0]
	if len(m.keys) == 0 {
		b = append(b, '{')
	}
	for i, key := range m.keys {
		b = append(b, key...)
		if m.as[i] == asNull {
			b = append(b, "null"...)
			continue
		}
		value := values[0]
		values = values[1:]
		switch {
		case value == nil:
			b = append(b, "null"...)
		case len(value) == 0 && m.as[i] != asText:
			return nil, false
		case m.as[i] == asBool && value[0] == 't':
			b = append(b, "true"...)
		case m.as[i] == asBool:
			b = append(b, "false"...)
		case m.as[i] == asTime:
			b = appendTime(b, value)
		case m.as[i] == asNumber && isDigit(value[len(value)-1]):
			b = append(b, value...)
		case m.as[i] == asJSON:
			b = append(b, value...)
		default:
			b = appendString(b, value)
		}
	}
	b = append(b, '}')
	if m.buf = b; cap(b) > 1<<20 {
		m.buf = nil // one large row is no reason to keep so much
	}
	if len(b) > maxImage {
		return nil, false
	}
	return slices.Clone(b), true
}

// appendTime appends a timestamp as JSON has it, 2024-02-29T12:34:56+00:00.
func appendTime(b, text []byte) []byte {
	b = append(b, '"')
	if date, clock, ok := bytes.Cut(text, []byte(" ")); ok {
		b = append(append(b, date...), 'T')
		text = clock
		if before, after, ok := bytes.Cut(clock, []byte("+00")); ok {
			b = append(append(b, before...), "+00:00"...)
			text = after // BC
		}
	}
	return append(append(b, text...), '"')
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

const hexDigits = "0123456789abcdef"

// appendString appends text as a JSON string, with the escapes that Postgres writes.
func appendString(b, text []byte) []byte {
	b = append(b, '"')
	plain := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, text[plain:]...)
	return append(b, '"')
}

// rowPages gathers rows to pages.
type rowPages struct {
	limit int // rows of a page
	page  func([]change.Change) error
	rows  []change.Change
	bytes int
}

// pageBytes is about how much a page weighs at most.
const pageBytes = 1 << 20

// add takes a row, and hands the page on when it is full.
func (p *rowPages) add(c change.Change) error {
	if p.rows == nil {
		p.rows = make([]change.Change, 0, min(p.limit, 64))
	}
	p.rows = append(p.rows, c)
	if p.bytes += c.Size(); p.bytes >= pageBytes || len(p.rows) == p.limit {
		return p.flush()
	}
	return nil
}

// flush hands on what there is.
func (p *rowPages) flush() error {
	rows := p.rows
	p.rows, p.bytes = nil, 0
	if len(rows) == 0 {
		return nil
	}
	return p.page(rows)
}

package gql

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"

	"github.com/notifyql/notifyql/internal/filter"
)

// encoder appends the GraphQL form of a raw JSON value from an image, which is not null; kids are what is selected of an
// object. ok is false for a value that is not what the column's type promises, or that GraphQL cannot represent; dst is
// then as it was.
type encoder func(dst, raw []byte, kids []*selection) (out []byte, ok bool)

func encodeBoolean(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if s := string(raw); s != "true" && s != "false" {
		return dst, false
	}
	return append(dst, raw...), true
}

func encodeInt(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if len(raw) == 0 || len(raw) > len("-2147483648") || !digits(bytes.TrimPrefix(raw, []byte("-"))) {
		return dst, false
	}
	return append(dst, raw...), true
}

func encodeBigInt(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if isString(raw) { // as oid stands in an image
		raw = raw[1 : len(raw)-1]
	}
	if len(raw) == 0 || !digits(bytes.TrimPrefix(raw, []byte("-"))) {
		return dst, false
	}
	return quoted(dst, raw), true
}

// encodeFloat leaves out NaN and the infinities, which stand in an image as strings: GraphQL's Float is finite.
func encodeFloat(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if !isNumber(raw) {
		return dst, false
	}
	return append(dst, raw...), true
}

// encodeNumber gives a whole or decimal number as it is; oid stands between quotes.
func encodeNumber(dst, raw []byte, kids []*selection) ([]byte, bool) {
	if isString(raw) && digits(raw[1:len(raw)-1]) {
		raw = raw[1 : len(raw)-1]
	}
	return encodeFloat(dst, raw, kids)
}

func encodeDecimal(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if isString(raw) {
		return append(dst, raw...), true
	}
	if !isNumber(raw) {
		return dst, false
	}
	return quoted(dst, raw), true
}

func encodeText(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if !isString(raw) {
		return dst, false
	}
	return append(dst, raw...), true
}

// encodeOpaque gives the text of a type not known here. Where its own cast to json made something else than a string,
// that is the text.
func encodeOpaque(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if isString(raw) {
		return append(dst, raw...), true
	}
	return appendString(dst, string(raw)), true
}

// encodeJSON copies a JSON value. A value of type json may have line breaks between its parts; a result is one line.
func encodeJSON(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return append(dst, raw...), true
	}
	b := bytes.NewBuffer(dst)
	if err := json.Compact(b, raw); err != nil {
		return dst, false
	}
	return b.Bytes(), true
}

// encodeISO gives dates and times; those of our days in UTC are copied.
func encodeISO(class filter.Class) encoder {
	return func(dst, raw []byte, _ []*selection) ([]byte, bool) {
		if !isString(raw) {
			return dst, false
		}
		text := raw[1 : len(raw)-1]
		if len(text) >= 10 && text[4] == '-' && text[len(text)-1] != 'C' {
			if class != filter.TimestampTZ {
				return append(dst, raw...), true
			}
			if utc, ok := bytes.CutSuffix(text, []byte("+00:00")); ok {
				dst = append(append(dst, '"'), utc...)
				return append(dst, `Z"`...), true
			}
		}
		out, ok := filter.AppendISO(append(dst, '"'), text, class)
		if !ok {
			return dst, false
		}
		return append(out, '"'), true
	}
}

// encodeBytes turns \x68690a into base64.
func encodeBytes(dst, raw []byte, _ []*selection) ([]byte, bool) {
	digits, ok := bytes.CutPrefix(raw, []byte(`"\\x`))
	if !ok || len(digits) == 0 {
		return dst, false
	}
	b := make([]byte, hex.DecodedLen(len(digits)-1))
	if _, err := hex.Decode(b, digits[:len(digits)-1]); err != nil {
		return dst, false
	}
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"'), true
}

// encodeEnum turns labels into the names of GraphQL's enum values. A label that came after the schema is not guessed.
func encodeEnum(names map[string]string) encoder {
	return func(dst, raw []byte, _ []*selection) ([]byte, bool) {
		if !isString(raw) {
			return dst, false
		}
		label := raw[1 : len(raw)-1]
		if bytes.IndexByte(label, '\\') >= 0 {
			label = filter.AppendText(nil, label)
		}
		name, ok := names[string(label)]
		if !ok {
			return dst, false
		}
		return quoted(dst, name), true
	}
}

// encodeDuration writes ISO 8601, whatever style Postgres wrote.
func encodeDuration(dst, raw []byte, _ []*selection) ([]byte, bool) {
	if !isString(raw) {
		return dst, false
	}
	out, ok := filter.AppendDuration(append(dst, '"'), raw[1:len(raw)-1])
	if !ok {
		return dst, false
	}
	return append(out, '"'), true
}

// encodeList gives a one-dimensional array. One of more dimensions is not the list that the schema promises.
func encodeList(elem encoder) encoder {
	return func(dst, raw []byte, kids []*selection) ([]byte, bool) {
		start := len(dst)
		if raw[0] != '[' || !filter.Closed(raw) {
			return dst, false
		}
		dst = append(dst, '[')
		for e := filter.NewElements(raw); e.Next(); {
			if len(dst) > start+1 {
				dst = append(dst, ',')
			}
			if string(e.Value) == "null" {
				dst = append(dst, "null"...)
				continue
			}
			var ok bool
			if dst, ok = elem(dst, e.Value, kids); !ok {
				return dst[:start], false
			}
		}
		return append(dst, ']'), true
	}
}

// appendString writes a JSON string.
func appendString(dst []byte, s string) []byte {
	dst, _ = appendJSON(dst, s) // a string always encodes
	return dst
}

// appendJSON writes a value as JSON, with no more escapes than JSON needs.
func appendJSON(dst []byte, v any) ([]byte, bool) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return dst, false
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...), true
}

func quoted[T ~[]byte | string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func isString(raw []byte) bool { return len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' }

// isNumber reports whether raw is a JSON number, as the database writes them.
func isNumber(raw []byte) bool {
	b := bytes.TrimPrefix(raw, []byte("-"))
	if len(b) == 0 || b[0] < '0' || b[0] > '9' || b[0] == '0' && len(b) > 1 && b[1] >= '0' && b[1] <= '9' {
		return false
	}
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9':
		case c == '.':
			if i+1 == len(b) || bytes.IndexByte(b[:i], '.') >= 0 || bytes.IndexByte(b[:i], 'e') >= 0 {
				return false
			}
		case c == 'e' || c == 'E':
			exp := b[i+1:]
			if len(exp) > 0 && (exp[0] == '+' || exp[0] == '-') {
				exp = exp[1:]
			}
			return b[i-1] != '.' && digits(exp)
		default:
			return false
		}
	}
	return true
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

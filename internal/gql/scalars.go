package gql

import (
	"encoding/base64"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/filter"
)

// scalar is a scalar type that is not one of GraphQL's own five.
type scalar struct {
	name        string
	description string
	url         string       // of its specification; empty: none
	class       filter.Class // by which a client's text is checked; filter.JSON: any value
}

// cursorScalar is the one whose texts change.ParseCursor reads.
const cursorScalar = "Cursor"

// scalars are all scalars of ours, by name.
var scalars = []scalar{
	{"BigInt", "A whole number of 64 bits, as a string: JavaScript would round a number. Numbers are accepted as input.", "", filter.Int},
	{"Bytes", "Bytes as base64, with padding.", "https://www.rfc-editor.org/rfc/rfc4648#section-4", filter.Bytea},
	{cursorScalar, "A place in the history of the database, to go on from: an opaque text, good as long as the log reaches back to it.", "", filter.Text},
	{"Date", "A day, YYYY-MM-DD. Years beyond 9999 and before 1 have a sign and six digits; also infinity and -infinity.", "https://tc39.es/ecma262/#sec-date-time-string-format", filter.Date},
	{"DateTime", "An instant in UTC, YYYY-MM-DDTHH:MM:SS[.ffffff]Z; as input with any offset. Years beyond 9999 and before 1 have a sign and six digits; also infinity and -infinity.", "https://tc39.es/ecma262/#sec-date-time-string-format", filter.TimestampTZ},
	{"Decimal", "An exact decimal number, as a string: JavaScript would round a number. Also NaN, Infinity and -Infinity. Numbers are accepted as input.", "", filter.Numeric},
	{"Duration", "A span of time as ISO 8601 has it, such as P1Y2M3DT4H5M6.7S; each part may have a sign.", "https://tc39.es/proposal-temporal/#sec-temporal-duration-objects", filter.Interval},
	{"JSON", "Any JSON value.", "https://www.rfc-editor.org/rfc/rfc8259", filter.JSON},
	{"LocalDateTime", "A date and time of day in no time zone, YYYY-MM-DDTHH:MM:SS[.ffffff]. Years beyond 9999 and before 1 have a sign and six digits; also infinity and -infinity.", "https://tc39.es/ecma262/#sec-date-time-string-format", filter.Timestamp},
	{"Time", "A time of day in no time zone, HH:MM:SS[.ffffff], up to 24:00:00.", "", filter.Time},
	{"UUID", "A UUID in lower case.", "https://www.rfc-editor.org/rfc/rfc9562", filter.UUID},
}

// scalarByName finds a scalar of ours.
func scalarByName(name string) *scalar {
	for i := range scalars {
		if scalars[i].name == name {
			return &scalars[i]
		}
	}
	return nil
}

// input is a leaf that a client sent: in the document, or in a variable.
type input struct {
	kind ast.ValueKind
	text string
	json any  // from a variable: the JSON value
	lit  bool // from the document
}

// parseBuiltin coerces a value to one of GraphQL's own scalars. The text is what the value should have been.
func parseBuiltin(name string, in input) (any, string) {
	switch name {
	case "Int":
		n, ok := wholeNumber(in)
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			return nil, "a whole number of 32 bits"
		}
		return int(n), ""
	case "Float":
		f, err := strconv.ParseFloat(in.text, 64)
		if in.kind != ast.IntValue && in.kind != ast.FloatValue || err != nil {
			return nil, "a number"
		}
		return f, ""
	case "String":
		if in.kind == ast.StringValue || in.kind == ast.BlockValue {
			return in.text, ""
		}
		return nil, "a string"
	case "Boolean":
		if in.kind == ast.BooleanValue {
			return in.text == "true", ""
		}
		return nil, "true or false"
	default: // ID
		if in.kind == ast.StringValue || in.kind == ast.BlockValue {
			return in.text, ""
		}
		if in.kind == ast.IntValue {
			return in.text, ""
		}
		return nil, "a string or a whole number"
	}
}

// wholeNumber reads an integer; a variable may write it as 1.0 or 1e3, as JSON tells no difference.
func wholeNumber(in input) (int64, bool) {
	switch {
	case in.kind == ast.IntValue:
		n, err := strconv.ParseInt(in.text, 10, 64)
		return n, err == nil
	case in.kind == ast.FloatValue && !in.lit:
		f, err := strconv.ParseFloat(in.text, 64)
		return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
	}
	return 0, false
}

// parse coerces a value to the scalar: its canonical text, or any JSON value. The text is what it should have been.
func (s *scalar) parse(in input) (any, string) {
	text := in.text
	switch s.class {
	case filter.JSON:
		return in.json, ""
	case filter.Int:
		if in.kind == ast.StringValue {
			if n, ok := new(big.Int).SetString(text, 10); ok && n.IsInt64() && len(text) < 40 {
				return n.String(), ""
			}
		} else if n, ok := wholeNumber(in); ok {
			return strconv.FormatInt(n, 10), ""
		}
		return nil, "a whole number of 64 bits, as a string or a number"
	case filter.Numeric:
		if in.kind != ast.StringValue && in.kind != ast.IntValue && in.kind != ast.FloatValue || len(text) > 1000 {
			return nil, "a decimal number, as a string or a number"
		}
	default:
		if in.kind != ast.StringValue && in.kind != ast.BlockValue {
			return nil, "a string"
		}
	}
	if s.class == filter.Bytea {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, "base64"
		}
		return base64.StdEncoding.EncodeToString(b), ""
	}
	if ok := filter.Valid(s.class, text); !ok {
		return nil, s.shape()
	}
	if s.class == filter.UUID {
		text = strings.ToLower(text)
	}
	return text, ""
}

func (s *scalar) shape() string {
	switch s.class {
	case filter.Date:
		return "a date, such as 2024-12-31"
	case filter.TimestampTZ:
		return "an instant with its offset, such as 2024-12-31T23:59:59Z"
	case filter.Timestamp:
		return "a date and time without offset, such as 2024-12-31T23:59:59"
	case filter.Time:
		return "a time of day, such as 23:59:59"
	case filter.Interval:
		return "a duration, such as P1DT12H"
	case filter.UUID:
		return "a UUID"
	}
	return "a decimal number, as a string or a number"
}

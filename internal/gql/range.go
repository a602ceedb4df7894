package gql

import (
	"strconv"

	"github.com/notifyql/notifyql/internal/filter"
)

// encodeRange gives a range as an object. elem encodes its bounds; text says that they are JSON strings to elem.
func encodeRange(name string, elem encoder, text bool) encoder {
	return func(dst, raw []byte, kids []*selection) ([]byte, bool) {
		if !isString(raw) {
			return dst, false
		}
		return appendRange(dst, raw[1:len(raw)-1], name, elem, text, kids)
	}
}

// encodeMultiRange gives a multirange as a list.
func encodeMultiRange(name string, elem encoder, text bool) encoder {
	return func(dst, raw []byte, kids []*selection) ([]byte, bool) {
		if !isString(raw) {
			return dst, false
		}
		ranges, ok := filter.SplitRanges(raw[1 : len(raw)-1])
		if !ok {
			return dst, false
		}
		start := len(dst)
		dst = append(dst, '[')
		for i, r := range ranges {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, ok = appendRange(dst, r, name, elem, text, kids); !ok {
				return dst[:start], false
			}
		}
		return append(dst, ']'), true
	}
}

func appendRange(dst, raw []byte, name string, elem encoder, text bool, kids []*selection) ([]byte, bool) {
	var scratch []byte
	b, ok := filter.ParseRange(raw, &scratch)
	if !ok {
		return dst, false
	}
	start := len(dst)
	bound := func(s []byte) bool {
		if s == nil {
			dst = append(dst, "null"...)
			return true
		}
		if text {
			s = appendString(nil, string(s))
		}
		dst, ok = elem(dst, s, nil)
		return ok
	}
	dst = append(dst, '{')
	for i, k := range kids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, k.prefix...)
		switch k.name {
		case "lower":
			ok = bound(b.Lower)
		case "upper":
			ok = bound(b.Upper)
		case "lowerInclusive":
			dst = strconv.AppendBool(dst, b.LowerIn && b.Lower != nil)
		case "upperInclusive":
			dst = strconv.AppendBool(dst, b.UpperIn && b.Upper != nil)
		case "isEmpty":
			dst = strconv.AppendBool(dst, b.Empty)
		default:
			dst = quoted(dst, name)
		}
		if !ok {
			return dst[:start], false
		}
	}
	return append(dst, '}'), true
}

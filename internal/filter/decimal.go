package filter

import (
	"cmp"
	"strconv"
	"strings"
)

// decimal is an exact number as its text has it: ±0.d1d2d3… × 10^exp. It points into the text and owns nothing.
type decimal struct {
	kind   decimalKind
	digits []byte // from the first digit that is not zero; may hold one point
	exp    int
}

type decimalKind int8

// In the order of Postgres: NaN is greater than all else.
const (
	minusInfinity decimalKind = iota - 2
	negative
	zero
	positive
	infinity
	nan
)

// The places numeric has before and after the point.
const (
	numericWhole    = 131072
	numericFraction = 16383
)

// parseDecimal reads a number, with a point and an exponent if need be.
func parseDecimal(b []byte) (decimal, bool) {
	switch string(b) {
	case "NaN":
		return decimal{kind: nan}, true
	case "Infinity":
		return decimal{kind: infinity}, true
	case "-Infinity":
		return decimal{kind: minusInfinity}, true
	}
	d := decimal{kind: positive}
	i := 0
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		if b[i] == '-' {
			d.kind = negative
		}
		i++
	}
	first, point, some := -1, -1, false
	start := i
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '.' && point < 0:
			point = i
			continue
		case c >= '0' && c <= '9':
			some = true
			if first < 0 && c != '0' {
				first = i
			}
			continue
		}
		break
	}
	end := i
	e := 0
	if i < len(b) && some && (b[i] == 'e' || b[i] == 'E') {
		n, err := strconv.ParseInt(strings.TrimPrefix(view(b[i+1:]), "+"), 10, 32)
		if err != nil || n > 1<<20 || n < -1<<20 {
			return d, false
		}
		e, i = int(n), len(b)
	}
	if !some || i != len(b) || end == start {
		return d, false
	}
	if first < 0 {
		return decimal{kind: zero}, true
	}
	if point < 0 {
		point = end
	}
	d.digits = b[first:end]
	d.exp = e + point - first
	if first > point {
		d.exp++ // the point itself lies between
	}
	return d, true
}

// compare orders two decimals by value: 1.0 equals 1.
func (d decimal) compare(o decimal) int {
	if d.kind != o.kind || d.digits == nil {
		return cmp.Compare(d.kind, o.kind)
	}
	c := cmp.Compare(d.exp, o.exp)
	if c == 0 {
		c = compareDigits(d.digits, o.digits)
	}
	if d.kind == negative {
		return -c
	}
	return c
}

func compareDigits(a, b []byte) int {
	i, j := 0, 0
	for {
		if i < len(a) && a[i] == '.' {
			i++
		}
		if j < len(b) && b[j] == '.' {
			j++
		}
		if i >= len(a) && j >= len(b) {
			return 0
		}
		x, y := byte('0'), byte('0')
		if i < len(a) {
			x = a[i]
			i++
		}
		if j < len(b) {
			y = b[j]
			j++
		}
		if x != y {
			return cmp.Compare(x, y)
		}
	}
}

// fits reports whether Postgres can hold the number as a numeric.
func (d decimal) fits() bool {
	return d.digits == nil || d.exp <= numericWhole && len(d.digits)-d.exp <= numericFraction
}

// key is equal for equal numbers.
func (d decimal) key() string {
	digits := strings.TrimRight(strings.Replace(string(d.digits), ".", "", 1), "0")
	return strconv.Itoa(int(d.kind)) + "," + digits + "," + strconv.Itoa(d.exp)
}

package pg

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// What Postgres' jsonb holds: numbers of numeric, and as many levels as fit its stack by default, with room to spare.
const (
	maxWhole    = 131072
	maxFraction = 16383
	maxLevels   = 1000
)

// Storable gives the bytes that data, a JSON text, has where Postgres' jsonb has written all digits of its numbers: of 1e9 they are ten. If
// jsonb can't hold it, the error says why. An error of Postgres would abort the transaction.
func Storable(data []byte) (size int, err error) {
	if !utf8.Valid(data) {
		return 0, errors.New("it is not UTF-8")
	}
	levels := 0
	size = len(data)
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '{' || c == '[':
			if levels++; levels > maxLevels {
				return 0, fmt.Errorf("it is nested more than %d deep", maxLevels)
			}
		case c == '}' || c == ']':
			levels--
		case c == '"':
			n, err := storableString(data[i:])
			if err != nil {
				return 0, err
			}
			i += n - 1
		case c == '-' || '0' <= c && c <= '9':
			n := 1
			for i+n < len(data) && bytes.IndexByte([]byte("0123456789.eE+-"), data[i+n]) >= 0 {
				n++
			}
			digits, ok := storableNumber(string(data[i : i+n]))
			if !ok {
				return 0, fmt.Errorf("the number %.40s has more digits than Postgres holds", data[i:i+n])
			}
			size += max(0, digits-n)
			i += n - 1
		}
	}
	return size, nil
}

// storableString returns the length of the JSON string that data begins with.
func storableString(data []byte) (int, error) {
	high := false // what came last is half of a character
	for i := 1; i < len(data); i++ {
		half := false
		switch data[i] {
		case '"':
			if high {
				return 0, errLoneSurrogate
			}
			return i + 1, nil
		case '\\':
			i++
			if data[i] != 'u' {
				break
			}
			var r rune
			for _, d := range data[i+1 : i+5] {
				r = r<<4 | rune(hexDigit(d))
			}
			i += 4
			low := 0xdc00 <= r && r <= 0xdfff
			if r == 0 {
				return 0, errors.New(`it has a string with \u0000`)
			}
			if low != high {
				return 0, errLoneSurrogate
			}
			if half = 0xd800 <= r && r <= 0xdbff; low {
				high = false
			}
		}
		if high && !half {
			return 0, errLoneSurrogate
		}
		high = half
	}
	return 0, errors.New("a string has no end")
}

var errLoneSurrogate = errors.New(`it has a string with half of a surrogate pair, \ud800 to \udfff`)

func hexDigit(d byte) byte {
	switch {
	case d >= 'a':
		return d - 'a' + 10
	case d >= 'A':
		return d - 'A' + 10
	}
	return d - '0'
}

// storableNumber gives the bytes of a JSON number written without an exponent, and reports whether it fits numeric.
func storableNumber(text string) (all int, ok bool) {
	if strings.HasPrefix(text, "-") {
		text, all = text[1:], 1
	}
	digits, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(digits, ".")
	var e int
	if exponent != "" {
		sign, rest := 1, strings.TrimPrefix(exponent, "+")
		if strings.HasPrefix(rest, "-") {
			sign, rest = -1, rest[1:]
		}
		if rest = strings.TrimLeft(rest, "0"); len(rest) > 6 {
			return 0, false
		}
		for _, d := range rest {
			e = 10*e + int(d-'0')
		}
		e *= sign
	}
	before, behind := len(whole)+e, len(fraction)-e
	all += max(before, 1)
	if behind > 0 {
		all += 1 + behind
	}
	return all, before <= maxWhole && behind <= maxFraction
}

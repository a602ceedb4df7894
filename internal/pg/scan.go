package pg

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/notifyql/notifyql/internal/change"
)

// scanner reads the elements of one JSON array from left to right. After the first failure it reads nothing more and
// gives zero values; err says where it stopped.
type scanner struct {
	s   string
	i   int
	any bool // an element was read, so that a comma stands before the next one
	err error
}

func (s *scanner) fail(want string) {
	if s.err == nil {
		s.err = fmt.Errorf("notification breaks off at byte %d of %d: want %s", s.i, len(s.s), want)
	}
}

func (s *scanner) space() {
	for s.i < len(s.s) && (s.s[s.i] == ' ' || s.s[s.i] == '\n' || s.s[s.i] == '\t' || s.s[s.i] == '\r') {
		s.i++
	}
}

func (s *scanner) expect(c byte, name string) bool {
	if s.err != nil {
		return false
	}
	s.space()
	if s.i >= len(s.s) || s.s[s.i] != c {
		s.fail(name)
		return false
	}
	s.i++
	s.space()
	return true
}

func (s *scanner) open() { s.expect('[', "[") }

func (s *scanner) close() {
	if s.expect(']', "]") && s.i != len(s.s) {
		s.fail("the end")
	}
}

// next goes to the next element and reports whether there can be one.
func (s *scanner) next() bool {
	if s.any && !s.expect(',', "a comma") {
		return false
	}
	s.any = true
	return s.err == nil
}

// null reads an element that is null. If it is something else, it stays to be read.
func (s *scanner) null() bool {
	at, any := s.i, s.any
	if s.next() && strings.HasPrefix(s.s[s.i:], "null") {
		s.i += len("null")
		return true
	}
	if s.err == nil {
		s.i, s.any = at, any
	}
	return false
}

// number reads a whole number of at most this many bits.
func (s *scanner) number(bits int) uint64 {
	if !s.next() {
		return 0
	}
	return s.digits(bits)
}

func (s *scanner) digits(bits int) uint64 {
	end := s.i
	for end < len(s.s) && s.s[end] >= '0' && s.s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(s.s[s.i:end], 10, bits)
	if err != nil {
		s.fail("a whole number of at most " + strconv.Itoa(bits) + " bits")
		return 0
	}
	s.i = end
	return n
}

// signed reads a whole number that may be negative: a time before 1970.
func (s *scanner) signed() int64 {
	if !s.next() {
		return 0
	}
	if s.i < len(s.s) && s.s[s.i] == '-' {
		s.i++
		return -int64(s.digits(63))
	}
	return int64(s.digits(63))
}

func (s *scanner) boolean() bool {
	if !s.next() {
		return false
	}
	switch {
	case strings.HasPrefix(s.s[s.i:], "true"):
		s.i += len("true")
		return true
	case strings.HasPrefix(s.s[s.i:], "false"):
		s.i += len("false")
		return false
	}
	s.fail("true or false")
	return false
}

func (s *scanner) textOrNull() string {
	if s.null() {
		return ""
	}
	return s.text()
}

func (s *scanner) text() string {
	if !s.next() {
		return ""
	}
	end, escaped := skipString(s.s, s.i)
	if end < 0 {
		s.fail("a string")
		return ""
	}
	raw := s.s[s.i+1 : end-1]
	s.i = end
	if !escaped {
		return raw
	}
	plain, ok := unescape(raw)
	if !ok {
		s.fail("a string with valid escapes before it")
	}
	return plain
}

// tid reads a row version's place, "(block,offset)", or null.
func (s *scanner) tid() change.TID {
	if s.null() {
		return change.TID{}
	}
	t, ok := parseTID(s.text())
	if s.err == nil && !ok {
		s.fail(`a row's place like "(0,1)" before it`)
	}
	return t
}

func parseTID(text string) (change.TID, bool) {
	inner, ok := strings.CutPrefix(text, "(")
	inner, ok2 := strings.CutSuffix(inner, ")")
	block, offset, ok3 := strings.Cut(inner, ",")
	b, err := strconv.ParseUint(block, 10, 32)
	o, err2 := strconv.ParseUint(offset, 10, 16)
	if !ok || !ok2 || !ok3 || err != nil || err2 != nil {
		return change.TID{}, false
	}
	return change.TID{Block: uint32(b), Offset: uint16(o)}, true
}

// image reads any JSON value and gives its text; null is no image.
func (s *scanner) image() []byte {
	if s.null() || !s.next() {
		return nil
	}
	end := skipValue(s.s, s.i)
	if end < 0 {
		s.fail("a JSON value")
		return nil
	}
	raw := s.s[s.i:end]
	s.i = end
	return unsafe.Slice(unsafe.StringData(raw), len(raw))
}

// skipString returns the place after the string that starts at i, or -1, and whether it has escapes.
func skipString(s string, i int) (end int, escaped bool) {
	if i >= len(s) || s[i] != '"' {
		return -1, false
	}
	for i++; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1, escaped
		case '\\':
			escaped = true
			i++
		}
	}
	return -1, escaped
}

// skipValue returns the place after the JSON value that starts at i, or -1. It follows brackets and strings only.
func skipValue(s string, i int) int {
	depth, start := 0, i
	for i < len(s) {
		switch s[i] {
		case '"':
			if i, _ = skipString(s, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return endOfWord(start, i)
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return endOfWord(start, i)
			}
		}
		i++
	}
	return -1
}

func endOfWord(start, i int) int {
	if i == start {
		return -1
	}
	return i
}

// unescape takes the escapes out of the inside of a JSON string.
func unescape(raw string) (string, bool) {
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b = append(b, raw[i])
			continue
		}
		if i++; i >= len(raw) {
			return "", false
		}
		switch c := raw[i]; c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, n := unescapeRune(raw[i-1:])
			if n == 0 {
				return "", false
			}
			b = utf8.AppendRune(b, r)
			i += n - 2
		default:
			return "", false
		}
	}
	return unsafe.String(unsafe.SliceData(b), len(b)), true
}

// unescapeRune reads \uHHHH, or two of them for one rune, and says how many bytes it took; zero: none.
func unescapeRune(s string) (r rune, n int) {
	hi, ok := hex4(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(hi) {
		return hi, 6
	}
	lo, ok := hex4(s[6:])
	if r := utf16.DecodeRune(hi, lo); ok && r != utf8.RuneError {
		return r, 12
	}
	return 0, 0
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(v), err == nil
}

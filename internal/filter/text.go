package filter

import (
	"bytes"
	"cmp"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// view is b as a string without a copy, for a callee that does not keep it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// ImageName is a column's name as an image has it between the quotes: escaped as Postgres escapes JSON.
func ImageName(name string) string {
	const hex = "0123456789abcdef"
	var b []byte
	for i := range len(name) {
		switch c := name[i]; c {
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
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return string(b)
}

// AppendText appends the text of a JSON string, given without its quotes.
func AppendText(dst, raw []byte) []byte {
	var r reader
	for r = (reader{raw: raw}); ; {
		chunk := r.next()
		if len(chunk) == 0 {
			return dst
		}
		dst = append(dst, chunk...)
	}
}

// compareText compares a JSON string, given without its quotes, with a text, by bytes. With trim, trailing blanks do
// not count; want has none then.
func compareText(raw, want []byte, trim bool) int {
	if trim {
		raw = bytes.TrimRight(raw, " ")
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return bytes.Compare(raw, want)
	}
	r := reader{raw: raw}
	for {
		chunk := r.next()
		if len(chunk) == 0 || len(want) == 0 {
			return cmp.Compare(len(chunk), len(want))
		}
		n := min(len(chunk), len(want))
		if c := bytes.Compare(chunk[:n], want[:n]); c != 0 {
			return c
		}
		if n < len(chunk) {
			return 1
		}
		want = want[n:]
	}
}

// reader decodes a JSON string piece by piece, without copying what needs no decoding.
type reader struct {
	raw []byte
	buf [utf8.UTFMax]byte
}

// next returns the next piece, valid until the next call; empty at the end. A broken escape stands for itself.
func (r *reader) next() []byte {
	if len(r.raw) == 0 {
		return nil
	}
	i := bytes.IndexByte(r.raw, '\\')
	if i != 0 {
		if i < 0 {
			i = len(r.raw)
		}
		piece := r.raw[:i]
		r.raw = r.raw[i:]
		return piece
	}
	if len(r.raw) == 1 {
		return r.literal(1)
	}
	switch c := r.raw[1]; c {
	case 'b':
		return r.short('\b')
	case 'f':
		return r.short('\f')
	case 'n':
		return r.short('\n')
	case 'r':
		return r.short('\r')
	case 't':
		return r.short('\t')
	case '"', '\\', '/':
		return r.short(c)
	case 'u':
		return r.unicode()
	}
	return r.literal(1)
}

func (r *reader) short(c byte) []byte {
	r.raw = r.raw[2:]
	r.buf[0] = c
	return r.buf[:1]
}

func (r *reader) literal(n int) []byte {
	piece := r.raw[:n]
	r.raw = r.raw[n:]
	return piece
}

func (r *reader) unicode() []byte {
	c, ok := codeUnit(r.raw)
	if !ok {
		return r.literal(1)
	}
	r.raw = r.raw[6:]
	if utf16.IsSurrogate(c) {
		low, ok := codeUnit(r.raw)
		if both := utf16.DecodeRune(c, low); ok && both != utf8.RuneError {
			r.raw = r.raw[6:]
			c = both
		} else {
			c = utf8.RuneError
		}
	}
	return r.buf[:utf8.EncodeRune(r.buf[:], c)]
}

// codeUnit reads \uHHHH at the start of b.
func codeUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var c rune
	for _, h := range b[2:6] {
		switch {
		case h >= '0' && h <= '9':
			c = c<<4 | rune(h-'0')
		case h >= 'a' && h <= 'f':
			c = c<<4 | rune(h-'a'+10)
		case h >= 'A' && h <= 'F':
			c = c<<4 | rune(h-'A'+10)
		default:
			return 0, false
		}
	}
	return c, true
}

package filter

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// PatternLimit is the most characters a pattern may have between two percent signs if a wildcard or a letter of either
// case is among them. It keeps the cost of a match linear in the text.
const PatternLimit = 256

// Like matches text as SQL's like does: % is any run of characters, _ any one, \ makes the next one plain. With fold,
// ASCII letters match in either case (ilike under COLLATE "C").
func Like(c *Column, pattern string, fold bool) (*Predicate, error) {
	t := &like{text: pattern, fold: fold}
	if strings.IndexByte(pattern, 0) >= 0 {
		return nil, errors.New("text in Postgres cannot hold a NUL character")
	}
	if !utf8.ValidString(pattern) {
		return nil, errors.New("a pattern must be UTF-8")
	}
	var p part
	literal := false
	for _, r := range pattern {
		switch {
		case literal:
			p.add(r, fold)
			literal = false
		case r == '\\':
			literal = true
		case r == '%':
			t.parts = append(t.parts, p)
			p = part{}
		case r == '_':
			p.any()
		default:
			p.add(r, fold)
		}
		if p.mixed && len(p.runes) > PatternLimit {
			return nil, fmt.Errorf("a pattern may have %d characters between two percent signs", PatternLimit)
		}
	}
	if literal {
		return nil, errors.New(`a pattern must not end with a single \`)
	}
	t.parts = append(t.parts, p)
	for i := range t.parts {
		t.parts[i].finish()
	}
	return about(c, t), nil
}

// like is a pattern cut at its percent signs: the first part is anchored at the start, the last at the end.
type like struct {
	text  string
	fold  bool
	parts []part
}

// part is a run of characters between percent signs.
type part struct {
	plain []byte // the text, which says it all if not mixed
	mixed bool   // it has a wildcard, or a letter to fold
	runes []rune // lower case if folded; any is any

	masks map[rune]*mask // for each character: where it may stand
	other *mask          // where all others may: the wildcards
}

// mask has a bit for each place of a part.
type mask [PatternLimit / 64]uint64

const wildcard rune = -1

func (p *part) add(r rune, fold bool) {
	p.runes = append(p.runes, lower(r, fold))
	p.plain = utf8.AppendRune(p.plain, r)
	p.mixed = p.mixed || fold && lower(r, true) != upper(r)
}

func (p *part) any() {
	p.runes = append(p.runes, wildcard)
	p.mixed = true
}

func (p *part) finish() {
	if !p.mixed {
		return
	}
	p.other, p.masks = new(mask), map[rune]*mask{}
	for i, r := range p.runes {
		if r == wildcard {
			p.other[i/64] |= 1 << (i % 64)
		} else if p.masks[r] == nil {
			p.masks[r] = new(mask)
		}
	}
	for r, m := range p.masks {
		*m = *p.other
		for i, at := range p.runes {
			if at == r {
				m[i/64] |= 1 << (i % 64)
			}
		}
	}
}

func lower(r rune, fold bool) rune {
	if fold && r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

func upper(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

func (t *like) eval(c *Column, raw []byte) Truth {
	if !isString(raw) {
		return Invalid
	}
	s := raw[1 : len(raw)-1]
	if c.Class == Char {
		s = bytes.TrimRight(s, " ")
	}
	if bytes.IndexByte(s, '\\') < 0 {
		return truth(t.matches(s))
	}
	scratch := c.scratch.Get().(*[]byte)
	*scratch = AppendText((*scratch)[:0], s)
	found := t.matches(*scratch)
	c.scratch.Put(scratch)
	return truth(found)
}

// matches looks for each part in turn, leftmost first: with percent signs between them no later place can do better.
func (t *like) matches(s []byte) bool {
	first, last := &t.parts[0], &t.parts[len(t.parts)-1]
	n, ok := first.prefix(s, t.fold)
	if !ok {
		return false
	}
	s = s[n:]
	if len(t.parts) == 1 {
		return len(s) == 0
	}
	for i := 1; i < len(t.parts)-1; i++ {
		end := t.parts[i].index(s, t.fold)
		if end < 0 {
			return false
		}
		s = s[end:]
	}
	return last.suffix(s, t.fold)
}

// prefix reports whether s begins with the part, and how many bytes that is.
func (p *part) prefix(s []byte, fold bool) (int, bool) {
	if !p.mixed {
		return len(p.plain), bytes.HasPrefix(s, p.plain)
	}
	at := 0
	for _, want := range p.runes {
		r, n := utf8.DecodeRune(s[at:])
		if n == 0 || want != wildcard && lower(r, fold) != want {
			return 0, false
		}
		at += n
	}
	return at, true
}

// suffix reports whether s ends with the part.
func (p *part) suffix(s []byte, fold bool) bool {
	if !p.mixed {
		return bytes.HasSuffix(s, p.plain)
	}
	for i := len(p.runes) - 1; i >= 0; i-- {
		r, n := utf8.DecodeLastRune(s)
		if n == 0 || p.runes[i] != wildcard && lower(r, fold) != p.runes[i] {
			return false
		}
		s = s[:len(s)-n]
	}
	return true
}

// index is the place behind the first occurrence of the part in s; -1: none. The mixed case runs all places at which
// the part may have begun side by side, one bit each (shift-and), so that its cost is linear in s.
func (p *part) index(s []byte, fold bool) int {
	if !p.mixed {
		i := bytes.Index(s, p.plain)
		if i < 0 {
			return -1
		}
		return i + len(p.plain)
	}
	var state mask
	last := len(p.runes) - 1
	for at := 0; at < len(s); {
		r, n := utf8.DecodeRune(s[at:])
		at += n
		m := p.masks[lower(r, fold)]
		if m == nil {
			m = p.other
		}
		carry := uint64(1)
		for i := range state {
			next := state[i] >> 63
			state[i] = (state[i]<<1 | carry) & m[i]
			carry = next
		}
		if state[last/64]>>(last%64)&1 == 1 {
			return at
		}
	}
	return -1
}

func (t *like) sql(w *writer, c *Column) {
	w.write(c.operand(), t.operator())
	w.parameter(t.text)
}

func (t *like) operator() string {
	if t.fold {
		return " ilike "
	}
	return " like "
}

func (t *like) key(*Column) string { return t.operator() + strconv.Quote(t.text) }

// Literal is text as a pattern that matches nothing else.
func Literal(text string) string { return escapeLike.Replace(text) }

var escapeLike = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

package validate

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf16"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"
)

// Syntax finds what gqlparser lets pass: a document without definitions, a number that runs into a name or another
// number, half a surrogate pair, a fragment with variables. It also counts the tokens: beyond limit, tooMany is true.
func Syntax(source string, limit int) (err *Error, tooMany bool) {
	lex := lexer.New(&ast.Source{Input: source})
	s := syntax{source: source, end: -1}
	for n := 0; ; n++ {
		t, lexErr := lex.ReadToken()
		switch {
		case lexErr != nil:
			return nil, false // the parser says it better
		case t.Kind == lexer.EOF:
			if n == 0 {
				return &Error{"Unexpected <EOF>.", locationOf(source, math.MaxInt)}, false
			}
			return nil, false
		case t.Kind == lexer.Comment:
			n--
			continue
		case n >= limit:
			return nil, true
		}
		if err := s.token(t); err != nil {
			return err, false
		}
	}
}

// syntax is what matters of the tokens before the one looked at.
type syntax struct {
	source   string
	depth    int  // of braces
	fragment int  // at how many tokens behind "fragment" it is; 0: not there
	number   bool // the one before is a number
	end      int  // of the one before
}

func (s *syntax) token(t lexer.Token) *Error {
	switch {
	case s.number && t.Pos.Start == s.end && (t.Kind == lexer.Name || t.Kind == lexer.Int || t.Kind == lexer.Float):
		return &Error{fmt.Sprintf("Invalid number, expected digit but got: %q.", t.Value[:1]), locationOf(s.source, s.end)}
	case t.Kind == lexer.ParenL && s.fragment == 2:
		return &Error{`Expected "on", found "(": a fragment has no variables of its own.`, locationOf(s.source, t.Pos.Start)}
	case t.Kind == lexer.BraceL:
		s.depth++
	case t.Kind == lexer.BraceR:
		s.depth--
	case t.Kind == lexer.String && strings.Contains(t.Value, "\uFFFD"):
		if i := halfPair([]rune(s.source)[t.Pos.Start:t.Pos.End]); i >= 0 {
			return &Error{"Invalid Unicode escape sequence: half of a surrogate pair.", locationOf(s.source, t.Pos.Start+i)}
		}
	}
	switch {
	case s.depth == 0 && t.Kind == lexer.Name && t.Value == "fragment":
		s.fragment = 1
	case s.fragment > 0:
		s.fragment = (s.fragment + 1) % 3
	}
	s.number = t.Kind == lexer.Int || t.Kind == lexer.Float
	s.end = t.Pos.End
	return nil
}

// halfPair finds an escape that is half of a surrogate pair; -1: there is none.
func halfPair(text []rune) int {
	unit := func(i int) rune {
		var r rune
		if i+6 > len(text) || text[i] != '\\' || text[i+1] != 'u' {
			return 0
		}
		if _, err := fmt.Sscanf(string(text[i+2:i+6]), "%04x", &r); err != nil {
			return 0
		}
		return r
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if r := unit(i); utf16.IsSurrogate(r) {
			if utf16.DecodeRune(r, unit(i+6)) == '\uFFFD' {
				return i
			}
			i += 11
			continue
		}
		i++
	}
	return -1
}

package validate

import (
	"sort"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/validator/core"
)

// place is a token of the source: the one at a position of the tree, or one some tokens behind or before it. The tree
// does not have the positions of all nodes that errors are about.
type place struct {
	start int // in runes
	step  int
}

func at(p *ast.Position) []place { return []place{here(p)} }

func here(p *ast.Position) place { return after(p, 0) }

func after(p *ast.Position, tokens int) place {
	if p == nil {
		return place{}
	}
	return place{p.Start, tokens}
}

func before(p *ast.Position, tokens int) place { return after(p, -tokens) }

type token struct {
	start int // in runes
	Location
}

// locate finds where in the source places are. The source is cut into tokens when that is first asked: a valid document
// has no errors to locate.
func (v *validator) locate(places []place) []Location {
	if v.tokens == nil {
		v.tokens = tokens(v.source)
	}
	out := make([]Location, 0, len(places))
	for _, p := range places {
		i := sort.Search(len(v.tokens), func(i int) bool { return v.tokens[i].start >= p.start }) + p.step
		if i >= 0 && i < len(v.tokens) {
			out = append(out, v.tokens[i].Location)
		}
	}
	return out
}

func tokens(source string) (out []token) {
	lex := lexer.New(&ast.Source{Input: source})
	for {
		t, err := lex.ReadToken()
		if err != nil || t.Kind == lexer.EOF {
			break
		}
		if t.Kind != lexer.Comment {
			out = append(out, token{start: t.Pos.Start})
		}
	}
	next := 0
	walk(source, func(offset int, l Location) {
		for next < len(out) && out[next].start <= offset {
			out[next].Location = l
			next++
		}
	})
	return out
}

// walk tells the location of each character, counted from zero, and of the end.
func walk(source string, tell func(offset int, l Location)) {
	l, offset, cr := Location{1, 1}, 0, false
	for _, r := range source {
		tell(offset, l)
		offset++
		switch {
		case r == '\n' && cr:
			cr = false
		case r == '\n', r == '\r':
			l, cr = Location{l.Line + 1, 1}, r == '\r'
		default:
			cr = false
			l.Column++
			if r > 0xffff {
				l.Column++
			}
		}
	}
	tell(offset, l)
}

// Locate tells the location of a character, counted from zero; of the end, if there is none such.
func Locate(source string, at int) (found Location) {
	walk(source, func(offset int, l Location) {
		if offset <= at {
			found = l
		}
	})
	return found
}

func locationOf(source string, at int) []Location { return []Location{Locate(source, at)} }

// suggest says which of the names was perhaps meant. Looking costs more than all else, so it is done for few errors.
func (v *validator) suggest(name, what string, names []string) string {
	const few, short = 5, 60
	if len(v.errors) >= few || len(name) > short || len(names) > 2000 {
		return ""
	}
	found := core.SuggestionList(name, names)
	if len(found) == 0 {
		return ""
	}
	return " Did you mean " + what + core.QuotedOrList(found...) + "?"
}

package gql

import (
	"github.com/vektah/gqlparser/v2/ast"
)

// measure refuses a document that is too deep or selects too much, each fragment counted as often as it is spread. It
// looks at each node once, so that a document costs no more than its size, and does not follow fragments in a circle:
// validation finds those.
func measure(doc *ast.QueryDocument, l Limits) *gqlError {
	if len(doc.Operations) > l.Operations {
		return limitError(doc.Operations[l.Operations].Position, "operations", l.Operations, "The document has more than %d operations.", l.Operations)
	}
	m := &measurer{limits: l, fragments: map[string]*measured{}, doc: map[string]*ast.FragmentDefinition{}}
	for _, f := range doc.Fragments {
		m.doc[f.Name] = f
	}
	for _, f := range doc.Fragments {
		m.fragment(f.Name)
	}
	for _, op := range doc.Operations {
		got := m.set(op.SelectionSet)
		switch {
		case got.depth > l.Depth:
			return limitError(op.Position, "depth", l.Depth, "The operation nests fields more than %d deep.", l.Depth)
		case got.fields > l.Fields:
			return limitError(op.Position, "fields", l.Fields, "The operation selects more than %d fields.", l.Fields)
		case got.aliases > l.Aliases:
			return limitError(op.Position, "aliases", l.Aliases, "The operation has more than %d aliases.", l.Aliases)
		}
	}
	return nil
}

// measured is what a selection set comes to, fragments included.
type measured struct{ depth, fields, aliases int }

type measurer struct {
	limits    Limits
	doc       map[string]*ast.FragmentDefinition
	fragments map[string]*measured
}

func (m *measurer) fragment(name string) measured {
	if got := m.fragments[name]; got != nil {
		return *got
	}
	def := m.doc[name]
	if def == nil {
		return measured{}
	}
	m.fragments[name] = &measured{} // what a circle finds
	got := m.set(def.SelectionSet)
	m.fragments[name] = &got
	return got
}

func (m *measurer) set(set ast.SelectionSet) measured {
	var sum measured
	for _, sel := range set {
		var one measured
		switch sel := sel.(type) {
		case *ast.Field:
			one = m.set(sel.SelectionSet)
			one.depth++
			one.fields++
			if sel.Alias != sel.Name {
				one.aliases++
			}
		case *ast.InlineFragment:
			one = m.set(sel.SelectionSet)
		case *ast.FragmentSpread:
			one = m.fragment(sel.Name)
		}
		sum.depth = max(sum.depth, one.depth)
		// Bounded, so that fragments that spread each other do not overflow.
		sum.fields = min(sum.fields+one.fields, m.limits.Fields+1)
		sum.aliases = min(sum.aliases+one.aliases, m.limits.Aliases+1)
	}
	return sum
}

// Package validate holds a GraphQL document against a schema by the rules of the specification, as graphql-js does: the
// same documents pass, and the same places are named for what does not.
//
// gqlparser, whose tree and schema it works on, has these rules too. They are done again here because of what they cost
// and name: a document made for it makes several of them quadratic in its size, custom scalars' literals pass unseen,
// and many errors point beside the place. Each rule here looks at each node once; only what operations share by
// fragments is looked at once for each operation. A document is read, and annotated with what its fragment spreads and
// directives mean, by one goroutine; after that it does not change.
package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Error is one error, and the places that it is about.
type Error struct {
	Message   string
	Locations []Location
}

// Location is a line and a column, both counted from one; the column in UTF-16 units as graphql-js counts.
type Location struct{ Line, Column int }

// maxErrors is how many errors are worth telling.
const maxErrors = 100

// Scalar checks a literal of a scalar that is not GraphQL's own. It returns what is wrong, or nothing.
type Scalar func(def *ast.Definition, v *ast.Value) string

// Document returns the errors of a document; none: it is valid.
func Document(schema *ast.Schema, doc *ast.QueryDocument, source string, scalar Scalar) []Error {
	v := &validator{
		schema: schema, doc: doc, scalar: scalar, source: source,
		fragments: map[string]*ast.FragmentDefinition{}, meets: map[[2]*ast.Definition]bool{},
	}
	for _, f := range doc.Fragments {
		if v.fragments[f.Name] == nil {
			v.fragments[f.Name] = f
		}
	}
	v.names()
	for _, op := range doc.Operations {
		v.operation(op)
	}
	for _, f := range doc.Fragments {
		v.fragment(f)
	}
	v.variables()
	v.cycles()
	if !v.cyclic {
		// These follow fragments, which they must be able to.
		for _, op := range doc.Operations {
			v.subscription(op)
		}
		v.conflicts()
	}
	v.introspectionDepth()
	v.unusedFragments()
	return v.errors
}

type validator struct {
	schema    *ast.Schema
	doc       *ast.QueryDocument
	source    string
	scalar    Scalar
	fragments map[string]*ast.FragmentDefinition
	meets     map[[2]*ast.Definition]bool
	cyclic    bool

	scope  *scope // of the definition being read
	scopes []*scope
	errors []Error
	tokens []token // of the source; read when the first error needs them

	work int                    // fields come by in search of conflicts
	told map[[2]*ast.Field]bool // conflicts
}

// scope is what an operation or a fragment uses.
type scope struct {
	op       *ast.OperationDefinition // nil: a fragment
	fragment *ast.FragmentDefinition
	usages   []usage
	spreads  []*ast.FragmentSpread
}

// usage is a place where a variable stands.
type usage struct {
	value      *ast.Value
	typ        *ast.Type // nil: any
	hasDefault bool      // the place has one
	oneOf      string    // the OneOf input type that it is a field of
}

// An error says no more than this, however long the names in it and however many its places.
const (
	maxMessage   = 1000
	maxLocations = 10
)

func (v *validator) fail(places []place, format string, args ...any) {
	switch {
	case len(v.errors) < maxErrors:
		message := fmt.Sprintf(format, args...)
		if len(message) > maxMessage {
			message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
		}
		v.errors = append(v.errors, Error{message, v.locate(places[:min(len(places), maxLocations)])})
	case len(v.errors) == maxErrors:
		v.errors = append(v.errors, Error{Message: "Too many validation errors, error limit reached. Validation aborted."})
	}
}

// names checks that operations and fragments can be told apart.
func (v *validator) names() {
	ops := map[string]*ast.OperationDefinition{}
	for _, op := range v.doc.Operations {
		if op.Name == "" {
			if len(v.doc.Operations) > 1 {
				v.fail(at(op.Position), "This anonymous operation must be the only defined operation.")
			}
			continue
		}
		if first := ops[op.Name]; first != nil {
			v.fail([]place{after(first.Position, 1), after(op.Position, 1)}, "There can be only one operation named %q.", op.Name)
			continue
		}
		ops[op.Name] = op
	}
	for _, f := range v.doc.Fragments {
		if first := v.fragments[f.Name]; first != f {
			v.fail([]place{after(first.Position, 1), after(f.Position, 1)}, "There can be only one fragment named %q.", f.Name)
		}
	}
}

func (v *validator) operation(op *ast.OperationDefinition) {
	v.scope = &scope{op: op}
	v.scopes = append(v.scopes, v.scope)
	root, where := v.root(op.Operation)
	byName := map[string][]*ast.VariableDefinition{}
	for _, def := range op.VariableDefinitions {
		byName[def.Variable] = append(byName[def.Variable], def)
		v.variable(def)
	}
	for _, def := range op.VariableDefinitions {
		if same := byName[def.Variable]; len(same) > 1 && same[0] == def {
			var places []place
			for _, d := range same {
				places = append(places, after(d.Position, 1))
			}
			v.fail(places, "There can be only one variable named \"$%s\".", def.Variable)
		}
	}
	v.directives(op.Directives, where)
	v.selectionSet(root, op.SelectionSet)
}

func (v *validator) root(kind ast.Operation) (*ast.Definition, ast.DirectiveLocation) {
	switch kind {
	case ast.Mutation:
		return v.schema.Mutation, ast.LocationMutation
	case ast.Subscription:
		return v.schema.Subscription, ast.LocationSubscription
	}
	return v.schema.Query, ast.LocationQuery
}

func (v *validator) variable(def *ast.VariableDefinition) {
	name := def.Type.Name()
	switch typ := v.schema.Types[name]; {
	case typ == nil:
		v.unknownType(name, at(innermost(def.Type).Position))
	case !typ.IsInputType():
		v.fail(at(def.Type.Position), "Variable \"$%s\" cannot be non-input type %q.", def.Variable, def.Type)
	default:
		def.Definition = typ
	}
	if def.DefaultValue != nil {
		var typ *ast.Type
		if def.Definition != nil {
			typ = def.Type
		}
		v.value(def.DefaultValue, typ, input{})
	}
	v.directives(def.Directives, ast.LocationVariableDefinition)
}

func innermost(t *ast.Type) *ast.Type {
	for t.Elem != nil {
		t = t.Elem
	}
	return t
}

func (v *validator) fragment(f *ast.FragmentDefinition) {
	v.scope = &scope{fragment: f}
	v.scopes = append(v.scopes, v.scope)
	f.Definition = v.condition(f.TypeCondition, after(f.Position, 3), "Fragment \""+f.Name+"\"")
	v.directives(f.Directives, ast.LocationFragmentDefinition)
	v.selectionSet(f.Definition, f.SelectionSet)
}

// condition finds the type that a fragment is on; nil if it can be on none such.
func (v *validator) condition(name string, p place, what string) *ast.Definition {
	typ := v.schema.Types[name]
	switch {
	case typ == nil:
		v.unknownType(name, []place{p})
	case !typ.IsCompositeType():
		v.fail([]place{p}, "%s cannot condition on non composite type %q.", what, name)
	default:
		return typ
	}
	return nil
}

func (v *validator) unknownType(name string, places []place) {
	v.fail(places, "Unknown type %q.%s", name, v.suggest(name, "", sorted(v.schema.Types)))
}

// unusedFragments are those that no operation reaches.
func (v *validator) unusedFragments() {
	used := map[string]bool{}
	var reach func(s *scope)
	byName := map[string]*scope{}
	for _, s := range v.scopes {
		if s.fragment != nil && byName[s.fragment.Name] == nil {
			byName[s.fragment.Name] = s
		}
	}
	reach = func(s *scope) {
		for _, spread := range s.spreads {
			if next := byName[spread.Name]; next != nil && !used[spread.Name] {
				used[spread.Name] = true
				reach(next)
			}
		}
	}
	for _, s := range v.scopes {
		if s.op != nil {
			reach(s)
		}
	}
	for _, f := range v.doc.Fragments {
		if !used[f.Name] {
			v.fail(at(f.Position), "Fragment %q is never used.", f.Name)
		}
	}
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

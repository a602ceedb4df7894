package gql

import (
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// selection is one response key of a selection set, fragments taken in, directives applied, arguments coerced.
type selection struct {
	prefix []byte // "key":
	key    string
	name   string
	parent string // the type it is selected on
	def    *ast.FieldDefinition
	args   map[string]any
	at     map[string]*ast.Position // of the arguments that the document gives
	pos    *ast.Position
	more   []*ast.Position         // of further mentions that were merged
	kids   map[string][]*selection // by the concrete type of the value; nil for a leaf
}

// collector compiles selection sets.
type collector struct {
	coercer
	left int   // selections that may still be made
	path []any // of response keys, down to the field being compiled
}

// collect gives the response keys that sets select on an object type, in order.
func (c *collector) collect(typ *ast.Definition, sets []ast.SelectionSet) ([]*selection, *gqlError) {
	g := grouping{collector: c, typ: typ, byKey: map[string]int{}, seen: map[string]bool{}}
	for _, set := range sets {
		if err := g.add(set); err != nil {
			return nil, err
		}
	}
	out := make([]*selection, len(g.groups))
	for i, fields := range g.groups {
		var err *gqlError
		if out[i], err = c.compile(typ, fields); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// grouping gathers the fields of equal response key.
type grouping struct {
	*collector
	typ    *ast.Definition
	groups [][]*ast.Field
	byKey  map[string]int
	seen   map[string]bool // fragments
}

func (g *grouping) add(set ast.SelectionSet) *gqlError {
	for _, sel := range set {
		var dirs ast.DirectiveList
		switch sel := sel.(type) {
		case *ast.Field:
			dirs = sel.Directives
		case *ast.InlineFragment:
			dirs = sel.Directives
		case *ast.FragmentSpread:
			dirs = sel.Directives
		}
		if in, err := g.included(dirs); err != nil {
			return err
		} else if !in {
			continue
		}
		var err *gqlError
		switch sel := sel.(type) {
		case *ast.Field:
			i, ok := g.byKey[sel.Alias]
			if !ok {
				i = len(g.groups)
				g.byKey[sel.Alias] = i
				g.groups = append(g.groups, nil)
			}
			g.groups[i] = append(g.groups[i], sel)
		case *ast.InlineFragment:
			if sel.TypeCondition == "" || g.applies(sel.TypeCondition) {
				err = g.add(sel.SelectionSet)
			}
		case *ast.FragmentSpread:
			if !g.seen[sel.Name] && sel.Definition != nil && g.applies(sel.Definition.TypeCondition) {
				g.seen[sel.Name] = true
				err = g.add(sel.Definition.SelectionSet)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// applies reports whether a fragment on cond concerns values of the grouping's type.
func (g *grouping) applies(cond string) bool {
	if cond == g.typ.Name {
		return true
	}
	for _, t := range g.schema.PossibleTypes[cond] {
		if t.Name == g.typ.Name {
			return true
		}
	}
	return false
}

// included applies @skip and @include.
func (c *collector) included(dirs ast.DirectiveList) (bool, *gqlError) {
	in := true
	for _, d := range dirs {
		if d.Name != "skip" && d.Name != "include" || d.Definition == nil {
			continue
		}
		args, err := c.arguments(d.Definition.Arguments, d.Arguments, d.Position)
		if err != nil {
			return false, err
		}
		if cond, _ := args["if"].(bool); cond == (d.Name == "skip") {
			in = false
		}
	}
	return in, nil
}

func (c *collector) compile(parent *ast.Definition, fields []*ast.Field) (*selection, *gqlError) {
	f := fields[0]
	if c.left--; c.left < 0 {
		return nil, limitError(f.Position, "fields", c.limits.Fields, "The operation selects more than %d fields.", c.limits.Fields)
	}
	s := &selection{prefix: []byte(`"` + f.Alias + `":`), key: f.Alias, name: f.Name, parent: parent.Name, pos: f.Position}
	for _, f := range fields[1:] {
		s.more = append(s.more, f.Position)
	}
	if f.Name == "__typename" {
		s.def = typenameField
		return s, nil
	}
	s.def = parent.Fields.ForName(f.Name)
	if s.def == nil {
		return nil, newError(codeValidation, f.Position, "Cannot query field %q on type %q.", f.Name, parent.Name)
	}
	var err *gqlError
	c.path = append(c.path, f.Alias)
	defer func() { c.path = c.path[:len(c.path)-1] }()
	if s.args, err = c.arguments(s.def.Arguments, f.Arguments, f.Position); err != nil {
		err.Path = slices.Clone(c.path)
		return nil, err
	}
	if len(f.Arguments) > 0 {
		s.at = make(map[string]*ast.Position, len(f.Arguments))
		for _, a := range f.Arguments {
			s.at[a.Name] = a.Value.Position
		}
	}
	typ := c.schema.Types[s.def.Type.Name()]
	if typ == nil || !typ.IsCompositeType() {
		return s, nil
	}
	sets := make([]ast.SelectionSet, len(fields))
	for i, f := range fields {
		sets[i] = f.SelectionSet
	}
	s.kids = map[string][]*selection{}
	for _, possible := range c.possible(typ) {
		if s.kids[possible.Name], err = c.collect(possible, sets); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// possible are the object types that a value of a composite type may have.
func (c *collector) possible(t *ast.Definition) []*ast.Definition {
	if t.Kind == ast.Object {
		return []*ast.Definition{t}
	}
	var out []*ast.Definition
	for _, p := range c.schema.PossibleTypes[t.Name] {
		if p != nil && p.Kind == ast.Object {
			out = append(out, p)
		}
	}
	return out
}

var typenameField = &ast.FieldDefinition{Name: "__typename", Type: ast.NonNullNamedType("String", nil)}

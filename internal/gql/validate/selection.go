package validate

import (
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator/core"
)

// selectionSet checks what is selected on a type; nil: it is not known, and only what does not need it is checked.
func (v *validator) selectionSet(parent *ast.Definition, set ast.SelectionSet) {
	for _, sel := range set {
		switch sel := sel.(type) {
		case *ast.Field:
			v.field(parent, sel)
		case *ast.InlineFragment:
			typ := parent
			if sel.TypeCondition != "" {
				typ = v.condition(sel.TypeCondition, after(sel.Position, 1), "Fragment")
				v.overlap(typ, parent, before(sel.Position, 1), "Fragment")
			}
			v.directives(sel.Directives, ast.LocationInlineFragment)
			v.selectionSet(typ, sel.SelectionSet)
		case *ast.FragmentSpread:
			v.spread(parent, sel)
		}
	}
}

func (v *validator) spread(parent *ast.Definition, s *ast.FragmentSpread) {
	v.directives(s.Directives, ast.LocationFragmentSpread)
	def := v.fragments[s.Name]
	if def == nil {
		v.fail(at(s.Position), "Unknown fragment %q.", s.Name)
		return
	}
	s.Definition = def
	v.scope.spreads = append(v.scope.spreads, s)
	if typ := v.schema.Types[def.TypeCondition]; typ != nil && typ.IsCompositeType() {
		v.overlap(typ, parent, before(s.Position, 1), "Fragment \""+s.Name+"\"")
	}
}

// overlap checks that some value can be of both types.
func (v *validator) overlap(typ, parent *ast.Definition, p place, what string) {
	if typ == nil || parent == nil || typ == parent {
		return
	}
	if v.meet(typ, parent) {
		return
	}
	v.fail([]place{p}, "%s cannot be spread here as objects of type %q can never be of type %q.", what, parent.Name, typ.Name)
}

// meet reports whether two types have a possible type in common; each pair is looked at once.
func (v *validator) meet(a, b *ast.Definition) bool {
	pair := [2]*ast.Definition{a, b}
	if answer, known := v.meets[pair]; known {
		return answer
	}
	set := map[*ast.Definition]bool{}
	for _, t := range v.possible(a) {
		set[t] = true
	}
	v.meets[pair] = slices.ContainsFunc(v.possible(b), func(t *ast.Definition) bool { return set[t] })
	return v.meets[pair]
}

func (v *validator) possible(t *ast.Definition) []*ast.Definition {
	if t.Kind == ast.Object {
		return []*ast.Definition{t}
	}
	return v.schema.PossibleTypes[t.Name]
}

func (v *validator) field(parent *ast.Definition, f *ast.Field) {
	var def *ast.FieldDefinition
	if parent != nil {
		def = fieldOf(v.schema, parent, f.Name)
		if def == nil {
			v.fail(at(f.Position), "Cannot query field %q on type %q.%s", f.Name, parent.Name, v.suggestField(parent, f.Name))
		}
	}
	f.Definition, f.ObjectDefinition = def, parent
	var typ *ast.Definition
	var args ast.ArgumentDefinitionList
	if def != nil {
		typ, args = v.schema.Types[def.Type.Name()], def.Arguments
		v.arguments(args, f.Arguments, `field "`+parent.Name+"."+f.Name+`"`)
		for _, a := range args {
			if required(a) && f.Arguments.ForName(a.Name) == nil {
				v.fail(at(f.Position), "Field %q argument %q of type %q is required, but it was not provided.", f.Name, a.Name, a.Type)
			}
		}
	} else {
		v.untypedArguments(f.Arguments)
	}
	v.directives(f.Directives, ast.LocationField)
	switch {
	case typ != nil && typ.IsLeafType() && len(f.SelectionSet) > 0:
		v.fail([]place{v.brace(f.SelectionSet)}, "Field %q must not have a selection since type %q has no subfields.", f.Name, def.Type)
		typ = nil
	case typ != nil && typ.IsCompositeType() && len(f.SelectionSet) == 0:
		v.fail(at(f.Position), "Field %[1]q of type %[2]q must have a selection of subfields. Did you mean \"%[1]s { ... }\"?", f.Name, def.Type)
	}
	v.selectionSet(typ, f.SelectionSet)
}

func required(a *ast.ArgumentDefinition) bool { return a.Type.NonNull && a.DefaultValue == nil }

// brace is the place where a selection set opens.
func (v *validator) brace(set ast.SelectionSet) place {
	p := set[0].GetPosition()
	if _, ok := set[0].(*ast.Field); ok {
		return before(p, 1)
	}
	return before(p, 2) // a fragment's position is behind its dots
}

func fieldOf(s *ast.Schema, parent *ast.Definition, name string) *ast.FieldDefinition {
	switch {
	case name == "__typename" && parent.IsCompositeType():
		return typename
	case strings.HasPrefix(name, "__") && parent != s.Query:
		return nil
	}
	return parent.Fields.ForName(name)
}

var typename = &ast.FieldDefinition{Name: "__typename", Type: ast.NonNullNamedType("String", nil)}

func (v *validator) suggestField(parent *ast.Definition, name string) string {
	var types []string
	for _, p := range v.schema.PossibleTypes[parent.Name] {
		if parent.IsAbstractType() && p.Fields.ForName(name) != nil {
			types = append(types, p.Name)
		}
	}
	if len(types) > 0 {
		slices.Sort(types)
		return " Did you mean to use an inline fragment on " + core.QuotedOrList(types...) + "?"
	}
	var names []string
	for _, f := range parent.Fields {
		if !strings.HasPrefix(f.Name, "__") {
			names = append(names, f.Name)
		}
	}
	return v.suggest(name, "", names)
}

// directives checks the directives at one place.
func (v *validator) directives(dirs ast.DirectiveList, where ast.DirectiveLocation) {
	first := map[string]*ast.Directive{}
	for _, d := range dirs {
		def := v.schema.Directives[d.Name]
		d.Definition, d.Location = def, where
		p := before(d.Position, 1)
		if def == nil {
			v.fail([]place{p}, "Unknown directive \"@%s\".", d.Name)
			v.untypedArguments(d.Arguments)
			continue
		}
		if !slices.Contains(def.Locations, where) {
			v.fail([]place{p}, "Directive \"@%s\" may not be used on %s.", d.Name, where)
		}
		if f := first[d.Name]; f != nil && !def.IsRepeatable {
			v.fail([]place{before(f.Position, 1), p}, "The directive \"@%s\" can only be used once at this location.", d.Name)
		} else {
			first[d.Name] = d
		}
		v.arguments(def.Arguments, d.Arguments, `directive "@`+d.Name+`"`)
		for _, a := range def.Arguments {
			if required(a) && d.Arguments.ForName(a.Name) == nil {
				v.fail([]place{p}, "Directive \"@%s\" argument %q of type %q is required, but it was not provided.", d.Name, a.Name, a.Type)
			}
		}
	}
}

// arguments checks the arguments of a field or directive.
func (v *validator) arguments(defs ast.ArgumentDefinitionList, args ast.ArgumentList, of string) {
	v.uniqueArguments(args)
	for _, a := range args {
		def := defs.ForName(a.Name)
		if def == nil {
			names := make([]string, len(defs))
			for i, d := range defs {
				names[i] = d.Name
			}
			v.fail(at(a.Position), "Unknown argument %q on %s.%s", a.Name, of, v.suggest(a.Name, "", names))
			v.value(a.Value, nil, input{})
			continue
		}
		v.value(a.Value, def.Type, input{hasDefault: def.DefaultValue != nil})
	}
}

func (v *validator) untypedArguments(args ast.ArgumentList) {
	v.uniqueArguments(args)
	for _, a := range args {
		v.value(a.Value, nil, input{})
	}
}

func (v *validator) uniqueArguments(args ast.ArgumentList) {
	if len(args) < 2 {
		return
	}
	byName := map[string][]place{}
	for _, a := range args {
		byName[a.Name] = append(byName[a.Name], here(a.Position))
	}
	for _, name := range sorted(byName) {
		if same := byName[name]; len(same) > 1 {
			v.fail(same, "There can be only one argument named %q.", name)
		}
	}
}

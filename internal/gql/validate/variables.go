package validate

import (
	"github.com/vektah/gqlparser/v2/ast"
)

// variables checks for each operation the variables that it and its fragments use.
func (v *validator) variables() {
	fragments := map[string]*scope{}
	for _, s := range v.scopes {
		if s.fragment != nil && fragments[s.fragment.Name] == nil {
			fragments[s.fragment.Name] = s
		}
	}
	for _, s := range v.scopes {
		if s.op == nil {
			continue
		}
		defs := make(map[string]*ast.VariableDefinition, len(s.op.VariableDefinitions))
		for _, d := range s.op.VariableDefinitions {
			if defs[d.Variable] == nil {
				defs[d.Variable] = d
			}
		}
		used := map[string]bool{}
		seen := map[*scope]bool{}
		var check func(*scope)
		check = func(at *scope) {
			if at == nil || seen[at] {
				return
			}
			seen[at] = true
			for i := range at.usages {
				u := &at.usages[i]
				used[u.value.Raw] = true
				v.usage(s.op, defs[u.value.Raw], u)
			}
			for _, spread := range at.spreads {
				check(fragments[spread.Name])
			}
		}
		check(s)
		for _, d := range s.op.VariableDefinitions {
			if !used[d.Variable] {
				v.fail(at(d.Position), "Variable \"$%s\" is never used%s.", d.Variable, inOperation(s.op))
			}
		}
	}
}

func inOperation(op *ast.OperationDefinition) string {
	if op.Name == "" {
		return ""
	}
	return ` in operation "` + op.Name + `"`
}

// usage checks one use of a variable in an operation.
func (v *validator) usage(op *ast.OperationDefinition, def *ast.VariableDefinition, u *usage) {
	name := u.value.Raw
	if def == nil {
		by := ""
		if op.Name != "" {
			by = ` by operation "` + op.Name + `"`
		}
		v.fail([]place{here(u.value.Position), here(op.Position)}, "Variable \"$%s\" is not defined%s.", name, by)
		return
	}
	if u.typ == nil || v.schema.Types[def.Type.Name()] == nil {
		return
	}
	places := []place{here(def.Position), here(u.value.Position)}
	if !allowed(def, u) {
		v.fail(places, "Variable \"$%s\" of type %q used in position expecting type %q.", name, def.Type, u.typ)
	}
	if u.oneOf != "" && !def.Type.NonNull {
		v.fail(places, "Variable \"$%s\" is of type %q but must be non-nullable to be used for OneOf Input Object %q.", name, def.Type, u.oneOf)
	}
}

// allowed reports whether a variable may stand where u does. A default, here or there, stands in for null.
func allowed(def *ast.VariableDefinition, u *usage) bool {
	want := *u.typ
	if want.NonNull && !def.Type.NonNull {
		hasDefault := def.DefaultValue != nil && def.DefaultValue.Kind != ast.NullValue
		if !hasDefault && !u.hasDefault {
			return false
		}
		want.NonNull = false
	}
	return subtype(def.Type, &want)
}

func subtype(t, of *ast.Type) bool {
	switch {
	case of.NonNull && !t.NonNull:
		return false
	case of.Elem != nil:
		return t.Elem != nil && subtype(t.Elem, of.Elem)
	}
	return t.Elem == nil && t.NamedType == of.NamedType
}

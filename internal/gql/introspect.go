package gql

import (
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// The introspection types of the specification, over gqlparser's schema. Types and directives come sorted by name, all
// else in its own order, as SDL prints it.

type introSchema struct{ s *ast.Schema }

func (introSchema) typename() string { return "__Schema" }

func (i introSchema) get(field string, _ map[string]any) any {
	switch field {
	case "description":
		return text(i.s.Description)
	case "types":
		var out []any
		for _, name := range sortedKeys(i.s.Types) {
			out = append(out, introType{s: i.s, def: i.s.Types[name]})
		}
		return out
	case "queryType":
		return root(i.s, i.s.Query)
	case "mutationType":
		return root(i.s, i.s.Mutation)
	case "subscriptionType":
		return root(i.s, i.s.Subscription)
	case "directives":
		out := []any{}
		for _, name := range sortedKeys(i.s.Directives) {
			out = append(out, introDirective{i.s, i.s.Directives[name]})
		}
		return out
	}
	return nil
}

func root(s *ast.Schema, def *ast.Definition) any {
	if def == nil {
		return nil
	}
	return introType{s: s, def: def}
}

// text is a string, or nil where there is none.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// introType is a named type, or with typ a list or non-null one.
type introType struct {
	s   *ast.Schema
	def *ast.Definition
	typ *ast.Type
}

func introOf(s *ast.Schema, t *ast.Type) any {
	if t.NonNull || t.Elem != nil {
		return introType{s: s, typ: t}
	}
	return introType{s: s, def: s.Types[t.NamedType]}
}

func (introType) typename() string { return "__Type" }

func (i introType) get(field string, args map[string]any) any {
	if i.typ != nil {
		return i.wrapped(field)
	}
	d := i.def
	deprecated, _ := args["includeDeprecated"].(bool)
	switch field {
	case "kind":
		return string(d.Kind)
	case "name":
		return d.Name
	case "description":
		return text(d.Description)
	case "specifiedByURL":
		if dir := d.Directives.ForName("specifiedBy"); dir != nil && d.Kind == ast.Scalar {
			return dir.Arguments.ForName("url").Value.Raw
		}
	case "isOneOf":
		if d.Kind == ast.InputObject {
			return d.Directives.ForName("oneOf") != nil
		}
	case "fields":
		if d.Kind == ast.Object || d.Kind == ast.Interface {
			return i.fields(deprecated)
		}
	case "inputFields":
		if d.Kind == ast.InputObject {
			return i.inputFields(deprecated)
		}
	case "interfaces":
		if d.Kind == ast.Object || d.Kind == ast.Interface {
			out := []any{}
			for _, name := range d.Interfaces {
				out = append(out, introType{s: i.s, def: i.s.Types[name]})
			}
			return out
		}
	case "possibleTypes":
		if d.IsAbstractType() {
			out := []any{}
			for _, p := range i.s.PossibleTypes[d.Name] {
				if p.Kind == ast.Object {
					out = append(out, introType{s: i.s, def: p})
				}
			}
			return out
		}
	case "enumValues":
		if d.Kind == ast.Enum {
			out := []any{}
			for _, v := range d.EnumValues {
				if deprecated || v.Directives.ForName("deprecated") == nil {
					out = append(out, introValue{v.Name, v.Description, v.Directives})
				}
			}
			return out
		}
	}
	return nil
}

func (i introType) wrapped(field string) any {
	switch field {
	case "kind":
		if i.typ.NonNull {
			return "NON_NULL"
		}
		return "LIST"
	case "ofType":
		if i.typ.NonNull {
			below := *i.typ
			below.NonNull = false
			return introOf(i.s, &below)
		}
		return introOf(i.s, i.typ.Elem)
	}
	return nil
}

func (i introType) fields(deprecated bool) any {
	out := []any{}
	for _, f := range i.def.Fields {
		if !strings.HasPrefix(f.Name, "__") && (deprecated || f.Directives.ForName("deprecated") == nil) {
			out = append(out, introField{i.s, f})
		}
	}
	return out
}

func (i introType) inputFields(deprecated bool) any {
	out := []any{}
	for _, f := range i.def.Fields {
		if deprecated || f.Directives.ForName("deprecated") == nil {
			out = append(out, introInput{i.s, f.Name, f.Description, f.Type, f.DefaultValue, f.Directives})
		}
	}
	return out
}

type introField struct {
	s *ast.Schema
	f *ast.FieldDefinition
}

func (introField) typename() string { return "__Field" }

func (i introField) get(field string, args map[string]any) any {
	switch field {
	case "name":
		return i.f.Name
	case "description":
		return text(i.f.Description)
	case "args":
		deprecated, _ := args["includeDeprecated"].(bool)
		return introArgs(i.s, i.f.Arguments, deprecated)
	case "type":
		return introOf(i.s, i.f.Type)
	}
	return deprecation(i.f.Directives, field)
}

func introArgs(s *ast.Schema, args ast.ArgumentDefinitionList, deprecated bool) any {
	out := []any{}
	for _, a := range args {
		if deprecated || a.Directives.ForName("deprecated") == nil {
			out = append(out, introInput{s, a.Name, a.Description, a.Type, a.DefaultValue, a.Directives})
		}
	}
	return out
}

func deprecation(dirs ast.DirectiveList, field string) any {
	dir := dirs.ForName("deprecated")
	switch {
	case field == "isDeprecated":
		return dir != nil
	case field == "deprecationReason" && dir != nil:
		return deprecationReason(dir)
	}
	return nil
}

type introInput struct {
	s           *ast.Schema
	name        string
	description string
	typ         *ast.Type
	def         *ast.Value
	dirs        ast.DirectiveList
}

func (introInput) typename() string { return "__InputValue" }

func (i introInput) get(field string, _ map[string]any) any {
	switch field {
	case "name":
		return i.name
	case "description":
		return text(i.description)
	case "type":
		return introOf(i.s, i.typ)
	case "defaultValue":
		if i.def != nil {
			return printValue(i.def)
		}
		return nil
	}
	return deprecation(i.dirs, field)
}

type introValue struct {
	name        string
	description string
	dirs        ast.DirectiveList
}

func (introValue) typename() string { return "__EnumValue" }

func (i introValue) get(field string, _ map[string]any) any {
	switch field {
	case "name":
		return i.name
	case "description":
		return text(i.description)
	}
	return deprecation(i.dirs, field)
}

type introDirective struct {
	s *ast.Schema
	d *ast.DirectiveDefinition
}

func (introDirective) typename() string { return "__Directive" }

func (i introDirective) get(field string, args map[string]any) any {
	switch field {
	case "name":
		return i.d.Name
	case "description":
		return text(i.d.Description)
	case "isRepeatable":
		return i.d.IsRepeatable
	case "locations":
		out := []any{}
		for _, l := range i.d.Locations {
			out = append(out, string(l))
		}
		return out
	case "args":
		deprecated, _ := args["includeDeprecated"].(bool)
		return introArgs(i.s, i.d.Arguments, deprecated)
	}
	return nil
}

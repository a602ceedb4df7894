package validate

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// input is what is known of the place where a value stands, beside its type.
type input struct {
	hasDefault bool   // it has a default
	oneOf      string // it is a field of this OneOf input type
	unchecked  bool   // an error above it was told, or any value goes
}

// value checks a value against a type; nil: it is not known.
func (v *validator) value(val *ast.Value, t *ast.Type, in input) {
	val.ExpectedType = t
	if val.Kind == ast.Variable {
		v.scope.usages = append(v.scope.usages, usage{val, t, in.hasDefault, in.oneOf})
		return
	}
	known := t != nil && !in.unchecked
	switch {
	case val.Kind == ast.NullValue:
		if known && t.NonNull {
			v.fail(v.start(val), "Expected value of type %q, found null.", t)
		}
	case val.Kind == ast.ListValue:
		elem := t
		unchecked := in.unchecked
		if t != nil && t.Elem != nil {
			elem = t.Elem
		} else if known {
			v.leaf(val, t)
			unchecked = true
		}
		for _, child := range val.Children {
			v.value(child.Value, elem, input{unchecked: unchecked})
		}
	case val.Kind == ast.ObjectValue:
		v.object(val, t, in)
	case known:
		v.leaf(val, t)
	}
}

func (v *validator) object(val *ast.Value, t *ast.Type, in input) {
	v.uniqueFields(val)
	var def *ast.Definition
	if t != nil {
		def = v.schema.Types[t.Name()]
	}
	if def == nil || def.Kind != ast.InputObject {
		if t != nil && !in.unchecked {
			v.leaf(val, t)
		}
		for _, child := range val.Children {
			v.value(child.Value, nil, input{unchecked: true})
		}
		return
	}
	val.Definition = def
	given := make(map[string]*ast.Value, len(val.Children))
	for _, child := range val.Children {
		given[child.Name] = child.Value
	}
	oneOf := ""
	if def.Directives.ForName("oneOf") != nil {
		oneOf = def.Name
	}
	if !in.unchecked {
		for _, f := range def.Fields {
			if given[f.Name] == nil && f.Type.NonNull && f.DefaultValue == nil {
				v.fail(v.start(val), "Field \"%s.%s\" of required type %q was not provided.", def.Name, f.Name, f.Type)
			}
		}
		if oneOf != "" {
			v.oneOf(val, def)
		}
	}
	for _, child := range val.Children {
		f := def.Fields.ForName(child.Name)
		if f == nil {
			if !in.unchecked {
				v.fail(at(child.Position), "Field %q is not defined by type %q.%s", child.Name, def.Name, v.suggest(child.Name, "", fieldNames(def)))
			}
			v.value(child.Value, nil, input{unchecked: true})
			continue
		}
		v.value(child.Value, f.Type, input{hasDefault: f.DefaultValue != nil, oneOf: oneOf, unchecked: in.unchecked})
	}
}

func (v *validator) oneOf(val *ast.Value, def *ast.Definition) {
	switch {
	case len(val.Children) != 1:
		v.fail(v.start(val), "OneOf Input Object %q must specify exactly one key.", def.Name)
	case val.Children[0].Value.Kind == ast.NullValue:
		v.fail(v.start(val), "Field \"%s.%s\" must be non-null.", def.Name, val.Children[0].Name)
	}
}

func fieldNames(def *ast.Definition) []string {
	names := make([]string, len(def.Fields))
	for i, f := range def.Fields {
		names[i] = f.Name
	}
	return names
}

func (v *validator) uniqueFields(val *ast.Value) {
	if len(val.Children) < 2 {
		return
	}
	first := map[string]place{}
	for _, child := range val.Children {
		p := here(child.Position)
		if was, ok := first[child.Name]; ok {
			v.fail([]place{was, p}, "There can be only one input field named %q.", child.Name)
		} else {
			first[child.Name] = p
		}
	}
}

func (v *validator) start(val *ast.Value) []place { return at(val.Position) }

// leaf checks a literal that must be a scalar or an enum value of a type, a list's elements included: one value stands
// for a list of it.
func (v *validator) leaf(val *ast.Value, t *ast.Type) {
	def := v.schema.Types[t.Name()]
	if def == nil {
		return
	}
	switch {
	case def.Kind == ast.Enum:
		if val.Kind != ast.EnumValue || def.EnumValues.ForName(val.Raw) == nil {
			v.badEnum(val, def)
		}
	case def.Kind != ast.Scalar:
		v.fail(v.start(val), "Expected value of type %q, found %s.", t, show(val))
	case def.BuiltIn:
		if what := builtin(def.Name, val); what != "" {
			v.fail(v.start(val), "%s cannot represent %s value: %s", def.Name, what, show(val))
		}
	default:
		if wrong := v.scalar(def, val); wrong != "" {
			v.fail(v.start(val), "%s", wrong)
		}
	}
}

func (v *validator) badEnum(val *ast.Value, def *ast.Definition) {
	names := make([]string, len(def.EnumValues))
	for i, e := range def.EnumValues {
		names[i] = e.Name
	}
	hint := v.suggest(val.Raw, "the enum value ", names)
	if val.Kind != ast.EnumValue {
		v.fail(v.start(val), "Enum %q cannot represent non-enum value: %s.%s", def.Name, show(val), hint)
		return
	}
	v.fail(v.start(val), "Value %q does not exist in %q enum.%s", val.Raw, def.Name, hint)
}

// builtin says as what a literal does not serve for one of GraphQL's own scalars; nothing: it does.
func builtin(name string, val *ast.Value) string {
	text := val.Kind == ast.StringValue || val.Kind == ast.BlockValue
	switch name {
	case "Int":
		if val.Kind != ast.IntValue {
			return "non-integer"
		}
		if n, err := strconv.ParseInt(val.Raw, 10, 64); err != nil || n < math.MinInt32 || n > math.MaxInt32 {
			return "non 32-bit signed integer"
		}
	case "Float":
		if val.Kind != ast.IntValue && val.Kind != ast.FloatValue {
			return "non numeric"
		}
		if f, err := strconv.ParseFloat(val.Raw, 64); err != nil || math.IsInf(f, 0) {
			return "non numeric"
		}
	case "String":
		if !text {
			return "a non string"
		}
	case "Boolean":
		if val.Kind != ast.BooleanValue {
			return "a non boolean"
		}
	case "ID":
		if !text && val.Kind != ast.IntValue {
			return "a non-string and non-integer"
		}
	}
	return ""
}

// show is a literal as an error quotes it: not longer than a line.
func show(val *ast.Value) string {
	const line = 80
	var b strings.Builder
	write(&b, val, line)
	if s := b.String(); len(s) > line {
		return fmt.Sprintf("%.80s…", s)
	}
	return b.String()
}

func write(b *strings.Builder, val *ast.Value, limit int) {
	if b.Len() > limit {
		return
	}
	switch val.Kind {
	case ast.ListValue:
		b.WriteByte('[')
		for i, c := range val.Children {
			if i > 0 {
				b.WriteString(", ")
			}
			write(b, c.Value, limit)
		}
		b.WriteByte(']')
	case ast.ObjectValue:
		b.WriteByte('{')
		for i, c := range val.Children {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(c.Name + ": ")
			write(b, c.Value, limit)
		}
		b.WriteByte('}')
	default:
		b.WriteString(val.String())
	}
}

package gql

import (
	"encoding/json"

	"github.com/vektah/gqlparser/v2/ast"
)

// untyped is the JSON that a literal looks like.
func (c *coercer) untyped(v *ast.Value, depth int) (any, *badInput) {
	if depth > c.limits.Nesting+c.limits.Depth {
		return nil, &badInput{want: "nested too deeply", pos: v.Position}
	}
	switch v.Kind {
	case ast.Variable:
		return c.vars[v.Raw], nil
	case ast.IntValue, ast.FloatValue:
		return json.Number(v.Raw), nil
	case ast.BooleanValue:
		return v.Raw == "true", nil
	case ast.NullValue:
		return nil, nil
	case ast.ListValue:
		return c.list(len(v.Children), func(i int) (any, *badInput) { return c.untyped(v.Children[i].Value, depth+1) }, v.Position)
	case ast.ObjectValue:
		out := map[string]any{}
		for _, child := range v.Children {
			if c.absent(child.Value) {
				continue
			}
			got, bad := c.untyped(child.Value, depth+1)
			if bad != nil {
				return nil, within(child.Name, bad)
			}
			out[child.Name] = got
		}
		return out, nil
	}
	return v.Raw, nil
}

// arguments coerces a field's or a directive's arguments.
func (c *coercer) arguments(defs ast.ArgumentDefinitionList, given ast.ArgumentList, pos *ast.Position) (map[string]any, *gqlError) {
	if len(defs) == 0 {
		return nil, nil
	}
	out := make(map[string]any, len(defs))
	for _, def := range defs {
		arg := given.ForName(def.Name)
		var got any
		var bad *badInput
		switch {
		case arg != nil && !c.absent(arg.Value):
			pos = arg.Value.Position
			got, bad = c.literal(def.Type, arg.Value, 0)
		case def.DefaultValue != nil:
			got, bad = c.literal(def.Type, def.DefaultValue, 0)
		case def.Type.NonNull:
			return nil, newError(codeInput, pos, "Argument %q of required type %q was not provided.", def.Name, def.Type)
		default:
			continue
		}
		if bad != nil {
			return nil, bad.error(pos, `Argument "`+def.Name+`" has an invalid value`)
		}
		out[def.Name] = got
	}
	return out, nil
}

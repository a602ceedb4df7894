package gql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// coercer turns what a client sent, in the document or in variables, into values: nil, bool, int, float64, string,
// []any, map[string]any. Scalars of ours become their canonical text, enums their name.
type coercer struct {
	schema *ast.Schema
	limits Limits
	vars   map[string]any // coerced; absent ones are absent
}

// badInput is a value that does not fit; at is where below the value that was coerced.
type badInput struct {
	at   []any
	want string
	pos  *ast.Position

	limit string // not empty: which limit it goes beyond
	max   int
}

// error is the GraphQL error of a value that a client gave at pos, unless it is known more exactly.
func (e *badInput) error(pos *ast.Position, what string) *gqlError {
	if e.pos != nil {
		pos = e.pos
	}
	message := what + "; " + e.Error() + "."
	if e.limit != "" {
		return limitError(pos, e.limit, e.max, "%s", message)
	}
	return newError(codeInput, pos, "%s", message)
}

func (e *badInput) Error() string {
	if len(e.at) == 0 {
		return e.want
	}
	var b strings.Builder
	for _, p := range e.at {
		if i, ok := p.(int); ok {
			fmt.Fprintf(&b, "[%d]", i)
		} else {
			fmt.Fprintf(&b, ".%v", p)
		}
	}
	return "at " + strings.TrimPrefix(b.String(), ".") + ": " + e.want
}

func within(p any, err *badInput) *badInput {
	if err != nil {
		err.at = append([]any{p}, err.at...)
	}
	return err
}

// variables coerces a request's variables to the types that the operation declares.
func (c *coercer) variables(op *ast.OperationDefinition, raw []byte) errorList {
	given, err := c.readVariables(raw)
	if err != nil {
		return errorList{err}
	}
	c.vars = make(map[string]any, len(op.VariableDefinitions))
	var errs errorList
	for _, def := range op.VariableDefinitions {
		v, ok := given[def.Variable]
		var bad *badInput
		var got any
		switch {
		case ok:
			got, bad = c.value(def.Type, v, 0)
		case def.DefaultValue != nil:
			got, bad = c.literal(def.Type, def.DefaultValue, 0)
		case def.Type.NonNull:
			errs = append(errs, newError(codeInput, def.Position, "Variable \"$%s\" of required type \"%s\" was not provided.", def.Variable, def.Type))
			continue
		default:
			continue
		}
		if bad != nil {
			errs = append(errs, bad.error(def.Position, `Variable "$`+def.Variable+`" got an invalid value`))
			continue
		}
		c.vars[def.Variable] = got
	}
	return errs
}

func (c *coercer) readVariables(raw []byte) (map[string]any, *gqlError) {
	if len(raw) > c.limits.Variables {
		return nil, limitError(nil, "variables", c.limits.Variables, "The variables have more than %d bytes.", c.limits.Variables)
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var given map[string]any
	err := d.Decode(&given)
	if _, extra := d.Token(); err == nil && !errors.Is(extra, io.EOF) {
		err = errors.New("something follows the object")
	}
	if err != nil {
		return nil, newError(codeInput, nil, "Variables must be a JSON object: %s.", err)
	}
	return given, nil
}

// value coerces a variable's JSON value.
func (c *coercer) value(t *ast.Type, v any, depth int) (any, *badInput) {
	if depth > c.limits.Nesting+c.limits.Depth {
		return nil, &badInput{want: "nested too deeply"}
	}
	if v == nil {
		if t.NonNull {
			return nil, &badInput{want: fmt.Sprintf("expected non-nullable type %q not to be null", t)}
		}
		return nil, nil
	}
	if t.Elem != nil {
		items, ok := v.([]any)
		if !ok {
			items = []any{v}
		}
		return c.list(len(items), func(i int) (any, *badInput) { return c.value(t.Elem, items[i], depth+1) }, nil)
	}
	def := c.schema.Types[t.NamedType]
	if def == nil {
		return nil, &badInput{want: "unknown type " + t.NamedType}
	}
	if def.Kind != ast.InputObject {
		in, ok := jsonInput(v)
		if !ok && !anyJSON(def) {
			return nil, &badInput{want: fmt.Sprintf("expected %s", def.Name)}
		}
		if def.Kind == ast.Enum && in.kind == ast.StringValue {
			in.kind = ast.EnumValue
		}
		return c.leaf(def, in)
	}
	given, ok := v.(map[string]any)
	if !ok {
		return nil, &badInput{want: fmt.Sprintf("expected type %q to be an object", def.Name)}
	}
	names := make([]string, 0, len(given))
	for name := range given {
		if def.Fields.ForName(name) == nil {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		sort.Strings(names)
		return nil, &badInput{want: fmt.Sprintf("field %q is not defined by type %q", names[0], def.Name)}
	}
	return c.object(def, depth, nil, func(f *ast.FieldDefinition) (any, bool, *badInput) {
		v, ok := given[f.Name]
		if !ok {
			return nil, false, nil
		}
		got, bad := c.value(f.Type, v, depth+1)
		return got, true, bad
	})
}

// literal coerces a value in the document.
func (c *coercer) literal(t *ast.Type, v *ast.Value, depth int) (any, *badInput) {
	if depth > c.limits.Nesting+c.limits.Depth {
		return nil, &badInput{want: "nested too deeply", pos: v.Position}
	}
	if v.Kind == ast.Variable {
		got := c.vars[v.Raw]
		if got == nil && t.NonNull {
			return nil, &badInput{want: fmt.Sprintf("expected non-nullable type %q not to be null", t), pos: v.Position}
		}
		return got, nil
	}
	if v.Kind == ast.NullValue {
		if t.NonNull {
			return nil, &badInput{want: fmt.Sprintf("expected non-nullable type %q not to be null", t), pos: v.Position}
		}
		return nil, nil
	}
	if t.Elem != nil {
		if v.Kind != ast.ListValue {
			one, bad := c.literal(t.Elem, v, depth+1)
			return []any{one}, bad
		}
		return c.list(len(v.Children), func(i int) (any, *badInput) {
			return c.literal(t.Elem, v.Children[i].Value, depth+1)
		}, v.Position)
	}
	def := c.schema.Types[t.NamedType]
	if def == nil {
		return nil, &badInput{want: "unknown type " + t.NamedType, pos: v.Position}
	}
	if def.Kind != ast.InputObject {
		in := literalInput(v)
		if anyJSON(def) {
			var bad *badInput
			if in.json, bad = c.untyped(v, depth); bad != nil {
				return nil, bad
			}
		}
		got, bad := c.leaf(def, in)
		if bad != nil {
			bad.pos = v.Position
		}
		return got, bad
	}
	if v.Kind != ast.ObjectValue {
		return nil, &badInput{want: fmt.Sprintf("expected type %q to be an object", def.Name), pos: v.Position}
	}
	return c.object(def, depth, v.Position, func(f *ast.FieldDefinition) (any, bool, *badInput) {
		child := v.Children.ForName(f.Name)
		if child == nil || c.absent(child) {
			return nil, false, nil
		}
		got, bad := c.literal(f.Type, child, depth+1)
		return got, true, bad
	})
}

// absent reports whether a value is a variable that was not given.
func (c *coercer) absent(v *ast.Value) bool {
	if v.Kind != ast.Variable {
		return false
	}
	_, ok := c.vars[v.Raw]
	return !ok
}

func (c *coercer) list(n int, item func(int) (any, *badInput), pos *ast.Position) (any, *badInput) {
	if n > c.limits.List {
		return nil, &badInput{want: fmt.Sprintf("a list may have %d values, not %d", c.limits.List, n), pos: pos, limit: "list", max: c.limits.List}
	}
	out := make([]any, n)
	for i := range out {
		var bad *badInput
		if out[i], bad = item(i); bad != nil {
			return nil, within(i, bad)
		}
	}
	return out, nil
}

func (c *coercer) object(def *ast.Definition, depth int, pos *ast.Position, field func(*ast.FieldDefinition) (any, bool, *badInput)) (any, *badInput) {
	out := map[string]any{}
	for _, f := range def.Fields {
		got, ok, bad := field(f)
		if bad == nil && !ok && f.DefaultValue != nil {
			got, bad = c.literal(f.Type, f.DefaultValue, depth+1)
			ok = true
		}
		if bad != nil {
			return nil, within(f.Name, bad)
		}
		if ok {
			out[f.Name] = got
		} else if f.Type.NonNull {
			return nil, &badInput{want: fmt.Sprintf("field %q of required type %q was not provided", f.Name, f.Type), pos: pos}
		}
	}
	if def.Directives.ForName("oneOf") != nil {
		for _, v := range out {
			if len(out) != 1 || v == nil {
				return nil, &badInput{want: fmt.Sprintf("exactly one key must be specified for OneOf type %q, and not null", def.Name), pos: pos}
			}
		}
		if len(out) != 1 {
			return nil, &badInput{want: fmt.Sprintf("exactly one key must be specified for OneOf type %q", def.Name), pos: pos}
		}
	}
	return out, nil
}

// leaf coerces a scalar's or an enum's value.
func (c *coercer) leaf(def *ast.Definition, in input) (any, *badInput) {
	if def.Kind == ast.Enum {
		if in.kind != ast.EnumValue || def.EnumValues.ForName(in.text) == nil {
			return nil, &badInput{want: fmt.Sprintf("value %.80q does not exist in %q enum", in.text, def.Name)}
		}
		return in.text, nil
	}
	var got any
	var want string
	switch s := scalarByName(def.Name); {
	case s != nil:
		got, want = s.parse(in)
	case def.BuiltIn:
		got, want = parseBuiltin(def.Name, in)
	default:
		return in.json, nil // a scalar of custom SDL takes any value
	}
	if want != "" {
		return nil, &badInput{want: fmt.Sprintf("%s cannot represent %.80q: expected %s", def.Name, in.text, want)}
	}
	return got, nil
}

// anyJSON reports whether a scalar takes any value, lists and objects included.
func anyJSON(def *ast.Definition) bool {
	return def.Kind == ast.Scalar && !def.BuiltIn && (def.Name == "JSON" || scalarByName(def.Name) == nil)
}

// literalInput describes a leaf of the document.
func literalInput(v *ast.Value) input {
	in := input{kind: v.Kind, text: v.Raw, lit: true}
	if v.Kind == ast.BlockValue {
		in.kind = ast.StringValue
	}
	return in
}

// jsonInput describes a leaf of JSON.
func jsonInput(v any) (input, bool) {
	switch v := v.(type) {
	case string:
		return input{kind: ast.StringValue, text: v, json: v}, true
	case bool:
		return input{kind: ast.BooleanValue, text: fmt.Sprint(v), json: v}, true
	case json.Number:
		in := input{kind: ast.IntValue, text: string(v), json: v}
		if strings.ContainsAny(in.text, ".eE") {
			in.kind = ast.FloatValue
		}
		return in, true
	}
	return input{kind: ast.ObjectValue, json: v}, false
}

package gql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// custom is a custom field as the schema has it.
type custom struct {
	Field
	name      string
	channel   string
	signature string
}

// customPlan is the part of a Plan that is a custom field's.
type customPlan struct {
	*custom
	schema  *Schema
	resumes bool // it has the argument after
	cursors bool // it shows cursors: of its own, or beside the data
}

// addCustom parses the custom fields, checks that they fit the base of every schema, and takes their names. All of them
// are checked together and without the tables: what is code must not fail because of a table.
func (s *Schema) addCustom(b *builder, fields []Field) (*ast.SchemaDocument, error) {
	all := &ast.SchemaDocument{}
	var text strings.Builder
	for i, f := range fields {
		doc, err := parser.ParseSchema(&ast.Source{Name: fmt.Sprintf("field %d", i+1), Input: f.SDL})
		if err != nil {
			return nil, fmt.Errorf("custom field: %w", err)
		}
		name, err := checkCustom(doc)
		if err != nil {
			return nil, fmt.Errorf("custom field %d: %w", i+1, err)
		}
		if s.customs[name] != nil {
			return nil, fmt.Errorf("custom field %s is there twice, or ours", name)
		}
		c := &custom{Field: f, name: name, channel: f.Channel}
		if c.channel == "" {
			c.channel = name
		}
		s.customs[name] = c
		b.roots[name] = true
		for _, d := range doc.Definitions {
			if b.types[d.Name] {
				return nil, fmt.Errorf("custom field %s: the type name %s is taken", name, d.Name)
			}
			b.types[d.Name] = true
		}
		text.WriteString(f.SDL)
		all.Merge(doc)
	}
	for _, c := range s.customs {
		c.signature = fmt.Sprintf("%q %q %q %t", c.name, c.channel, text.String(), c.SameForAll)
	}
	if len(fields) == 0 {
		return all, nil
	}
	// Validation changes what it validates, so it gets a copy of its own.
	sources := []*ast.Source{validator.Prelude, {Name: "notifyql", Input: baseSDL()}}
	for i, f := range fields {
		sources = append(sources, &ast.Source{Name: fmt.Sprintf("field %d", i+1), Input: f.SDL})
	}
	if _, err := validator.LoadSchema(sources...); err != nil {
		return nil, fmt.Errorf("custom field: %w", err)
	}
	return all, nil
}

// checkCustom returns the name of the one field by which the SDL extends Subscription.
func checkCustom(doc *ast.SchemaDocument) (string, error) {
	if len(doc.Schema)+len(doc.SchemaExtension)+len(doc.Directives)+len(doc.DirectiveExtensions) > 0 {
		return "", errors.New("SDL may define types only")
	}
	name := ""
	for _, ext := range doc.Extensions {
		if ext.Name != "Subscription" || ext.Kind != ast.Object {
			return "", fmt.Errorf("SDL may extend Subscription only, not %s", ext.Name)
		}
		for _, f := range ext.Fields {
			if name != "" {
				return "", fmt.Errorf("SDL must extend Subscription by one field, not by %s and %s", name, f.Name)
			}
			name = f.Name
		}
	}
	for _, d := range doc.Definitions {
		if d.Name == "Subscription" || d.Name == "Query" || d.Name == "Mutation" {
			return "", fmt.Errorf("SDL may not define %s; write: extend type Subscription { … }", d.Name)
		}
		if !validName(d.Name) {
			return "", fmt.Errorf("%s is reserved", d.Name)
		}
	}
	if name == "" {
		return "", errors.New("SDL must extend Subscription by one field: extend type Subscription { name: Type }")
	}
	return name, nil
}

func (s *Schema) planCustom(p *Plan, c *custom, id *auth.Identity) *gqlError {
	p.custom = &customPlan{custom: c, schema: s, resumes: resumes(p.root.def)}
	p.custom.cursors = p.custom.resumes
	p.topics = []change.Topic{{Channel: c.channel}}
	if p.custom.resumes {
		if err := p.startAfter(); err != nil {
			return err
		}
		delete(p.root.args, "after") // no matter of the resolver, nor of the key
	}
	if c.name == channelField {
		p.topics[0].Channel, _ = p.root.args["name"].(string)
		if p.topics[0].Channel == "" {
			return newError(codeInput, p.root.pos, "A channel's name must not be empty.")
		}
		p.custom.cursors = slices.ContainsFunc(p.root.kids["ChannelEvent"], func(s *selection) bool { return s.name == "cursor" })
	}
	var key strings.Builder
	key.WriteString(c.signature)
	key.WriteByte('\n')
	args, _ := json.Marshal(p.root.args) // a map marshals with its keys sorted
	key.Write(args)
	key.WriteByte('\n')
	p.root.appendShape(&key)
	if c.Resolve != nil && !c.SameForAll && id != nil {
		who, _ := json.Marshal([]any{id.UserID, id.Tenants, id.Roles, fmt.Sprint(id.Claims)})
		key.WriteByte('\n')
		key.Write(who)
	}
	p.key = key.String()
	return nil
}

// encodeEvent resolves an event and writes the part of it that is selected.
func (p *Plan) encodeEvent(ctx context.Context, m *subs.Match) []byte {
	if p.custom.name == channelField {
		return p.event(channelEvent{m}, nil)
	}
	v, err := p.resolve(ctx, m)
	if errors.Is(err, ErrSkip) {
		return nil
	}
	out := p.event(v, err)
	if p.custom.resumes && m.Before != nil {
		out = append(out[:len(out)-1], `,"extensions":{"cursor":`...)
		out = append(appendCursor(out, m), '}', '}')
	}
	return out
}

// syncedEvent is the news that all before at was sent. Only a field that may be null can bring it.
func (p *Plan) syncedEvent(at *change.Point) []byte {
	switch {
	case p.custom.name == channelField:
		return p.event(channelSynced{p.topics[0].Channel, at}, nil)
	case !p.custom.resumes || p.root.def.Type.NonNull:
		return nil
	}
	out := append(slices.Clone(p.prefix), `null},"extensions":{"synced":true,"cursor":`...)
	return append(appendPlace(out, at), '}', '}')
}

// event writes a field's value, or its error.
func (p *Plan) event(v any, err error) []byte {
	r := &result{buf: append(make([]byte, 0, 512), p.prefix...)}
	w := &writer{result: r, schema: p.custom.schema.ast, path: []any{p.root.key}}
	ok := false
	if err != nil {
		w.fail(codeResolver, p.root, "%s", err)
	} else {
		ok = w.value(p.root, p.root.def.Type, v)
	}
	if !ok {
		if p.root.def.Type.NonNull {
			r.buf = append(r.buf[:0], `{"data":null}`...)
			return r.finish()
		}
		r.buf = append(r.buf, "null"...)
	}
	r.buf = append(r.buf, '}', '}')
	return r.finish()
}

// resolve calls the resolver and gives its answer as JSON; nil for none. A panic is the resolver's failure, told to the
// log and not to the client.
func (p *Plan) resolve(ctx context.Context, m *subs.Match) (v any, err error) {
	c := p.custom
	defer func() {
		if r := recover(); r != nil {
			c.schema.log().Error("a resolver panicked", "field", c.name, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			v, err = nil, errors.New("internal error")
		}
	}()
	if c.Resolve == nil {
		if len(m.Change.New) > 0 && !json.Valid(m.Change.New) {
			return nil, errors.New("the event's data is no JSON")
		}
		return json.RawMessage(m.Change.New), nil
	}
	got, err := c.Resolve(ctx, &Event{
		Field: c.name, Args: maps.Clone(p.root.args), Type: m.Change.EventType, Channel: m.Change.Topic.Channel, Tenant: m.Change.Tenant,
		Shared: m.Change.Shared, At: m.Change.At, Data: slices.Clone(m.Change.New), Identity: m.Identity,
	})
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the resolver took too long: %w", err)
	}
	data, err := json.Marshal(got)
	if err != nil {
		return nil, fmt.Errorf("the resolver's value is no JSON: %w", err)
	}
	return json.RawMessage(data), nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

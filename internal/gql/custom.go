package gql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// custom is a custom field as the schema has it.
type custom struct {
	Field
	name      string // of a row's field: Type.field
	on        string // the type that it extends
	field     *ast.FieldDefinition
	channel   string
	signature string
	limits    *Limits
	log       *slog.Logger
}

// customPlan is the part of a Plan that is a custom field's.
type customPlan struct {
	*custom
	schema  *Schema
	stuck   *stuck
	event   Event // what all have in common
	resumes bool  // it has the argument after
	cursors bool  // it shows cursors: of its own, or beside the data
}

// addCustom parses the custom fields, checks that they fit the base of every schema, and takes their names. All of them
// are checked together and without the tables: what is code must not fail because of a table. What extends the type of a table's rows is
// not in the document yet.
func (s *Schema) addCustom(b *builder, fields []Field) (*ast.SchemaDocument, error) {
	all := &ast.SchemaDocument{}
	var text, rows strings.Builder
	var customs []*custom
	for i, f := range fields {
		source := fieldSource(i, f.SDL)
		doc, err := parser.ParseSchema(source)
		if err != nil {
			return nil, misfit(err)
		}
		c, err := checkCustom(doc, f)
		if err != nil {
			return nil, misfit(err)
		}
		if c == nil {
			return nil, fmt.Errorf("custom field %d: SDL must extend Subscription by one field: extend type Subscription { name: Type }; or the type of a table's rows", i+1)
		}
		at := c.field.Position
		if s.customs[c.name] != nil || slices.ContainsFunc(customs, func(o *custom) bool { return o.name == c.name }) {
			return nil, misfit(errorAt(at, "the field %s is there twice, or ours", c.name))
		}
		c.limits, c.log = &s.options.Limits, s.log()
		customs = append(customs, c)
		s.names = append(s.names, c.name)
		if c.on == subscriptionType {
			s.customs[c.name] = c
			b.roots[c.name] = true
		} else {
			b.rowFields = append(b.rowFields, c)
			doc.Extensions = nil
		}
		for _, d := range doc.Definitions {
			if b.types[d.Name] {
				return nil, misfit(errorAt(d.Position, "the type name %s is taken", d.Name))
			}
			b.types[d.Name] = true
		}
		text.WriteString(f.SDL)
		all.Merge(doc)
	}
	stubs := map[string]bool{}
	for _, c := range b.rowFields {
		if b.types[c.on] {
			return nil, misfit(errorAt(c.field.Position, "SDL may extend Subscription and types of tables' rows only, not %s", c.on))
		}
		if !stubs[c.on] {
			stubs[c.on] = true
			fmt.Fprintf(&rows, "type %s { %s: Boolean }\n", c.on, standIn)
		}
	}
	for _, c := range customs {
		c.signature = fmt.Sprintf("%q %q %q %t %q", c.name, c.channel, text.String(), c.SameForAll, c.Needs)
	}
	if len(fields) == 0 {
		return all, nil
	}
	// Validation changes what it validates, so it gets a copy of its own.
	sources := []*ast.Source{validator.Prelude, {Name: "notifyql", Input: baseSDL()}, {Name: "rows", Input: rows.String()}}
	for i, f := range fields {
		sources = append(sources, fieldSource(i, f.SDL))
	}
	if _, err := validator.LoadSchema(sources...); err != nil {
		return nil, misfit(err)
	}
	return all, nil
}

const (
	subscriptionType = "Subscription"
	standIn          = "_columns" // the field of a type that stands for one of a table
)

func fieldSource(i int, sdl string) *ast.Source {
	return &ast.Source{Name: fmt.Sprintf("field %d", i+1), Input: sdl}
}

// errorAt is an error of SDL at a place in it.
func errorAt(at *ast.Position, format string, args ...any) error {
	return gqlerror.ErrorPosf(at, format, args...)
}

// misfit says of an error of SDL in which field it is, in which line and column.
func misfit(err error) error {
	var g *gqlerror.Error
	if !errors.As(err, &g) || len(g.Locations) == 0 {
		return fmt.Errorf("custom %w", err)
	}
	file, _ := g.Extensions["file"].(string)
	if file == "" {
		file = "field"
	}
	return fmt.Errorf("custom %s, line %d, column %d: %s", file, g.Locations[0].Line, g.Locations[0].Column, g.Message)
}

// checkCustom checks by itself what a field is made of: nil if there is none.
func checkCustom(doc *ast.SchemaDocument, f Field) (*custom, error) {
	for _, d := range doc.Directives {
		return nil, errorAt(d.Position, "SDL may define types only, not the directive %s", d.Name)
	}
	for _, d := range append(doc.Schema, doc.SchemaExtension...) {
		return nil, errorAt(d.Position, "SDL may define types only, not the schema")
	}
	var c *custom
	for _, ext := range doc.Extensions {
		if ext.Kind != ast.Object || len(ext.Interfaces) > 0 || len(ext.Directives) > 0 {
			return nil, errorAt(ext.Position, "SDL may extend %s by a field only", ext.Name)
		}
		if ext.Name == "Query" || ext.Name == "Mutation" {
			return nil, errorAt(ext.Position, "SDL may extend Subscription and types of tables' rows only, not %s", ext.Name)
		}
		for _, field := range ext.Fields {
			if c != nil {
				return nil, errorAt(field.Position, "SDL must extend a type by one field, not by %s and %s; make two of it", c.field.Name, field.Name)
			}
			if !validName(field.Name) {
				return nil, errorAt(field.Position, "%s is reserved", field.Name)
			}
			c = &custom{Field: f, name: field.Name, on: ext.Name, field: field}
		}
	}
	for _, d := range doc.Definitions {
		if d.Name == subscriptionType || d.Name == "Query" || d.Name == "Mutation" {
			return nil, errorAt(d.Position, "SDL may not define %s; write: extend type Subscription { … }", d.Name)
		}
		if !validName(d.Name) {
			return nil, errorAt(d.Position, "%s is reserved", d.Name)
		}
	}
	if c == nil {
		return nil, nil
	}
	if c.calls == nil {
		c.calls = newCalls()
	}
	return c, c.complete()
}

// complete checks what is beside the SDL.
func (c *custom) complete() error {
	wrong := func(format string, args ...any) error { return errorAt(c.field.Position, format, args...) }
	if c.Resolve != nil && c.ResolveBatch != nil {
		return wrong("the field %s has both Resolve and ResolveBatch", c.name)
	}
	if c.on == subscriptionType {
		if len(c.Needs) > 0 {
			return wrong("the field %s has Needs, which are for fields of rows", c.name)
		}
		if c.channel = c.Channel; c.channel == "" {
			c.channel = c.name
		}
		return nil
	}
	c.name = c.on + "." + c.name
	switch {
	case c.Channel != "":
		return wrong("the field %s has a Channel, which is for fields of Subscription", c.name)
	case !c.resolves():
		return wrong("the field %s has no resolver; set Resolve or ResolveBatch", c.name)
	case len(c.Needs) == 0:
		return wrong("the field %s says in Needs not one column that its resolver is given", c.name)
	}
	for i, name := range c.Needs {
		if slices.Contains(c.Needs[:i], name) {
			return wrong("the field %s needs the column %s twice", c.name, name)
		}
	}
	return nil
}

// FieldNames are the names of the custom fields, in their order: priceChanged, Orders.customer.
func (s *Schema) FieldNames() []string { return s.names }

func (s *Schema) planCustom(p *Plan, c *custom, id *auth.Identity) *gqlError {
	p.custom = &customPlan{custom: c, schema: s, resumes: resumes(p.root.def), stuck: new(stuck)}
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
	if c.resolves() && !c.SameForAll {
		key.WriteByte('\n')
		key.WriteString(identityKey(id))
	}
	p.key = key.String()
	p.custom.event = *c.event(p.root.args, id)
	return nil
}

// encodeEvents gives each event's frame: the part of its value that is selected, or nil for one that is skipped.
func (p *Plan) encodeEvents(ctx context.Context, ms []subs.Matched) [][]byte {
	out := make([][]byte, len(ms))
	for i, a := range p.eventAnswers(ctx, ms) {
		if errors.Is(a.err, ErrSkip) {
			continue
		}
		frame := p.event(a.value, a.err)
		if p.custom.resumes && ms[i].Before != nil {
			frame = append(frame[:len(frame)-1], `,"extensions":{"cursor":`...)
			frame = append(appendCursor(frame, &ms[i].Match), '}', '}')
		}
		out[i] = frame
	}
	return out
}

// eventAnswers are the values of events: a resolver's, or their data.
func (p *Plan) eventAnswers(ctx context.Context, ms []subs.Matched) []answer {
	c := p.custom
	if !c.resolves() {
		out := make([]answer, len(ms))
		for i := range ms {
			if out[i].value = ms[i].Change.New; len(out[i].value) > 0 && !json.Valid(out[i].value) {
				out[i].err = errors.New("the event's data is no JSON")
			}
		}
		return out
	}
	es := make([]*Event, len(ms))
	for i := range ms {
		from, e := ms[i].Change, c.event
		e.Args = maps.Clone(e.Args)
		e.Type, e.Channel, e.Tenant, e.Shared, e.At, e.Data = from.EventType, from.Topic.Channel, from.Tenant, from.Shared, from.At, slices.Clone(from.New)
		es[i] = &e
	}
	return c.answers(ctx, c.stuck, es)
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
	w := &writer{result: r, schema: p.custom.schema.ast, log: p.custom.schema.log(), path: []any{p.root.key}, max: perFrame * p.custom.schema.options.Limits.ResolverBytes}
	ok := false
	if err != nil {
		w.failResolver(p.root, err)
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

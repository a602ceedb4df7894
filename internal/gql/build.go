package gql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/notifyql/notifyql/internal/catalog"
)

// Schema is what clients see of one catalog: the whole, from which what an identity asks for is answered by what it may see of it.
type Schema struct {
	ast     *ast.Schema
	sdl     string
	tables  map[string]*table  // by subscription field
	customs map[string]*custom // by subscription field
	names   []string           // of the custom fields, in their order
	options Options
	cache   documents
	family  *family
}

// builder collects a schema's parts.
type builder struct {
	options      Options
	types, roots namer
	tables       []*table
	rowFields    []*custom // custom fields of tables' rows
	enums        map[string]*enum
	used         map[string]bool // types that are written only if they are
	hidden       map[columnID]bool
	hiding       bool // the column at hand is hidden: it takes its names, so that others have theirs in each schema, and uses no type
	enumOrder    []*enum
	problems     []Problem
	sdl          strings.Builder
}

func (b *builder) problem(table, column, format string, args ...any) {
	b.problems = append(b.problems, Problem{table, column, fmt.Sprintf(format, args...)})
}

// Build makes a schema of the watched tables and the custom fields. Problems are what tables needed to fit; a custom
// field that does not fit is an error, for it is code. Names of custom fields and their types come first, then tables in
// the order in which they were first watched: a table added later changes no name of another.
func Build(c catalog.Catalog, fields []Field) (*Schema, []Problem, error) {
	return Options{}.Build(c, fields)
}

// Build is the function Build, with settings.
func (o Options) Build(c catalog.Catalog, fields []Field) (*Schema, []Problem, error) {
	s, problems, err := o.build(c, fields, nil)
	if err != nil {
		return nil, nil, err
	}
	s.family = &family{whole: s, restricted: restrictions(c), build: func(hidden map[columnID]bool) (*Schema, error) {
		variant, _, err := o.build(c, fields, hidden)
		return variant, err
	}}
	return s, problems, nil
}

// build makes a schema without the columns that are hidden.
func (o Options) build(c catalog.Catalog, fields []Field, hidden map[columnID]bool) (*Schema, []Problem, error) {
	b := &builder{options: o, types: namer{}, roots: namer{channelField: true}, enums: map[string]*enum{}, used: map[string]bool{}, hidden: hidden}
	s := &Schema{tables: map[string]*table{}, customs: map[string]*custom{channelField: {name: channelField}}, options: o}
	s.options.Limits = o.Limits.withDefaults()
	s.cache.limit, s.cache.max = s.options.Limits.Documents, maxKept

	base := &ast.Source{Name: "notifyql", Input: baseSDL()}
	doc, err := parser.ParseSchemas(validator.Prelude, base)
	if err != nil {
		return nil, nil, fmt.Errorf("schema: %w", err)
	}
	for _, d := range doc.Definitions {
		b.types[d.Name] = true
	}
	for _, name := range reservedTypes() {
		b.types[name] = true
	}
	customDoc, err := s.addCustom(b, fields)
	if err != nil {
		return nil, nil, err
	}

	tables := slices.Clone(c.Tables)
	slices.SortFunc(tables, func(x, y catalog.Table) int { return int(x.Watch) - int(y.Watch) })
	for _, t := range tables {
		b.addTable(t)
	}
	b.linkMembers()
	b.write()
	if o.Federation {
		b.federate()
	}
	tableDoc, err := parser.ParseSchema(&ast.Source{Name: "tables", Input: b.sdl.String()})
	if err != nil {
		return nil, nil, fmt.Errorf("schema of the tables: %w", err)
	}
	doc.Merge(customDoc)
	doc.Merge(tableDoc)
	doc.Extensions = append(doc.Extensions, b.extend()...)
	if s.ast, err = validator.ValidateSchemaDocument(doc); err != nil {
		return nil, nil, fmt.Errorf("schema: %w", err)
	}
	// gqlparser brings more directives than the specification has; what we do not do, a document must not ask for.
	delete(s.ast.Directives, "defer")
	for _, t := range b.tables {
		s.tables[t.field+"Changed"], s.tables[t.field+"Batch"] = t, t // the second may not be in the schema
	}
	s.sdl = printSchema(s.ast)
	return s, b.problems, nil
}

// SDL is the whole schema as text: types by name, each with its description.
func (s *Schema) SDL() string { return s.sdl }

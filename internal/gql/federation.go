package gql

import (
	"fmt"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// As a subgraph of a federation, version 2, a schema has in addition what a gateway asks for: its own SDL, in which types
// with a primary key are entities, and those entities by key.
// https://www.apollographql.com/docs/federation/subgraph-spec

const federationSDL = `
extend type Query {
  "This subgraph, for a gateway."
  _service: _Service!
}

type _Service {
  sdl: String!
}
`

const entitiesSDL = `
extend type Query {
  "Rows by their keys, for a gateway."
  _entities(representations: [_Any!]!): [_Entity]!
}

"A type's name and a key of it."
scalar _Any
`

// federate adds to the SDL of the tables what makes the schema a subgraph.
func (b *builder) federate() {
	b.sdl.WriteString(federationSDL)
	var entities []string
	for _, t := range b.tables {
		if len(t.key) > 0 {
			entities = append(entities, t.name)
		}
	}
	if len(entities) > 0 {
		fmt.Fprintf(&b.sdl, "%s\nunion _Entity = %s\n", entitiesSDL, strings.Join(entities, " | "))
	}
}

// subgraphSDL is the schema as a gateway composes it: without what federate adds, which the gateway knows.
func (s *Schema) subgraphSDL() string {
	entities := map[string]string{}
	for _, t := range s.tables {
		if len(t.key) == 0 {
			continue
		}
		names := make([]string, len(t.key))
		for i, k := range t.key {
			names[i] = t.columns[k].name
		}
		entities[t.name] = " @key(fields: " + quote(strings.Join(names, " ")) + ") @shareable"
	}
	entities["ServerInfo"] = " @shareable"
	blocks := []string{`extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@shareable"])`}
	for _, name := range sortedKeys(s.ast.Types) {
		d := s.ast.Types[name]
		if d.BuiltIn || name == "_Service" || name == "_Any" || name == "_Entity" {
			continue
		}
		if d == s.ast.Query {
			d = ownFields(d)
		}
		text := printDefinition(d)
		if directives := entities[name]; directives != "" {
			head := "type " + name + " {"
			text = strings.Replace(text, head, strings.TrimSuffix(head, " {")+directives+" {", 1)
		}
		if d.Name == s.ast.Query.Name {
			text = strings.Replace(text, "serverInfo: ServerInfo!", "serverInfo: ServerInfo! @shareable", 1)
		}
		blocks = append(blocks, text)
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

// ownFields is a type without the fields that federation adds.
func ownFields(d *ast.Definition) *ast.Definition {
	own := *d
	own.Fields = nil
	for _, f := range d.Fields {
		if !strings.HasPrefix(f.Name, "_") {
			own.Fields = append(own.Fields, f)
		}
	}
	return &own
}

// service answers a gateway's question for the SDL.
type service struct{ schema *Schema }

func (service) typename() string { return "_Service" }

func (s service) get(string, map[string]any) any { return s.schema.subgraphSDL() }

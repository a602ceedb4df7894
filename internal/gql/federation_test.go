package gql

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func subgraph(t testing.TB) *Schema {
	t.Helper()
	s, _, err := Options{Federation: true}.Build(shop(), []Field{price()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSubgraphSDL(t *testing.T) {
	t.Parallel()
	var out struct {
		Data struct {
			Service struct{ SDL string } `json:"_service"`
		}
	}
	got := subgraph(t).Execute(context.Background(), Request{Query: `{ _service { sdl } }`}, nil)
	if err := json.Unmarshal(got, &out); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/subgraph.graphql", out.Data.Service.SDL)
	if plain := build(t).SDL(); strings.Contains(plain, "_Entity") || strings.Contains(plain, "_service") {
		t.Error("a schema that is no subgraph has the fields of one")
	}
}

func TestEntitiesByKeyOnly(t *testing.T) {
	t.Parallel()
	got := string(subgraph(t).Execute(context.Background(), Request{
		Query: `query ($r: [_Any!]!) { _entities(representations: $r) { __typename ... on Orders { id note } ... on SalesOrderLines { orderId line } } }`,
		Variables: []byte(`{"r": [{"__typename": "SalesOrderLines", "orderId": "1", "line": "a"}, {"__typename": "Orders", "id": "7"},
			{"__typename": "Orders"}, {"__typename": "Price", "symbol": "x"}, 3]}`),
	}, nil))
	want := `{"errors":[` +
		`{"message":"Orders.note is known only within an event: of a row by itself this subgraph has the key.","locations":[{"line":1,"column":87}],"path":["_entities",1,"note"],"extensions":{"code":"NOT_REPRESENTABLE"}},` +
		`{"message":"the representation of Orders lacks id.","locations":[{"line":1,"column":24}],"path":["_entities",2],"extensions":{"code":"NOT_REPRESENTABLE"}},` +
		`{"message":"\"Price\" is no type with a key.","locations":[{"line":1,"column":24}],"path":["_entities",3],"extensions":{"code":"NOT_REPRESENTABLE"}},` +
		`{"message":"a representation must be an object.","locations":[{"line":1,"column":24}],"path":["_entities",4],"extensions":{"code":"NOT_REPRESENTABLE"}}],` +
		`"data":{"_entities":[{"__typename":"SalesOrderLines","orderId":"1","line":"a"},{"__typename":"Orders","id":"7","note":null},null,null,null]}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

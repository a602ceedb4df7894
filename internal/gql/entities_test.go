package gql

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
)

// rowsOf is a schema that answers with rows for each query, and the queries that came.
func rowsOf(t *testing.T, c catalog.Catalog, rows func(*change.Query) ([]change.Change, error)) (*Schema, *[]change.Query) {
	t.Helper()
	var asked []change.Query
	s, _, err := Options{Federation: true, Rows: func(ctx context.Context, q *change.Query) ([]change.Change, error) {
		if ctx.Value(asking{}) == nil {
			t.Error("the rows are read in another context than the request's")
		}
		asked = append(asked, *q)
		return rows(q)
	}}.Build(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, &asked
}

type asking struct{}

func entities(s *Schema, selection, representations string) string {
	ctx := context.WithValue(context.Background(), asking{}, true)
	return string(s.Execute(ctx, Request{
		Query: `query ($r: [_Any!]!) { _entities(representations: $r) { __typename ` + selection + ` } }`, Variables: []byte(`{"r": ` + representations + `}`),
	}, tenantA))
}

func standing(watch change.WatchID, tenant, image string) change.Change {
	return change.Change{Topic: change.Topic{Watch: watch}, Op: change.Insert, Tenant: tenant, Shared: watch == 2, New: []byte(image)}
}

func TestEntitiesAreRead(t *testing.T) {
	t.Parallel()
	s, asked := rowsOf(t, shop(), func(q *change.Query) ([]change.Change, error) {
		if q.Watch == 2 {
			return []change.Change{standing(2, "", `{"order_id":1,"line":"a"}`)}, nil
		}
		return []change.Change{
			standing(1, "a", strings.Replace(orderOld, `"id":7`, `"id":9`, 1)),
			standing(1, "b", strings.Replace(orderOld, `"id":7`, `"id":8`, 1)), // what Rows ought not to give
			standing(1, "a", strings.Replace(strings.Replace(orderOld, `"weight":0.5`, `"weight":"NaN"`, 1), `"status":"new"`, `"status":null`, 1)),
		}, nil
	})
	got := entities(s, `... on Orders { id note weight payload } ... on SalesOrderLines { orderId line }`,
		`[{"__typename":"Orders","id":9},{"__typename":"SalesOrderLines","orderId":"1","line":"a"},{"__typename":"Orders","id":"07"},{"__typename":"Orders","id":"8"},
		{"__typename":"Orders","id":"x"},{"__typename":"SalesOrderLines","orderId":"1","line":"b"},{"__typename":"Orders","id":"9","note":"other"},{"__typename":"Orders"}]`)
	nine := `{"__typename":"Orders","id":"9","note":"hi \"x\"","weight":0.5,"payload":{"k": [1]}}`
	want := `{"errors":[` +
		`{"message":"The value of Orders.weight does not fit its type Float.","locations":[{"line":1,"column":92}],"path":["_entities",2,"weight"],"extensions":{"code":"NOT_REPRESENTABLE"}},` +
		`{"message":"the representation of Orders has an invalid key id: BigInt cannot represent \"x\": expected a whole number of 64 bits, as a string or a number.","locations":[{"line":1,"column":24}],"path":["_entities",4],"extensions":{"code":"NOT_REPRESENTABLE"}},` +
		`{"message":"the representation of Orders lacks id.","locations":[{"line":1,"column":24}],"path":["_entities",7],"extensions":{"code":"NOT_REPRESENTABLE"}}],` +
		`"data":{"_entities":[` + nine + `,{"__typename":"SalesOrderLines","orderId":"1","line":"a"},` +
		`{"__typename":"Orders","id":"7","note":"hi \"x\"","weight":null,"payload":{"k": [1]}},null,null,null,` + nine + `,null]}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	slices.SortFunc(*asked, func(a, b change.Query) int { return int(a.Watch - b.Watch) })
	if want := []change.Query{
		{Watch: 1, Tenants: []string{"a"}, Where: `"id" in ($1::text::int8, $2::text::int8, $3::text::int8)`, Args: []any{"7", "8", "9"}},
		{Watch: 2, Tenants: []string{"a"}, Where: `((("line" = $1::text and "line"::text collate "C" = $1::text) and "order_id" = $2::text::int8) or (("line" = $3::text and "line"::text collate "C" = $3::text) and "order_id" = $4::text::int8))`, Args: []any{"a", "1", "b", "1"}},
	}; !reflect.DeepEqual(*asked, want) {
		t.Errorf("asked for %+v\nwant      %+v", *asked, want)
	}
}

// A value that must be there and is not takes the row with it, as in an event.
func TestEntityThatDoesNotFit(t *testing.T) {
	t.Parallel()
	s, _ := rowsOf(t, shop(), func(*change.Query) ([]change.Change, error) {
		return []change.Change{standing(1, "a", `{"id":7,"status":null}`), standing(1, "a", `{"id":8}`)}, nil
	})
	got := entities(s, `... on Orders { status }`, `[{"__typename":"Orders","id":7},{"__typename":"Orders","id":8}]`)
	want := `{"errors":[` +
		`{"message":"Cannot return null for non-nullable field Orders.status.","locations":[{"line":1,"column":84}],"path":["_entities",0,"status"],"extensions":{"code":"NULL_IN_NON_NULL"}},` +
		`{"message":"The value of Orders.status does not fit its type OrderStatus.","locations":[{"line":1,"column":84}],"path":["_entities",1,"status"],"extensions":{"code":"NOT_REPRESENTABLE"}}],` +
		`"data":{"_entities":[null,null]}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEntitiesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	unserializable := standing(1, "a", "")
	unserializable.New, unserializable.Unserializable = nil, true
	for name, c := range map[string]struct {
		rows []change.Change
		err  error
		want string
	}{
		"an error":   {nil, errors.New("secret"), `{"message":"the rows of Orders cannot be read now.","locations":[{"line":1,"column":24}],"path":["_entities",0],"extensions":{"code":"INTERNAL_SERVER_ERROR"}}`},
		"no image":   {[]change.Change{unserializable}, nil, `{"message":"a row of Orders cannot be converted to JSON, or does not fit the schema.","locations":[{"line":1,"column":24}],"path":["_entities",0],"extensions":{"code":"UNSERIALIZABLE"}}`},
		"no key":     {[]change.Change{standing(1, "a", `{"status":"new"}`)}, nil, `{"message":"a row of Orders cannot be converted to JSON, or does not fit the schema.","locations":[{"line":1,"column":24}],"path":["_entities",0],"extensions":{"code":"UNSERIALIZABLE"}}`},
		"not wanted": {[]change.Change{standing(1, "a", `{"id":11}`)}, nil, `{"message":"a row of Orders cannot be converted to JSON, or does not fit the schema.","locations":[{"line":1,"column":24}],"path":["_entities",0],"extensions":{"code":"UNSERIALIZABLE"}}`},
	} {
		s, _ := rowsOf(t, shop(), func(*change.Query) ([]change.Change, error) { return c.rows, c.err })
		if got, want := entities(s, ``, `[{"__typename":"Orders","id":7}]`), `{"errors":[`+c.want+`],"data":{"_entities":[null]}}`; got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

// Keys of all types that can be one find their row, however they are written.
func TestKeysOfEveryType(t *testing.T) {
	t.Parallel()
	mood := &catalog.Type{Schema: "public", Name: "mood", Kind: catalog.Enum, Labels: []string{"sad", "so so"}}
	var c catalog.Catalog
	kinds := []struct {
		typ             *catalog.Type
		image, asked    string
		another, column string
	}{
		{base("int4"), `7`, `7`, `8`, "Int"},
		{base("numeric"), `1.50`, `"1.5"`, `1.51`, "Decimal"},
		{base("float8"), `0.5`, `5e-1`, `0.25`, "Float"},
		{base("text"), `"a\"b"`, `"a\"b"`, `"a"`, "String"},
		{base("bpchar"), `"a  "`, `"a"`, `"b"`, "String"},
		{base("uuid"), `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`, `"A0EEBC999C0B4EF8BB6D6BB9BD380A11"`, `"b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`, "UUID"},
		{base("timestamptz"), `"2024-02-29T12:00:00+00:00"`, `"2024-02-29T13:00:00.0+01:00"`, `"2024-02-29T12:00:01Z"`, "DateTime"},
		{base("date"), `"0044-03-15 BC"`, `"-000043-03-15"`, `"2024-02-29"`, "Date"},
		{base("bytea"), `"\\x6869"`, `"aGk="`, `"aGo="`, "Bytes"},
		{base("interval"), `"1 mon"`, `"P30D"`, `"P31D"`, "Duration"},
		{base("inet"), `"10.0.0.1"`, `"10.0.0.1"`, `"10.0.0.2"`, "String"},
		{mood, `"so so"`, `"so_so"`, `"sad"`, "Mood"},
	}
	for i, k := range kinds {
		c.Tables = append(c.Tables, catalog.Table{
			Watch: change.WatchID(i + 1), Schema: "public", Name: fmt.Sprintf("t%d", i), Shared: true, Key: []string{"k"},
			Columns: []catalog.Column{{Number: 1, Name: "k", NotNull: true, Type: k.typ}, {Number: 2, Name: "v", Type: base("text")}},
		})
	}
	s, _ := rowsOf(t, c, func(q *change.Query) ([]change.Change, error) {
		row := standing(q.Watch, "", `{"k":`+kinds[q.Watch-1].image+`,"v":"found"}`)
		row.Shared = true
		return []change.Change{row}, nil
	})
	for i, k := range kinds {
		typ := fmt.Sprintf("T%d", i)
		got := entities(s, `... on `+typ+` { v }`, fmt.Sprintf(`[{"__typename":%q,"k":%s},{"__typename":%[1]q,"k":%[3]s}]`, typ, k.another, k.asked))
		if want := fmt.Sprintf(`{"data":{"_entities":[null,{"__typename":%q,"v":"found"}]}}`, typ); got != want {
			t.Errorf("%s: got %s, want %s", k.column, got, want)
		}
	}
}

// Of a table whose key does not compare, the key is what is known.
func TestKeyThatDoesNotCompare(t *testing.T) {
	t.Parallel()
	s, asked := rowsOf(t, catalog.Catalog{Tables: []catalog.Table{{
		Watch: 1, Schema: "public", Name: "t", Shared: true, Key: []string{"k"}, Columns: []catalog.Column{{Number: 1, Name: "k", NotNull: true, Type: base("jsonb")}},
	}}}, nil)
	if got, want := entities(s, `... on T { k }`, `[{"__typename":"T","k":{"a":1}}]`), `{"data":{"_entities":[{"__typename":"T","k":{"a":1}}]}}`; got != want || len(*asked) > 0 {
		t.Errorf("got %s, want %s; asked %v", got, want, *asked)
	}
}

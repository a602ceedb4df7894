package gql

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// place is somewhere in a history.
var place = change.Cursor{Tick: change.Stamp{ID: 3, Bits: 0xfeed}, Era: 77, Done: []change.XID{40, 41}, Sum: 5}

// resumable is a custom field that has after.
func resumable(typ string) Field {
	return Field{SDL: `extend type Subscription { news(about: String, after: Cursor): ` + typ + ` } type News { text: String }`, Channel: "news"}
}

func TestStart(t *testing.T) {
	t.Parallel()
	s := build(t, resumable("News"))
	byKey := []change.OrderBy{{Column: "id"}}
	two := &auth.Identity{Tenants: []string{"a", "b"}}
	cursor := place.String()
	// One document that begins anew and goes on.
	const live = `subscription ($a: Cursor) { ordersChanged(initial: true, orderBy: [{createdAt: DESC}], limit: 100, after: $a) { kind } }`
	newest := subs.Start{Rows: &change.Query{
		Watch: 1, Limit: 100, OrderBy: []change.OrderBy{{Column: "created_at", Descending: true, NullsFirst: true}, {Column: "id"}},
	}}
	for _, c := range []struct {
		query, vars string
		id          *auth.Identity
		want        subs.Start
	}{
		{query: `subscription { ordersChanged { kind } }`},
		{query: `subscription { ordersChanged(initial: false, orderBy: [], limit: null, after: null) { kind } }`},
		{query: `subscription ($i: Boolean, $o: [OrdersOrderBy!], $l: Int, $a: Cursor) { ordersBatch(initial: $i, orderBy: $o, limit: $l, after: $a) { synced } }`, vars: `{"i": null}`},
		{query: `subscription { ordersChanged(after: "` + cursor + `") { kind } }`, want: subs.Start{After: &place}},
		{query: `subscription ($a: Cursor!) { ordersBatch(initial: false, after: $a) { synced } }`, vars: `{"a": "` + cursor + `"}`, want: subs.Start{After: &place}},
		{query: `subscription ($a: Cursor) { channel(name: "x", after: $a) { data } }`, vars: `{"a": "` + cursor + `"}`, want: subs.Start{After: &place}},
		{query: `subscription { channel(name: "x", after: null) { data } }`},
		{query: `subscription { news(after: "` + cursor + `") { text } }`, want: subs.Start{After: &place}},
		{query: `subscription { ordersChanged(initial: true, limit: 5, after: "` + cursor + `") { kind } }`, want: subs.Start{After: &place}},
		{query: `subscription { ordersBatch(orderBy: {id: ASC}, limit: 0, after: "` + cursor + `") { synced } }`, want: subs.Start{After: &place}},
		{query: live, vars: `{"a": "` + cursor + `"}`, want: subs.Start{After: &place}},
		{query: live, vars: `{"a": null}`, want: newest},
		{query: live, want: newest},
		{query: `subscription { ordersChanged(initial: true) { kind } }`, want: subs.Start{Rows: &change.Query{Watch: 1, OrderBy: byKey}}},
		{
			query: `subscription { ordersBatch(initial: true, where: {status: {in: [paid, in_transit]}, note: {isNull: false}}, limit: 10, orderBy: [{createdAt: DESC}, {amount: ASC_NULLS_FIRST}, {note: DESC_NULLS_LAST}]) { synced } }`, id: two,
			want: subs.Start{Rows: &change.Query{
				Watch: 1, Tenants: two.Tenants, Limit: 10,
				Where: `(not (("note" is null)) and "status" in ($1::"public"."order_status", $2::"public"."order_status"))`, Args: []any{"paid", "in transit"},
				OrderBy: []change.OrderBy{
					{Column: "created_at", Descending: true, NullsFirst: true}, {Column: "amount", NullsFirst: true}, {Column: "note", Descending: true}, {Column: "id"},
				},
			}},
		},
		{
			query: `subscription ($o: [SalesOrderLinesOrderBy!]) { salesOrderLinesChanged(initial: true, orderBy: $o, after: null) { kind } }`, vars: `{"o": {"line": "ASC"}}`,
			want: subs.Start{Rows: &change.Query{Watch: 2, OrderBy: []change.OrderBy{{Column: "line"}, {Column: "order_id"}}}},
		},
	} {
		got := plan(t, s, c.query, c.vars, c.id).Start(c.id)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\ngot  %s\nwant %s", c.query, show(t, got), show(t, c.want))
		}
	}
}

func show(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStartThatCannotBe(t *testing.T) {
	t.Parallel()
	s := build(t, resumable("News"))
	cursor := place.String()
	damaged := strings.Replace(cursor, ".", ".A", 1)
	for _, c := range []struct{ query, vars, code, place, words string }{
		{`subscription { o: ordersChanged(after: "x") { kind } }`, ``, codeCursor, `"locations":[{"line":1,"column":40}],"path":["o"]`, "damaged"},
		{`subscription ($a: Cursor) { o: ordersBatch(after: $a) { synced } }`, `{"a":"` + damaged + `"}`, codeCursor, `"locations":[{"line":1,"column":51}],"path":["o"]`, "damaged"},
		{`subscription { o: ordersBatch(after: "") { synced } }`, ``, codeCursor, `"locations":[{"line":1,"column":38}],"path":["o"]`, "damaged"},
		{`subscription { o: channel(name: "x", after: "` + cursor + `x") { data } }`, ``, codeCursor, `"locations":[{"line":1,"column":45}],"path":["o"]`, "damaged"},
		{`subscription { o: news(after: "x") { text } }`, ``, codeCursor, `"locations":[{"line":1,"column":31}],"path":["o"]`, "damaged"},
		{`subscription { ordersChanged(after: 1) { kind } }`, ``, codeValidation, `"locations":[{"line":1,"column":37}]`, "a string"},
		{`subscription ($a: Cursor) { ordersChanged(after: $a) { kind } }`, `{"a":1}`, codeInput, `"locations":[{"line":1,"column":15}]`, "a string"},
		{`subscription { o: ordersChanged(initial: true, after: "x") { kind } }`, ``, codeCursor, `"locations":[{"line":1,"column":55}],"path":["o"]`, "damaged"},
		{`subscription ($a: Cursor) { o: ordersChanged(orderBy: {id: ASC}, after: $a) { kind } }`, `{"a":null}`, codeInput, `"locations":[{"line":1,"column":55}],"path":["o"]`, "initial: true"},
		{`subscription { o: ordersChanged(orderBy: {id: ASC}) { kind } }`, ``, codeInput, `"locations":[{"line":1,"column":42}],"path":["o"]`, "initial: true"},
		{`subscription { o: ordersBatch(limit: 5) { synced } }`, ``, codeInput, `"locations":[{"line":1,"column":38}],"path":["o"]`, "initial: true"},
		{`subscription ($l: Int) { o: ordersBatch(initial: true, limit: $l) { synced } }`, `{"l":0}`, codeInput, `"locations":[{"line":1,"column":63}],"path":["o"]`, "at least 1"},
		{`subscription { o: ordersChanged(initial: true, orderBy: [{id: ASC, note: DESC}]) { kind } }`, ``, codeInput, `"locations":[{"line":1,"column":57}],"path":["o"]`, "at [0]: expected one column"},
		{`subscription { o: ordersChanged(initial: true, orderBy: [{id: ASC}, {}]) { kind } }`, ``, codeInput, `"locations":[{"line":1,"column":57}],"path":["o"]`, "at [1]: expected one column"},
		{`subscription { o: ordersChanged(initial: true, orderBy: [{id: null}]) { kind } }`, ``, codeInput, `"locations":[{"line":1,"column":57}],"path":["o"]`, "at [0].id: expected an order"},
		{`subscription { o: ordersChanged(initial: true, orderBy: [{id: ASC}, {id: DESC}]) { kind } }`, ``, codeInput, `"locations":[{"line":1,"column":57}],"path":["o"]`, "there twice"},
		{`subscription { ordersChanged(initial: true, orderBy: [{payload: ASC}]) { kind } }`, ``, codeValidation, `"locations":[{"line":1,"column":56}]`, "payload"},
		{`subscription { ordersChanged(initial: true, orderBy: [{id: UP}]) { kind } }`, ``, codeValidation, `"locations":[{"line":1,"column":60}]`, "UP"},
	} {
		p, errs := s.Subscribe(Request{Query: c.query, Variables: []byte(c.vars)}, tenantA)
		if p != nil {
			t.Errorf("%s is taken", c.query)
			continue
		}
		for _, want := range []string{`"code":"` + c.code + `"`, c.place, c.words} {
			if !strings.Contains(string(errs), want) {
				t.Errorf("%s: %s\nlacks %s", c.query, errs, want)
			}
		}
	}
}

// Where subscriptions begin is no reason to encode for each of them.
func TestStartIsNotInTheKey(t *testing.T) {
	t.Parallel()
	s := build(t, resumable("News"))
	cursor := place.String()
	for _, group := range [][]string{
		{
			`subscription { ordersChanged(where: {id: {eq: 1}}) { kind cursor } }`, `subscription { ordersChanged(where: {id: {eq: 1}}, after: "` + cursor + `") { kind cursor } }`,
			`subscription { ordersChanged(where: {id: {eq: 1}}, initial: true) { kind cursor } }`,
			`subscription { ordersChanged(where: {id: {eq: 1}}, initial: true, limit: 2, orderBy: {note: DESC}) { kind cursor } }`,
		},
		{`subscription { channel(name: "a") { data } }`, `subscription { channel(name: "a", after: "` + cursor + `") { data } }`},
		{`subscription { news(about: "a") { text } }`, `subscription { news(after: "` + cursor + `", about: "a") { text } }`},
	} {
		for _, q := range group[1:] {
			if a, b := plan(t, s, group[0], "", tenantA).Key(), plan(t, s, q, "", tenantA).Key(); a != b {
				t.Errorf("keys differ:\n%s\n%s", a, b)
			}
		}
	}
}

// A table in which nothing has an order has no orderBy, and one without a key has no order of its own.
func TestTableWithoutOrder(t *testing.T) {
	t.Parallel()
	s, _, err := Build(catalog.Catalog{Tables: []catalog.Table{
		{Watch: 4, Schema: "public", Name: "docs", Shared: true, Columns: []catalog.Column{{Number: 1, Name: "doc", Type: base("jsonb")}}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.SDL(), "OrderBy") {
		t.Error("there is an OrderBy")
	}
	got := plan(t, s, `subscription { docsChanged(initial: true, limit: 1) { kind } }`, "", nil).Start(nil)
	if want := (subs.Start{Rows: &change.Query{Watch: 4, Limit: 1}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %s", show(t, got))
	}
}

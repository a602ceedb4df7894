package gql

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// FuzzDocument holds that no document, variables or image make anything panic, and that whatever is answered is JSON.
func FuzzDocument(f *testing.F) {
	s := build(f, price())
	for _, seed := range []struct{ query, vars string }{
		{`subscription { ordersChanged { kind new { id amount } old { id } key oldKey changedFields } }`, ``},
		{`subscription S($w: OrdersWhere!) { o: ordersChanged(where: $w) { ...f new @skip(if: false) { ... on Orders { t: __typename } } } } fragment f on OrdersChange { cause }`, `{"w":{"status":{"in":["paid"]},"or":[{"amount":{"gt":1.5}},{"not":{"note":{"like":"%a_"}}}]}}`},
		{`subscription ($a: JSON, $t: [String!]) { ordersChanged(where: {payload: {contains: $a, path: [{at: ["k", "-1"], gt: 3}]}, tags: {hasAny: $t}}) { new { payload tags } } }`, `{"a":{"k":[1]},"t":"x"}`},
		{`subscription { ordersChanged(where: {createdAt: {lt: "2024-01-01T00:00:00Z"}, due: {gte: "-000043-03-15"}, seal: {ne: "aGk="}, weight: {lte: 1e3}, token: {isNull: true}}) { new { createdAt due seal weight token address gift } } }`, ``},
		{`subscription { priceChanged(symbol: "x", in: USD) { symbol marks { at ... on High { high } } } }`, ``},
		{`{ __schema { types { name fields(includeDeprecated: true) { name args { name type { kind ofType { name } } defaultValue } } } directives { name } } serverInfo { version } }`, ``},
		{`query A { __typename } query B { __type(name: "Orders") { kind } }`, `{`},
		{`subscription ($a: Cursor, $o: [OrdersOrderBy!]) { ordersBatch(after: $a, initial: true, orderBy: $o) { changes { kind cursor } complete synced cursor } }`, `{"a":"` + place.String() + `","o":[]}`},
		{`subscription ($o: [OrdersOrderBy!], $l: Int) { ordersChanged(initial: true, where: {not: {note: {ilike: "a%"}}}, orderBy: $o, limit: $l) { kind cursor new { id } } }`, `{"o":[{"createdAt":"DESC"},{"id":"ASC_NULLS_FIRST"}],"l":3}`},
		{`subscription { channel(name: "a", after: "` + place.String() + `") { kind cursor data } }`, ``},
		{`subscription { channel(name: """a""") { data } } fragment a on X { ...a }`, `{"x":null}`},
	} {
		f.Add(seed.query, seed.vars, orderOld)
		f.Add(seed.query, seed.vars, orderNew)
	}
	f.Fuzz(func(t *testing.T, query, vars, image string) {
		r := Request{Query: query, Variables: []byte(vars)}
		// A panic that is contained is a failure all the same.
		failed := func(out []byte) bool { return !json.Valid(out) || bytes.Contains(out, []byte(codeInternal)) }
		if out := s.Execute(context.Background(), r, nil); failed(out) {
			t.Fatalf("failed: %s", out)
		}
		p, errs := s.Subscribe(r, tenantA)
		if p == nil {
			if failed(errs) {
				t.Fatalf("failed: %s", errs)
			}
			return
		}
		c := change.Change{Op: change.Update, Topic: p.Topics()[0], Shared: true, Old: []byte(orderOld), New: []byte(image)}
		if p.Topics()[0].Channel != "" {
			c.Op = change.Event
		}
		m := &subs.Match{Change: &c, Old: new(change.Row), New: new(change.Row), Identity: tenantA}
		if m.Old.Parse(c.Old) != nil || m.New.Parse(c.New) != nil {
			return
		}
		p.Match(m)
		if start := p.Start(tenantA); start.After != nil && start.Rows != nil {
			t.Fatal("it begins in two places")
		}
		m.Before = change.PointAt(place)
		if out := p.EncodeSynced(m.Before); out != nil && !json.Valid(out) {
			t.Fatalf("not JSON: %s", out)
		}
		// A value of json is copied as it stands: it is JSON if the image is.
		for e := subs.Enters; e <= subs.Stands; e++ {
			if out := p.Encode(context.Background(), m, e); json.Valid(c.New) && !json.Valid(out) {
				t.Fatalf("not JSON: %s", out)
			}
			if p.Batches() {
				if out := p.EncodeBatch(context.Background(), []subs.Matched{{Match: *m, Effect: e}}, true); json.Valid(c.New) && !json.Valid(out) {
					t.Fatalf("not JSON: %s", out)
				}
			}
		}
	})
}

// FuzzEntities holds the same of what a gateway asks for, whatever rows there are.
func FuzzEntities(f *testing.F) {
	var image string
	s, _, err := Options{Federation: true, Rows: func(_ context.Context, q *change.Query) ([]change.Change, error) {
		return []change.Change{{Topic: change.Topic{Watch: q.Watch}, Op: change.Insert, Shared: true, New: []byte(image)}}, nil
	}}.Build(shop(), nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`[{"__typename":"Orders","id":7},{"__typename":"Orders","id":"07"},{"__typename":"Orders","id":[]}]`,
		`[{"__typename":"SalesOrderLines","orderId":"1","line":"a"},{"__typename":"SalesOrderLines","orderId":1,"line":null},{},1,[null]]`,
	} {
		f.Add(seed, orderOld)
		f.Add(seed, `{"order_id":1,"line":"a"}`)
	}
	f.Fuzz(func(t *testing.T, representations, row string) {
		image = row
		out := s.Execute(context.Background(), Request{
			Query:     `query ($r: [_Any!]!) { _entities(representations: $r) { __typename ... on Orders { id note payload } ... on SalesOrderLines { orderId line } } }`,
			Variables: []byte(`{"r":` + representations + `}`),
		}, tenantA)
		if json.Valid([]byte(row)) && !json.Valid(out) || bytes.Contains(out, []byte(`"internal error"`)) {
			t.Fatalf("failed: %s", out)
		}
	})
}

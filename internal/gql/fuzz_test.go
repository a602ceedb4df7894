package gql

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
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

// FuzzFieldSDL holds that no SDL of a custom field makes anything panic, and that what is wrong with it is said with its place.
func FuzzFieldSDL(f *testing.F) {
	for _, sdl := range []string{
		price().SDL, echo(Field{}).SDL, `extend type Orders { buyer(short: Boolean = false): Buyer } type Buyer { id: Int! old: String @deprecated }`,
		`extend type Subscription { a(after: Cursor, in: [In!] = [{b: 1}]): [U] } union U = A | B type A { a: Int } type B implements N { b: N } interface N { b: N } input In { b: Int = 2 }`,
		`extend type Orders { a: Int } extend schema { query: Orders }`, `type Orders { a: Orders }`, `extend type SalesOrderLines { line: Int }`,
		`"""d""" directive @x(a: Int) repeatable on OBJECT scalar S @specifiedBy(url: "x")`, `extend type Subscription { __a: Int`, `extend type OrdersWhere { a: Int }`,
	} {
		f.Add(sdl)
	}
	f.Fuzz(func(t *testing.T, sdl string) {
		if len(sdl) > 1000 {
			return
		}
		resolve := func(context.Context, *Event) (any, error) { return json.RawMessage(`{"a":[1]}`), nil }
		s, _, err := Build(shop(), []Field{{SDL: sdl, Needs: []string{"id"}, Resolve: resolve}})
		if err != nil {
			s, _, err = Build(shop(), []Field{{SDL: sdl, Resolve: resolve}})
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "custom field") && !strings.HasPrefix(err.Error(), "schema: ") {
				t.Errorf("%v", err)
			}
			return
		}
		if out := s.Execute(context.Background(), Request{Query: introspect}, nil); !json.Valid(out) {
			t.Errorf("%s", out)
		}
	})
}

// FuzzResolved holds that whatever a resolver gives, as a value or as its errors, a result is JSON.
func FuzzResolved(f *testing.F) {
	for _, seed := range []string{
		`{"v":"x","list":[1,null],"sure":2}`, `{"v":{},"list":{},"sure":null}`, `{"v":1e400,"list":[1.5,"2",true],"sure":"\ud800"}`, `[{"message":"m","path":["a",1],"extensions":{"code":null}}]`,
		`null`, `[]`, `{"v":"x","v":"y"}`, `{"message":1}`, `[{"message":"` + "\xff" + `"}]`, `{`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	var value []byte
	var fails bool
	resolve := func(context.Context, *Event) (any, error) {
		if fails {
			return nil, Told(value)
		}
		return json.RawMessage(value), nil
	}
	s := build(f, echo(Field{Resolve: resolve}), Field{SDL: `extend type Orders { echo: Echo }`, Needs: []string{"payload"}, Resolve: resolve})
	f.Fuzz(func(t *testing.T, v []byte, told bool) {
		value, fails = v, told
		for _, query := range []string{`subscription { echo { v list sure } }`, `subscription { ordersChanged { new { echo { __typename sure v } } } }`} {
			p := plan(t, s, query, "", tenantA)
			m := &subs.Match{Change: &change.Change{Op: change.Event, Topic: p.Topics()[0], Tenant: "a", New: []byte(orderNew)}, New: new(change.Row)}
			if err := m.New.Parse(m.Change.New); err != nil {
				t.Fatal(err)
			}
			if out := p.Encode(context.Background(), m, subs.Enters); !json.Valid(out) || !bytes.Contains(out, []byte(`"data":`)) {
				t.Errorf("%s", out)
			}
		}
	})
}

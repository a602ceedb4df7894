package gql

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

var update = flag.Bool("update", false, "write golden files anew")

func base(name string) *catalog.Type {
	return &catalog.Type{Schema: "pg_catalog", Name: name, Kind: catalog.Base}
}

// shop is a catalog with one column of each kind.
func shop() catalog.Catalog {
	status := &catalog.Type{OID: 90001, Schema: "public", Name: "order_status", Kind: catalog.Enum, Labels: []string{"new", "paid", "in transit"}}
	return catalog.Catalog{Tables: []catalog.Table{
		{
			Watch: 1, OID: 50001, Schema: "public", Name: "orders", Comment: "What was ordered.", TenantColumn: "tenant_id", Key: []string{"id"},
			Columns: []catalog.Column{
				{Number: 1, Name: "id", NotNull: true, Type: base("int8"), Comment: "Counted up."},
				{Number: 2, Name: "tenant_id", NotNull: true, Type: base("text")},
				{Number: 3, Name: "status", NotNull: true, Type: status},
				{Number: 4, Name: "amount", Type: base("numeric")},
				{Number: 5, Name: "note", Type: base("text")},
				{Number: 6, Name: "quantity", Type: base("int4")},
				{Number: 7, Name: "weight", Type: base("float8")},
				{Number: 8, Name: "created_at", Type: base("timestamptz")},
				{Number: 9, Name: "due", Type: base("date")},
				{Number: 10, Name: "payload", Type: base("jsonb")},
				{Number: 11, Name: "seal", Type: base("bytea")},
				{Number: 12, Name: "tags", Type: &catalog.Type{Schema: "pg_catalog", Name: "_text", Kind: catalog.Array, Elem: base("text")}},
				{Number: 13, Name: "address", Type: base("inet")},
				{Number: 14, Name: "gift", Type: base("bool")},
				{Number: 15, Name: "token", Type: base("uuid")},
			},
		},
		{
			Watch: 2, OID: 50002, Schema: "sales", Name: "order_lines", Shared: true, Key: []string{"order_id", "line"},
			Columns: []catalog.Column{
				{Number: 1, Name: "order_id", NotNull: true, Type: base("int8")},
				{Number: 2, Name: "line", NotNull: true, Type: base("text")},
			},
		},
	}}
}

const (
	orderOld = `{"id":7,"tenant_id":"a","status":"new","amount":1.50,"note":"hi \"x\"","quantity":3,"weight":0.5,"created_at":"2024-02-29T12:00:00.5+00:00","due":"2024-03-01","payload":{"k": [1]},"seal":"\\x6869","tags":["x",null],"address":"10.0.0.1","gift":true,"token":"00000000-0000-0000-0000-00000000000a"}`
	orderNew = `{"id":7,"tenant_id":"a","status":"paid","amount":NaN,"note":null,"quantity":3,"weight":"NaN","created_at":"2024-02-29T13:30:00+01:30","due":"0044-03-15 BC","payload":null,"seal":"\\x","tags":[],"address":null,"gift":false,"token":null}`
)

func price() Field {
	return Field{SDL: `
		extend type Subscription { "The price of a symbol." priceChanged(symbol: String!, in: Currency = EUR): Price! }
		type Price { symbol: String! amount: Decimal! currency: Currency! marks: [Mark!] }
		enum Currency { EUR USD }
		interface Mark { at: Int! }
		type High implements Mark { at: Int! high: Float }
		type Low implements Mark { at: Int! low: Float }`}
}

func build(t testing.TB, fields ...Field) *Schema {
	t.Helper()
	s, _, err := Build(shop(), fields)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func plan(t testing.TB, s *Schema, query, variables string, id *auth.Identity) *Plan {
	t.Helper()
	p, errs := s.Subscribe(Request{Query: query, Variables: []byte(variables)}, id)
	if errs != nil {
		t.Fatalf("%s\nrefused: %s", query, errs)
	}
	return p
}

var tenantA = &auth.Identity{UserID: "u", Tenants: []string{"a"}}

// seen is what an identity is sent of a change; "" for nothing.
func seen(t testing.TB, p *Plan, c change.Change, id *auth.Identity) (subs.Effect, string) {
	t.Helper()
	m := &subs.Match{Change: &c, Identity: id}
	if c.Old != nil {
		m.Old = new(change.Row)
		if err := m.Old.Parse(c.Old); err != nil {
			t.Fatal(err)
		}
	}
	if c.New != nil {
		m.New = new(change.Row)
		if err := m.New.Parse(c.New); err != nil && c.Op != change.Event {
			t.Fatal(err)
		}
	}
	e := p.Match(m)
	if e == subs.None {
		return e, ""
	}
	out := string(p.Encode(context.Background(), m, e))
	if out != "" && !json.Valid([]byte(out)) {
		t.Fatalf("not JSON: %s", out)
	}
	return e, out
}

func updated(tenant, oldTenant, before, after string) change.Change {
	return change.Change{
		XID: 42, Seq: 1, At: time.Date(2024, 1, 2, 3, 4, 5, 600_000_000, time.UTC), Topic: change.Topic{Watch: 1}, Op: change.Update,
		Tenant: tenant, OldTenant: oldTenant, Old: []byte(before), New: []byte(after),
	}
}

func TestSDLGolden(t *testing.T) {
	t.Parallel()
	golden(t, "testdata/shop.graphql", build(t, price()).SDL())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update if that is meant. Now:\n%s", file, got)
	}
}

func TestEveryKindOfValue(t *testing.T) {
	t.Parallel()
	s := build(t)
	p := plan(t, s, `subscription Q($v: Boolean!) {
		x: ordersChanged {
			__typename kind cause key transaction committedAt changedFields
			new { ...row } was: old @include(if: $v) { ...row t: __typename }
		}
	}
	fragment row on Orders { id status amount note quantity weight createdAt due payload seal tags address gift token }`, `{"v": true}`, tenantA)
	_, got := seen(t, p, updated("a", "a", orderOld, orderNew), tenantA)
	want := `{"errors":[` +
		`{"message":"The value of Orders.amount does not fit its type Decimal.","locations":[{"line":7,"column":37}],"path":["x","new","amount"],"extensions":{"code":"NOT_REPRESENTABLE"}},` +
		`{"message":"The value of Orders.weight does not fit its type Float.","locations":[{"line":7,"column":58}],"path":["x","new","weight"],"extensions":{"code":"NOT_REPRESENTABLE"}}],` +
		`"data":{"x":{"__typename":"OrdersChange","kind":"UPDATE","cause":"UPDATE","key":"7","transaction":"42","committedAt":"2024-01-02T03:04:05.6Z",` +
		`"changedFields":["status","amount","note","weight","createdAt","due","payload","seal","tags","address","gift","token"],` +
		`"new":{"id":"7","status":"paid","amount":null,"note":null,"quantity":3,"weight":null,"createdAt":"2024-02-29T12:00:00Z","due":"-000043-03-15","payload":null,"seal":"","tags":[],"address":null,"gift":false,"token":null},` +
		`"was":{"id":"7","status":"new","amount":"1.50","note":"hi \"x\"","quantity":3,"weight":0.5,"createdAt":"2024-02-29T12:00:00.5Z","due":"2024-03-01","payload":{"k": [1]},"seal":"aGk=","tags":["x",null],"address":"10.0.0.1","gift":true,"token":"00000000-0000-0000-0000-00000000000a","t":"Orders"}}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSetConsistency(t *testing.T) {
	t.Parallel()
	s := build(t)
	p := plan(t, s, `subscription { ordersChanged(where: {status: {eq: paid}}) { kind cause new { status } old { status } } }`, "", tenantA)
	other := &auth.Identity{Tenants: []string{"b"}}
	both := &auth.Identity{Tenants: []string{"a", "b"}}
	paid := `{"id":1,"tenant_id":"a","status":"paid"}`
	open := `{"id":1,"tenant_id":"a","status":"new"}`
	event := func(kind, cause, new, old string) string {
		return `{"data":{"ordersChanged":{"kind":"` + kind + `","cause":"` + cause + `","new":` + new + `,"old":` + old + `}}}`
	}
	const is = `{"status":"paid"}`
	for _, c := range []struct {
		name string
		c    change.Change
		id   *auth.Identity
		want string
	}{
		{"stays", updated("a", "a", paid, paid), tenantA, event("UPDATE", "UPDATE", is, is)},
		{"enters", updated("a", "a", open, paid), tenantA, event("INSERT", "UPDATE", is, "null")},
		{"leaves", updated("a", "a", paid, open), tenantA, event("DELETE", "UPDATE", "null", is)},
		{"never in", updated("a", "a", open, open), tenantA, ""},
		{"another tenant", updated("a", "a", paid, paid), other, ""},
		{"nobody", updated("a", "a", paid, paid), nil, ""},
		{"moves away", updated("b", "a", paid, paid), tenantA, event("DELETE", "UPDATE", "null", is)},
		{"moves here", updated("b", "a", paid, paid), other, event("INSERT", "UPDATE", is, "null")},
		{"moves within", updated("b", "a", paid, paid), both, event("UPDATE", "UPDATE", is, is)},
		{"no tenant", updated("", "", paid, paid), &auth.Identity{Tenants: []string{""}}, ""},
		{"truncate", change.Change{Op: change.Truncate, Topic: change.Topic{Watch: 1}}, other, event("TRUNCATE", "TRUNCATE", "null", "null")},
		{
			"unserializable",
			change.Change{Op: change.Insert, Unserializable: true, Tenant: "a"},
			tenantA,
			`{"errors":[{"message":"A change was written whose row cannot be converted to JSON.","locations":[{"line":1,"column":16}],"path":["ordersChanged"],"extensions":{"code":"UNSERIALIZABLE"}}],"data":null}`,
		},
		{"unserializable elsewhere", change.Change{Op: change.Insert, Unserializable: true, Tenant: "a"}, other, ""},
		{
			"unknown label", updated("a", "a", paid, `{"id":1,"tenant_id":"a","status":"lost"}`), tenantA,
			`{"errors":[{"message":"A change was written whose row does not fit the schema.","locations":[{"line":1,"column":16}],"path":["ordersChanged"],"extensions":{"code":"SCHEMA_CHANGED"}}],"data":null}`,
		},
	} {
		if _, got := seen(t, p, c.c, c.id); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := build(t)
	single := plan(t, s, `subscription { ordersChanged(where: {status: {eq: paid}}) { kind key oldKey } }`, "", tenantA)
	several := plan(t, s, `subscription { salesOrderLinesChanged { kind key oldKey } }`, "", nil)
	row := func(id, status string) string { return `{"id":` + id + `,"tenant_id":"a","status":"` + status + `"}` }
	line := change.Change{Op: change.Delete, Topic: change.Topic{Watch: 2}, Shared: true, Old: []byte(`{"order_id":1,"line":"a"}`)}
	moved := line
	moved.Op, moved.New = change.Update, []byte(`{"order_id":1,"line":"b"}`)
	for _, c := range []struct {
		plan *Plan
		c    change.Change
		want string
	}{
		{single, updated("a", "a", row("1", "paid"), row("1", "paid")), `"kind":"UPDATE","key":"1","oldKey":"1"`},
		{single, updated("a", "a", row("1", "paid"), row("2", "paid")), `"kind":"UPDATE","key":"2","oldKey":"1"`},
		{single, updated("a", "a", row("1", "new"), row("2", "paid")), `"kind":"INSERT","key":"2","oldKey":null`},
		{single, updated("a", "a", row("1", "paid"), row("2", "new")), `"kind":"DELETE","key":"1","oldKey":"1"`},
		{single, updated("b", "a", row("1", "paid"), row("2", "paid")), `"kind":"DELETE","key":"1","oldKey":"1"`},
		{single, updated("a", "b", row("1", "paid"), row("2", "paid")), `"kind":"INSERT","key":"2","oldKey":null`},
		{single, change.Change{Op: change.Truncate, Topic: change.Topic{Watch: 1}}, `"kind":"TRUNCATE","key":null,"oldKey":null`},
		{several, moved, `"kind":"UPDATE","key":"[1,\"b\"]","oldKey":"[1,\"a\"]"`},
		{several, line, `"kind":"DELETE","key":"[1,\"a\"]","oldKey":"[1,\"a\"]"`},
	} {
		if _, got := seen(t, c.plan, c.c, tenantA); got != `{"data":{"`+c.plan.field+`":{`+c.want+`}}}` {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// A plan that selects only the old key relies on the key as one that selects the new one.
func TestOldKeyIsUsed(t *testing.T) {
	t.Parallel()
	s := build(t)
	for _, field := range []string{"key", "oldKey"} {
		if p := plan(t, s, `subscription { ordersChanged { `+field+` } }`, "", tenantA); !p.usesKey || !p.uses[1] {
			t.Errorf("%s relies on nothing", field)
		}
	}
}

func TestNullWhereNoneCanBe(t *testing.T) {
	t.Parallel()
	p := plan(t, build(t), `subscription { ordersChanged { kind old { note id } new { id } } }`, "", tenantA)
	_, got := seen(t, p, updated("a", "a", `{"id":null,"note":"n"}`, `{"note":"n"}`), tenantA)
	want := `{"errors":[{"message":"Cannot return null for non-nullable field Orders.id.","locations":[{"line":1,"column":48}],"path":["ordersChanged","old","id"],"extensions":{"code":"NULL_IN_NON_NULL"}},` +
		`{"message":"The value of Orders.id does not fit its type BigInt.","locations":[{"line":1,"column":59}],"path":["ordersChanged","new","id"],"extensions":{"code":"NOT_REPRESENTABLE"}}],` +
		`"data":{"ordersChanged":{"kind":"UPDATE","old":null,"new":null}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestKeysShareGroups(t *testing.T) {
	t.Parallel()
	s := build(t, price())
	key := func(query, vars string, id *auth.Identity) string { return plan(t, s, query, vars, id).Key() }
	same := [][2]string{
		{`subscription { ordersChanged(where: {quantity: {eq: 3}, gift: {eq: true}}) { kind new { id } } }`, `{}`},
		{`subscription Named($n: Int!, $b: Boolean) { ordersChanged(where: {and: [{gift: {eq: $b}}, {quantity: {eq: $n}}]}) { ...f } }
		  fragment f on OrdersChange { kind ... { new { id } } }`, `{"n": 3, "b": true}`},
		{`subscription ($w: OrdersWhere) { ordersChanged(where: $w) { kind kind new { id } new { id } } }`, `{"w": {"gift": {"eq": true}, "quantity": {"eq": 3.0}}}`},
	}
	for _, q := range same[1:] {
		if a, b := key(same[0][0], same[0][1], tenantA), key(q[0], q[1], tenantA); a != b {
			t.Errorf("keys differ:\n%s\n%s", a, b)
		}
	}
	different := []string{
		`subscription { ordersChanged(where: {quantity: {eq: 4}, gift: {eq: true}}) { kind new { id } } }`,
		`subscription { ordersChanged(where: {quantity: {eq: 3}, gift: {eq: true}}) { kind new { i: id } } }`,
		`subscription { ordersChanged(where: {quantity: {eq: 3}, gift: {eq: true}}) { new { id } kind } }`,
		`subscription { o: ordersChanged(where: {quantity: {eq: 3}, gift: {eq: true}}) { kind new { id } } }`,
		`subscription { ordersChanged(where: {or: [{quantity: {eq: 3}}, {gift: {eq: true}}]}) { kind new { id } } }`,
		`subscription { salesOrderLinesChanged { kind } }`,
	}
	all := map[string]string{key(same[0][0], "", tenantA): same[0][0]}
	for _, q := range different {
		k := key(q, "", tenantA)
		if other, ok := all[k]; ok {
			t.Errorf("equal keys:\n%s\n%s", q, other)
		}
		all[k] = q
	}
}

func TestExecute(t *testing.T) {
	t.Parallel()
	s, _, err := Options{Version: "1.2"}.Build(shop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := string(s.Execute(context.Background(), Request{Query: `{ i: serverInfo { name version } __type(name: "Time") { name kind description ofType { name } } }`}, nil))
	want := `{"data":{"i":{"name":"notifyql","version":"1.2"},"__type":{"name":"Time","kind":"SCALAR","description":"A time of day in no time zone, HH:MM:SS[.ffffff], up to 24:00:00.","ofType":null}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestResultsAreOneLine(t *testing.T) {
	t.Parallel()
	s := build(t, price())
	c := updated("a", "a", orderOld, strings.Replace(orderOld, `{"k": [1]}`, "{\"k\":\r\n [1,\n\"a b\"]}", 1))
	if _, got := seen(t, plan(t, s, `subscription { ordersChanged { new { payload } } }`, "", nil), c, tenantA); got != `{"data":{"ordersChanged":{"new":{"payload":{"k":[1,"a b"]}}}}}` {
		t.Error(got)
	}
	event := change.Change{Op: change.Event, Shared: true, New: []byte("{\n\"a\":\n1}")}
	if _, got := seen(t, plan(t, s, `subscription { channel(name: "x") { data } }`, "", nil), event, nil); got != `{"data":{"channel":{"data":{"a":1}}}}` {
		t.Error(got)
	}
}

func TestDocumentsKept(t *testing.T) {
	t.Parallel()
	s, _, err := Options{Limits: Limits{Documents: 3}}.Build(shop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	query := func(name string, padding int) Request {
		return Request{Query: "subscription " + name + " { ordersChanged { kind } } #" + strings.Repeat("x", padding)}
	}
	kept := func(r Request) bool { return s.cache.get(r.OperationName+"\x00"+r.Query) != nil }
	for _, name := range []string{"A", "B", "C", "A", "D"} {
		plan(t, s, query(name, 0).Query, "", nil)
	}
	if !kept(query("A", 0)) || kept(query("B", 0)) || !kept(query("D", 0)) {
		t.Error("not the last used are kept")
	}
	if _, errs := s.Subscribe(Request{Query: "subscription { nope }"}, nil); errs == nil || s.cache.order.Len() != 3 {
		t.Error("a wrong document is kept")
	}
	large, _, err := Build(shop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		plan(t, large, query(string(rune('A'+i%26))+strings.Repeat("_", i), 60_000).Query, "", nil)
	}
	if large.cache.bytes > maxKept || large.cache.order.Len() < 30 {
		t.Errorf("%d bytes of %d documents are kept", large.cache.bytes, large.cache.order.Len())
	}
}

package gql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// buyers is a relation of orders, and what its resolver was asked: a call as the data of its rows.
type buyers struct {
	mu    sync.Mutex
	asked [][]string
}

func (b *buyers) field() Field {
	return Field{
		SDL: `extend type Orders { "Who ordered." buyer(short: Boolean = false): Buyer }
		      type Buyer { id: Int! name: String! old: String @deprecated(reason: "gone") }`,
		Needs: []string{"quantity", "note"},
		ResolveBatch: func(_ context.Context, es []*Event) ([]any, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			var asked []string
			out := make([]any, len(es))
			for i, e := range es {
				asked = append(asked, e.Table+" "+e.Tenant+" "+string(e.Data))
				var row struct{ Quantity int }
				if err := json.Unmarshal(e.Data, &row); err != nil {
					return nil, err
				}
				name := any(fmt.Sprintf("buyer %d", row.Quantity))
				if e.Args["short"] == true {
					name = "b"
				}
				switch row.Quantity {
				case 0:
					name = nil
				case -1:
					out[i] = errors.New("no such buyer")
					continue
				}
				out[i] = map[string]any{"id": row.Quantity, "name": name}
			}
			b.asked = append(b.asked, asked)
			return out, nil
		},
	}
}

func (b *buyers) want(t *testing.T, calls ...string) {
	t.Helper()
	var got []string
	for _, call := range b.asked {
		got = append(got, strings.Join(call, "; "))
	}
	slices.Sort(got)
	if fmt.Sprint(got) != fmt.Sprint(calls) {
		t.Errorf("asked\n  %s\nnot\n  %s", strings.Join(got, "\n  "), strings.Join(calls, "\n  "))
	}
	b.asked = nil
}

// order is a change of an order; a quantity is the image's, and an empty one no image.
func order(t *testing.T, p *Plan, was, is string) subs.Matched {
	t.Helper()
	c := &change.Change{XID: 5, Topic: p.Topics()[0], Tenant: "a", OldTenant: "a", Op: change.Update}
	m := subs.Matched{Match: subs.Match{Change: c, Identity: tenantA}}
	parse := func(q string, image *[]byte, row **change.Row) {
		if q == "" {
			return
		}
		*image = []byte(strings.Replace(orderNew, `"quantity":3`, `"quantity":`+q, 1))
		*row = new(change.Row)
		if err := (*row).Parse(*image); err != nil {
			t.Fatal(err)
		}
	}
	parse(was, &c.Old, &m.Old)
	parse(is, &c.New, &m.New)
	switch {
	case was == "":
		c.Op, c.OldTenant = change.Insert, ""
	case is == "":
		c.Op, c.Tenant = change.Delete, ""
	}
	if m.Effect = p.Match(&m.Match); m.Effect == subs.None {
		t.Fatal("it concerns nobody")
	}
	return m
}

// One call gives the relations of all rows that are shown, of equal ones once; each has its own value or error.
func TestFieldsOfRows(t *testing.T) {
	t.Parallel()
	var b buyers
	s := build(t, b.field())
	p := plan(t, s, `subscription { ordersChanged { new { id buyer { name __typename } } old { buyer { id } } } }`, "", tenantA)
	if !p.Blocks() || p.Together() != together {
		t.Error("it calls no resolver")
	}
	var got []string
	for _, frame := range p.EncodeAll(context.Background(), []subs.Matched{order(t, p, "", "1"), order(t, p, "1", "2"), order(t, p, "2", "0"), order(t, p, "-1", "")}) {
		got = append(got, string(frame))
	}
	const before = `{"data":{"ordersChanged":{`
	want := []string{
		before + `"new":{"id":"7","buyer":{"name":"buyer 1","__typename":"Buyer"}},"old":null}}}`,
		before + `"new":{"id":"7","buyer":{"name":"buyer 2","__typename":"Buyer"}},"old":{"buyer":{"id":1}}}}}`,
		`{"errors":[{"message":"Cannot return null for non-nullable field Buyer.name.","locations":[{"line":1,"column":49}],"path":["ordersChanged","new","buyer","name"],"extensions":{"code":"NULL_IN_NON_NULL"}}],` +
			before[1:] + `"new":{"id":"7","buyer":null},"old":{"buyer":{"id":2}}}}}`,
		`{"errors":[{"message":"no such buyer","locations":[{"line":1,"column":75}],"path":["ordersChanged","old","buyer"],"extensions":{"code":"RESOLVER_FAILED"}}],` +
			before[1:] + `"new":null,"old":{"buyer":null}}}}`,
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
	row := func(q string) string { return `public.orders a {"quantity":` + q + `,"note":null}` }
	b.want(t, row("1")+"; "+row("2")+"; "+row("0")+"; "+row("-1"))

	// A batch; rows that stand; other arguments are another call, equal ones are not.
	p = plan(t, s, `subscription { ordersBatch { changes { new { a: buyer { name } b: buyer(short: false) { id } } old { c: buyer(short: true) { name } } } } }`, "", tenantA)
	stands := order(t, p, "", "4")
	stands.Effect = subs.Stands
	frame := string(p.EncodeBatch(context.Background(), []subs.Matched{order(t, p, "3", "3"), stands}, true))
	if want := `{"data":{"ordersBatch":{"changes":[{"new":{"a":{"name":"buyer 3"},"b":{"id":3}},"old":{"c":{"name":"b"}}},{"new":{"a":{"name":"buyer 4"},"b":{"id":4}},"old":null}]}}}`; frame != want {
		t.Errorf("got  %s\nwant %s", frame, want)
	}
	b.want(t, row("3"), row("3")+"; "+row("4"))
	if out := p.EncodeSynced(nil); !json.Valid(out) || b.asked != nil {
		t.Errorf("%s", out)
	}
	if out := p.EncodeBatch(context.Background(), nil, true); !json.Valid(out) || b.asked != nil {
		t.Errorf("%s", out)
	}
}

// Subscriptions that select equal fields with arguments that go elsewhere are told apart, and equal ones are not.
func TestArgumentsOfFieldsOfRowsAreInTheKey(t *testing.T) {
	t.Parallel()
	f := Field{SDL: `extend type Orders { say(a: Int = 1): Int }`, Needs: []string{"id"}, SameForAll: true, Resolve: func(_ context.Context, e *Event) (any, error) { return e.Args["a"], nil }}
	s := build(t, f)
	keys := map[string]string{}
	for _, selected := range []string{
		`new { a: say(a: 1) b: say(a: 2) c: say(a: 1) }`, `new { a: say(a: 1) b: say(a: 1) c: say(a: 2) }`, `new { a: say(a: 2) b: say(a: 1) c: say(a: 1) }`,
		`new { a: say(a: 1) b: say(a: 2) c: say(a: 2) }`, `new { a: say(a: 1) b: say(a: 1) c: say(a: 1) }`,
		`new { a: say(a: 1) } old { b: say(a: 2) c: say(a: 1) }`, `new { a: say(a: 1) } old { b: say(a: 1) c: say(a: 2) }`,
	} {
		for _, query := range []string{`subscription { ordersChanged { ` + selected + ` } }`, `subscription { ordersBatch { changes { ` + selected + ` } } }`} {
			key := plan(t, s, query, "", tenantA).Key()
			if other, there := keys[key]; there {
				t.Errorf("%s\nis served what is made for\n%s", query, other)
			}
			keys[key] = query
		}
	}
	if a, b := plan(t, s, `subscription { ordersChanged { new { a: say b: say(a: 2) } } }`, "", tenantA), plan(t, s, `subscription { ordersChanged { new { a: say(a: 1) b: say(a: 2) } } }`, "", tenantA); a.Key() != b.Key() {
		t.Error("equal subscriptions are told apart")
	}
}

// A relation that is never null and has no value takes its row with it.
func TestAFieldOfRowsThatIsNeverNull(t *testing.T) {
	t.Parallel()
	s := build(t, Field{SDL: `extend type Orders { n: Int! }`, Needs: []string{"id"}, Resolve: func(context.Context, *Event) (any, error) { return nil, nil }})
	p := plan(t, s, `subscription { ordersChanged { kind new { id n } } }`, "", tenantA)
	m := order(t, p, "", "1")
	want := `{"errors":[{"message":"Cannot return null for non-nullable field Orders.n.","locations":[{"line":1,"column":46}],"path":["ordersChanged","new","n"],"extensions":{"code":"NULL_IN_NON_NULL"}}],"data":{"ordersChanged":{"kind":"INSERT","new":null}}}`
	if got := string(p.Encode(context.Background(), &m.Match, m.Effect)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p.Together() != 1 {
		t.Error("rows wait for each other without need")
	}
}

// Who may not see a column that a relation needs has no such relation; nor has anybody, where the column or the table is gone.
func TestFieldsOfRowsKeepPolicies(t *testing.T) {
	t.Parallel()
	var b buyers
	const query = `subscription { ordersChanged { new { id buyer { id } } } }`
	c := shop()
	c.Tables[0].Policies = []catalog.Policy{{Kind: catalog.ColumnPolicy, Column: 6, Roles: []string{"sales"}}}
	s, _, err := Build(c, []Field{b.field()})
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := s.Subscribe(Request{Query: query}, tenantA); !strings.Contains(string(errs), `Cannot query field \"buyer\"`) {
		t.Errorf("who may not see it: %s", errs)
	}
	plan(t, s, query, "", &auth.Identity{Roles: []string{"sales"}})

	gone := shop()
	gone.Tables[0].Columns = slices.Delete(gone.Tables[0].Columns, 5, 6)
	without, problems, err := Build(gone, []Field{b.field()})
	if err != nil || !strings.Contains(fmt.Sprint(problems), "public.orders.quantity: is gone or excluded, so that Orders has no field buyer") || strings.Contains(without.SDL(), "buyer") {
		t.Error(problems, err)
	}
	p := plan(t, build(t, b.field()), query, "", tenantA)
	if err := without.Recheck(p); err == nil || !strings.Contains(err.Error(), "column quantity of table public.orders is gone") {
		t.Errorf("a subscription to it: %v", err)
	}
	if err := s.Recheck(p); err == nil {
		t.Error("other policies are not noticed")
	}
	_, problems, err = Build(catalog.Catalog{}, []Field{b.field()})
	if err != nil || !strings.Contains(fmt.Sprint(problems), "Orders: is no type of a watched table's rows") {
		t.Error(problems, err)
	}
	// The name is the field's, not a column's.
	column := shop()
	column.Tables[0].Columns = append(column.Tables[0].Columns, catalog.Column{Number: 99, Name: "buyer", Type: base("text")})
	both, problems, err := Build(column, []Field{b.field()})
	if err != nil || !strings.Contains(both.SDL(), "buyer(short: Boolean = false): Buyer") || !strings.Contains(fmt.Sprint(problems), "the field name buyer is taken") {
		t.Error(problems, err)
	}
}

// A gateway that asks for rows gets their relations, with one call.
func TestFieldsOfEntities(t *testing.T) {
	t.Parallel()
	var b buyers
	s, _, err := Options{Federation: true, Rows: func(_ context.Context, q *change.Query) (rows []change.Change, err error) {
		for _, id := range []string{"7", "8"} {
			image := strings.Replace(orderNew, `"id":7`, `"id":`+id, 1)
			rows = append(rows, change.Change{Topic: change.Topic{Watch: q.Watch}, Op: change.Insert, Tenant: "a", New: []byte(strings.Replace(image, `"quantity":3`, `"quantity":`+id, 1))})
		}
		return rows, nil
	}}.Build(shop(), []Field{b.field()})
	if err != nil {
		t.Fatal(err)
	}
	got := string(s.Execute(context.Background(), Request{
		Query: `{ _entities(representations: [{__typename: "Orders", id: 8}, {__typename: "Orders", id: 7}]) { ... on Orders { id buyer { name } again: buyer { id } } } }`,
	}, tenantA))
	if want := `{"data":{"_entities":[{"id":"8","buyer":{"name":"buyer 8"},"again":{"id":8}},{"id":"7","buyer":{"name":"buyer 7"},"again":{"id":7}}]}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	b.want(t, `public.orders a {"quantity":7,"note":null}; public.orders a {"quantity":8,"note":null}`)
	got = string(s.Execute(context.Background(), Request{
		Query: `{ _entities(representations: [{__typename: "Orders", id: 7}]) { ... on Orders { buyer { name } b: buyer(short: true) { name } } } }`,
	}, tenantA))
	if want := `{"data":{"_entities":[{"buyer":{"name":"buyer 7"},"b":{"name":"b"}}]}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Rows with equal data share an answer if they are one tenant's, and no other: the resolver is told whose they are.
func TestFieldsOfRowsOfSeveralTenants(t *testing.T) {
	t.Parallel()
	asked := 0
	whose := Field{SDL: `extend type Orders { whose: String }`, Needs: []string{"note"}, ResolveBatch: func(_ context.Context, es []*Event) ([]any, error) {
		out := make([]any, len(es))
		for i, e := range es {
			out[i] = fmt.Sprintf("%s %t", e.Tenant, e.Shared)
		}
		asked += len(es)
		return out, nil
	}}
	both := &auth.Identity{Tenants: []string{"a", "b"}}
	p := plan(t, build(t, whose), `subscription { ordersBatch { changes { new { whose } } } }`, "", both)
	var ms []subs.Matched
	for _, tenant := range []string{"a", "b", "", "a", "b", ""} {
		m := order(t, p, "", "1")
		m.Change.Tenant, m.Change.Shared = tenant, tenant == ""
		ms = append(ms, m)
	}
	got := string(p.EncodeBatch(context.Background(), ms, true))
	row := func(whose string) string { return `{"new":{"whose":"` + whose + `"}}` }
	all := row("a false") + "," + row("b false") + "," + row(" true")
	if want := `{"data":{"ordersBatch":{"changes":[` + all + "," + all + `]}}}`; got != want || asked != 3 {
		t.Errorf("asked %d times, got\n%s, not\n%s", asked, got, want)
	}
}

// What is wrong with a field is said with its line and column.
func TestFieldsThatDoNotFit(t *testing.T) {
	t.Parallel()
	resolve := func(context.Context, *Event) (any, error) { return nil, nil }
	many := func(context.Context, []*Event) ([]any, error) { return nil, nil }
	const tick = `extend type Subscription { tick: Int }`
	for want, fields := range map[string][]Field{
		`custom field 1, line 2, column 5: Expected Name, found }`:                                {{SDL: "extend type Subscription { a:\n    }"}},
		`custom field 2, line 2, column 8: the type name BigInt is taken`:                         {{SDL: tick}, {SDL: "extend type Subscription { a: BigInt }\n  type BigInt { a: Int }"}},
		`custom field 2, line 1, column 28: the field tick is there twice`:                        {{SDL: tick}, {SDL: tick}},
		`custom field 1, line 1, column 28: the field channel is there twice, or ours`:            {{SDL: `extend type Subscription { channel: Int }`}},
		`custom field 1, line 1, column 28: __a is reserved`:                                      {{SDL: `extend type Subscription { __a: Int }`}},
		`custom field 1, line 2, column 6: __A is reserved`:                                       {{SDL: tick + "\ntype __A { a: Int }"}},
		`custom field 1, line 1, column 31: Undefined type Nothing`:                               {{SDL: `extend type Subscription { a: Nothing }`}},
		`custom field 1, line 1, column 20: SDL may extend Subscription and types of tables'`:     {{SDL: `extend type Echo { a: Int }`, Needs: []string{"a"}, Resolve: resolve}, echo(Field{})},
		`custom field 1, line 1, column 21: SDL may extend Subscription and types of`:             {{SDL: `extend type Price { a: Int }`, Needs: []string{"a"}, Resolve: resolve}, price()},
		`custom field 1, line 1, column 22: the field Orders.a has a Channel`:                     {{SDL: `extend type Orders { a: Int }`, Needs: []string{"a"}, Resolve: resolve, Channel: "c"}},
		`custom field 1, line 1, column 22: the field Orders.a has no resolver`:                   {{SDL: `extend type Orders { a: Int }`, Needs: []string{"a"}}},
		`custom field 1, line 1, column 22: the field Orders.a says in Needs not one column`:      {{SDL: `extend type Orders { a: Int }`, Resolve: resolve}},
		`custom field 1, line 1, column 22: the field Orders.a needs the column id twice`:         {{SDL: `extend type Orders { a: Int }`, Needs: []string{"id", "note", "id"}, Resolve: resolve}},
		`custom field 1, line 1, column 28: the field tick has Needs`:                             {{SDL: tick, Needs: []string{"a"}}},
		`custom field 1, line 1, column 28: the field tick has both Resolve and ResolveBatch`:     {{SDL: tick, Resolve: resolve, ResolveBatch: many}},
		`custom field 1, line 1, column 13: SDL may extend Orders by a field only`:                {{SDL: `extend enum Orders { A }`}},
		`custom field 1, line 1, column 12: SDL may define types only, not the directive x`:       {{SDL: `directive @x on FIELD ` + tick}},
		`custom field 1, line 1, column 61: SDL must extend a type by one field, not by tick and`: {{SDL: `extend type Subscription { tick: Int } extend type Orders { a: Int }`}},
	} {
		_, _, err := Build(shop(), fields)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// Arguments of every kind are coerced, and the schema tells of fields what their SDL does.
func TestFieldsArgumentsAndIntrospection(t *testing.T) {
	t.Parallel()
	var got map[string]any
	s := build(t, Field{
		SDL: `extend type Subscription { "What is said." says(one: Tone, more: [[Tone!]], who: Who = {name: "x"}, n: Int = 7, big: BigInt, any: Any): String @deprecated(reason: "use shouts") }
		      "How." enum Tone { LOUD "Not loud." LOW SHY @deprecated(reason: "none is") }
		      input Who { name: String! age: Float = 1.5 of: [Int!] }
		      scalar Any`,
		Resolve: func(_ context.Context, e *Event) (any, error) {
			got = e.Args
			return "x", nil
		},
	})
	for args, want := range map[string]string{
		``: `map[n:7 who:map[age:1.5 name:x]]`,
		`(one: LOW, more: [LOUD, null, [LOW]], who: {name: "y", of: 3}, n: null, big: 12345678901234567890, any: [{a: 1}])`: ``,
		`(one: LOW, more: LOUD, who: {name: "y", of: 3, age: null}, n: null, big: 1234567890123, any: [{a: 1}])`:            `map[any:[map[a:1]] big:1234567890123 more:[[LOUD]] n:<nil> one:LOW who:map[age:<nil> name:y of:[3]]]`,
		`(one: "LOW")`:      ``,
		`(one: MUTE)`:       ``,
		`(who: {age: 1})`:   ``,
		`(who: {nam: "x"})`: ``,
		`(n: 1.5)`:          ``,
		`(n: 12345678901)`:  ``,
		`(nothing: 1)`:      ``,
	} {
		p, errs := s.Subscribe(Request{Query: `subscription { says` + args + ` }`}, tenantA)
		if want == "" {
			if errs == nil {
				t.Errorf("%s is taken", args)
			}
			continue
		}
		if errs != nil {
			t.Errorf("%s: %s", args, errs)
			continue
		}
		if p.Encode(context.Background(), someMatch(t, p), subs.Happens); fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", args, got, want)
		}
	}
	answer := string(s.Execute(context.Background(), Request{Query: `{ t: __type(name: "Subscription") { fields(includeDeprecated: true) { name description isDeprecated deprecationReason args { name defaultValue } } }
		e: __type(name: "Tone") { description enumValues(includeDeprecated: true) { name description deprecationReason } } }`}, nil))
	for _, part := range []string{
		`{"name":"says","description":"What is said.","isDeprecated":true,"deprecationReason":"use shouts","args":[{"name":"one","defaultValue":null},{"name":"more","defaultValue":null},{"name":"who","defaultValue":"{name: \"x\"}"},{"name":"n","defaultValue":"7"}`,
		`"e":{"description":"How.","enumValues":[{"name":"LOUD","description":null,"deprecationReason":null},{"name":"LOW","description":"Not loud.","deprecationReason":null},{"name":"SHY","description":null,"deprecationReason":"none is"}]}`,
	} {
		if !strings.Contains(answer, part) {
			t.Errorf("%s\nis not in\n%s", part, answer)
		}
	}
	if fmt.Sprint(s.FieldNames()) != "[says]" {
		t.Error(s.FieldNames())
	}
}

// What a relation costs beside the resolver itself: a hundred rows with one call.
func BenchmarkFieldsOfRows(b *testing.B) {
	for name, f := range map[string]Field{
		"batch": {ResolveBatch: func(_ context.Context, es []*Event) ([]any, error) {
			out := make([]any, len(es))
			for i := range out {
				out[i] = json.RawMessage(`{"name":"x"}`)
			}
			return out, nil
		}},
		"one":  {Resolve: func(context.Context, *Event) (any, error) { return json.RawMessage(`{"name":"x"}`), nil }},
		"none": {},
	} {
		b.Run(name, func(b *testing.B) {
			query := `subscription { ordersChanged { new { id buyer { name } } } }`
			var fields []Field
			if f.SDL, f.Needs = `extend type Orders { buyer: Buyer } type Buyer { name: String! }`, []string{"id"}; f.resolves() {
				fields = []Field{f}
			} else {
				query = `subscription { ordersChanged { new { id note } } }`
			}
			p := plan(b, build(b, fields...), query, "", tenantA)
			ms := make([]subs.Matched, together)
			for i := range ms {
				image := []byte(strings.Replace(orderNew, `"id":7`, fmt.Sprintf(`"id":%d`, i), 1))
				ms[i] = subs.Matched{Match: subs.Match{Change: &change.Change{Topic: p.Topics()[0], Op: change.Insert, Tenant: "a", New: image}, New: new(change.Row)}, Effect: subs.Enters}
				if err := ms[i].New.Parse(image); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				for from := 0; from < len(ms); from += p.Together() {
					p.EncodeAll(context.Background(), ms[from:from+p.Together()])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*together), "ns/row")
		})
	}
}

package gql

import (
	"slices"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"orders":        {"Orders", "orders"},
		"order_items":   {"OrderItems", "orderItems"},
		"OrderItems":    {"OrderItems", "orderItems"},
		"ORDER_ITEMS":   {"OrderItems", "orderItems"},
		"user_ID":       {"UserId", "userId"},
		"ID":            {"Id", "id"},
		"a":             {"A", "a"},
		"_id":           {"Id", "_id"},
		"__typename":    {"Typename", "_typename"},
		"2fa":           {"_2fa", "_2fa"},
		"line 1":        {"Line1", "line1"},
		"größe":         {"Gru00f6u00dfe", "gru00f6u00dfe"},
		"注文":            {"U6ce8u6587", "u6ce8u6587"},
		"":              {"_", "_"},
		"---":           {"_", "_"},
		"x-y.z$":        {"XYZ", "xYZ"},
		"already_Camel": {"AlreadyCamel", "alreadyCamel"},
	} {
		if got := [2]string{pascal(name), camel(name)}; got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
		for _, n := range want {
			if !validName(n) {
				t.Errorf("%q is no name", n)
			}
		}
	}
	for label, want := range map[string]string{"paid": "paid", "PAID": "PAID", "in transit": "in_transit", "1st": "_1st", "true": "true_", "null": "null_", "": "_", "__x": "x", "a-b": "a_b"} {
		if got := enumName(label); got != want {
			t.Errorf("label %q: %q, want %q", label, got, want)
		}
	}
}

// odd is a catalog of what does not fit as it is.
func odd() catalog.Catalog {
	table := func(watch int, schema, name string, columns ...string) catalog.Table {
		t := catalog.Table{Watch: change.WatchID(watch), Schema: schema, Name: name, Shared: true, Key: columns[:1]}
		for i, c := range columns {
			t.Columns = append(t.Columns, catalog.Column{Number: int16(i + 1), Name: c, Type: base("text")})
		}
		return t
	}
	mood := &catalog.Type{Schema: "public", Name: "Int", Kind: catalog.Enum, Labels: []string{"in transit", "in-transit", "true", "ok"}}
	odd := table(9, "public", "Query", "kind", "cursor", "__x", "_x", "and", "or", "not", "where", "größe", "a b", "a_b")
	odd.Columns = append(odd.Columns, catalog.Column{Number: 90, Name: "mood", Type: mood})
	named := table(10, "public", "plain", "id")
	named.TypeName, named.FieldName = "Fancy", "fancy"
	badly := table(11, "public", "badly", "id")
	badly.TypeName, badly.FieldName = "no name", "__no"
	nameless := table(12, "public", "hidden", "id")
	nameless.Columns = nil
	return catalog.Catalog{Tables: []catalog.Table{
		table(1, "public", "order_items", "id"),
		table(2, "public", "OrderItems", "ID", "id", "Id"),
		table(3, "sales", "orders", "id"),
		table(4, "public", "sales_orders", "id"),
		table(5, "public", "orders", "id"),
		table(6, "public", "orders_change", "id"),
		table(7, "public", "price", "id"),
		table(8, "public", "string", "id"),
		odd, named, badly, nameless,
	}}
}

func TestClashes(t *testing.T) {
	t.Parallel()
	s, problems, err := Build(odd(), []Field{price()})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	golden(t, "testdata/odd.problems", b.String())
	golden(t, "testdata/odd.graphql", s.SDL())
}

// TestNamesAreStable adds tables one by one: none changes what was there before.
func TestNamesAreStable(t *testing.T) {
	t.Parallel()
	all := odd().Tables
	slices.Reverse(all) // their order in the catalog must not matter
	was := map[string]string{}
	for n := range len(all) + 1 {
		var c catalog.Catalog
		for _, table := range all {
			if int(table.Watch) <= n {
				c.Tables = append(c.Tables, table)
			}
		}
		s, _, err := Build(c, []Field{price()})
		if err != nil {
			t.Fatal(err)
		}
		now := map[string]string{}
		for name, d := range s.ast.Types {
			if name != "Subscription" {
				now[name] = printDefinition(d)
			}
		}
		for name, text := range was {
			if now[name] != text {
				t.Errorf("with table %d, type %s became\n%s", n, name, now[name])
			}
		}
		was = now
	}
}

func TestComments(t *testing.T) {
	t.Parallel()
	c := shop()
	c.Tables[0].Comment = "  What\r\nwas \"\"\" ordered\x01.\n\n"
	cols := c.Tables[0].Columns
	cols[0].Comment = "Counted up.\n@deprecated use \"token\"\nAlways."
	cols[1].Comment = "@deprecated"
	cols[2].Comment = "@deprecatedly named"
	cols[3].Comment = "ends with \\"
	cols[14].Comment = "@numbers"
	s, _, err := Build(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `"""
What
was \""" ordered.
"""
type Orders {
  """
  Counted up.
  Always.
  """
  id: BigInt! @deprecated(reason: "use \"token\"")
  tenantId: String! @deprecated

  """@deprecatedly named"""
  status: OrderStatus!

  """
  ends with \
  """
  amount: Decimal
`
	if got := printDefinition(s.ast.Types["Orders"]); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	c := shop()
	c.Tables[0].Comment += "\n@numbers"
	s, _, err := Build(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, s, `subscription { ordersChanged(where: {id: {in: [7, 9007199254740992]}, amount: {gt: 1.25}}) { new { id amount } } }`, "", tenantA)
	if _, got := seen(t, p, updated("a", "a", orderOld, orderOld), tenantA); got != `{"data":{"ordersChanged":{"new":{"id":7,"amount":1.50}}}}` {
		t.Error(got)
	}
	if _, errs := s.Subscribe(Request{Query: `subscription { ordersChanged(where: {id: {eq: 1.5}}) { kind } }`}, nil); errs == nil {
		t.Error("a fraction is taken for a bigint")
	}
}

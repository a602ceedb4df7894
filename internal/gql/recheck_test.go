package gql

import (
	"errors"
	"slices"
	"testing"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/subs"
)

func TestRecheck(t *testing.T) {
	t.Parallel()
	orders := func(c *catalog.Catalog) *catalog.Table { return &c.Tables[0] }
	column := func(c *catalog.Catalog, name string) *catalog.Column {
		cols := orders(c).Columns
		return &cols[slices.IndexFunc(cols, func(col catalog.Column) bool { return col.Name == name })]
	}
	drop := func(name string) func(*catalog.Catalog) {
		return func(c *catalog.Catalog) {
			orders(c).Columns = slices.DeleteFunc(orders(c).Columns, func(col catalog.Column) bool { return col.Name == name })
		}
	}
	const plain = `subscription { ordersChanged(where: {gift: {eq: true}}) { kind new { id amount } } }`
	for _, c := range []struct {
		name   string
		query  string
		change func(*catalog.Catalog)
		want   string // what changed; empty: the plan goes on
	}{
		{"nothing", plain, func(*catalog.Catalog) {}, ""},
		{"a new column", plain, func(c *catalog.Catalog) {
			orders(c).Columns = append(orders(c).Columns, catalog.Column{Number: 99, Name: "more", Type: base("text")})
		}, ""},
		{"a new table", plain, func(c *catalog.Catalog) {
			c.Tables = append(c.Tables, catalog.Table{Watch: 9, Schema: "public", Name: "x", Shared: true, Columns: []catalog.Column{{Number: 1, Name: "id", Type: base("int4")}}})
		}, ""},
		{"another table changes", plain, func(c *catalog.Catalog) { c.Tables[1].Columns = c.Tables[1].Columns[:1]; c.Tables[1].Key = nil }, ""},
		{"a comment", plain, func(c *catalog.Catalog) { column(c, "id").Comment = "new" }, ""},
		{"a column not used is dropped", plain, drop("note"), ""},
		{"a column shown is dropped", plain, drop("amount"), "column amount of table public.orders is gone; subscribe again"},
		{"a column filtered by is dropped", plain, drop("gift"), "column gift of table public.orders is gone; subscribe again"},
		{"any column where all are compared", `subscription { ordersChanged { changedFields } }`, drop("note"), "column note of table public.orders is gone; subscribe again"},
		{"a column is renamed", plain, func(c *catalog.Catalog) { column(c, "amount").Name = "total" }, "column amount of table public.orders is now called total; subscribe again"},
		{"a column has another type", plain, func(c *catalog.Catalog) { column(c, "amount").Type = base("int4") }, "column amount of table public.orders has another type; subscribe again"},
		{"a column may not be null any more", plain, func(c *catalog.Catalog) { column(c, "amount").NotNull = true }, ""},
		{"a column may be null now", plain, func(c *catalog.Catalog) { column(c, "id").NotNull = false }, "column id of table public.orders has another type; subscribe again"},
		{"an enum has a label more", `subscription { ordersChanged { new { status } } }`, func(c *catalog.Catalog) {
			typ := *column(c, "status").Type
			typ.Labels = append(slices.Clone(typ.Labels), "lost")
			column(c, "status").Type = &typ
		}, "column status of table public.orders has another type; subscribe again"},
		{"the tenant column", plain, func(c *catalog.Catalog) { orders(c).TenantColumn = "" }, "table public.orders has another tenant column; subscribe again"},
		{"the key, used", `subscription { ordersChanged { key } }`, func(c *catalog.Catalog) { orders(c).Key = []string{"token"} }, "table public.orders has another primary key; subscribe again"},
		{"the key, not used", plain, func(c *catalog.Catalog) { orders(c).Key = []string{"token"} }, ""},
		{"not watched", plain, func(c *catalog.Catalog) { c.Tables = c.Tables[1:] }, "table public.orders is watched no more, or under another name; subscribe again"},
		{"watched anew", plain, func(c *catalog.Catalog) { orders(c).Watch = 7 }, "table public.orders is watched no more, or under another name; subscribe again"},
		{"another name", plain, func(c *catalog.Catalog) { orders(c).TypeName = "Purchase" }, "the type of table public.orders is now called Purchase; subscribe again"},
		{"restricted", plain, func(c *catalog.Catalog) {
			orders(c).Policies = []catalog.Policy{{Kind: catalog.RowPolicy, Column: 5}}
		}, "table public.orders has other policies; subscribe again"},
		{"a column restricted", plain, func(c *catalog.Catalog) {
			orders(c).Policies = []catalog.Policy{{Kind: catalog.ColumnPolicy, Column: 5}}
		}, "table public.orders has other policies; subscribe again"},
		{"another table restricted", plain, func(c *catalog.Catalog) {
			c.Tables[1].Policies = []catalog.Policy{{Kind: catalog.RowPolicy, Column: 2}}
		}, ""},
		{"a custom field", `subscription { priceChanged(symbol: "x") { symbol } }`, drop("note"), ""},
	} {
		p := plan(t, build(t, price()), c.query, "", tenantA)
		now := shop()
		c.change(&now)
		s, _, err := Build(now, []Field{price()})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := s.Recheck(p); err != nil {
			var changed *SchemaChanged
			if !errors.As(err, &changed) {
				t.Fatal(err)
			}
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}

	s, _, err := Build(shop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := plan(t, build(t, price()), `subscription { priceChanged(symbol: "x") { symbol } }`, "", nil); s.Recheck(p) == nil {
		t.Error("a custom field that is gone goes on")
	}
}

// TestOldImages shows images of before a change of the table to a plan of after it.
func TestOldImages(t *testing.T) {
	t.Parallel()
	p := plan(t, build(t), `subscription { ordersChanged { kind new { note } old { note } } }`, "", tenantA)
	c := updated("a", "a", `{"id":1,"remark":"x"}`, `{"note":"y","id":1}`)
	_, got := seen(t, p, c, tenantA)
	want := `{"errors":[{"message":"The value of Orders.note does not fit its type String.","locations":[{"line":1,"column":56}],"path":["ordersChanged","old","note"],"extensions":{"code":"NOT_REPRESENTABLE"}}],` +
		`"data":{"ordersChanged":{"kind":"UPDATE","new":{"note":"y"},"old":{"note":null}}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	filtered := plan(t, build(t), `subscription { ordersChanged(where: {note: {eq: "y"}}) { kind } }`, "", tenantA)
	if e, _ := seen(t, filtered, c, tenantA); e != subs.Failed {
		t.Errorf("effect %d of an image that cannot be judged", e)
	}
}

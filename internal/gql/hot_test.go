package gql

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

func parsed(t testing.TB, c *change.Change, id *auth.Identity) *subs.Match {
	t.Helper()
	m := &subs.Match{Change: c, Old: new(change.Row), New: new(change.Row), Identity: id}
	if err := m.Old.Parse(c.Old); err != nil {
		t.Fatal(err)
	}
	if err := m.New.Parse(c.New); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNoMatchAllocatesNothing(t *testing.T) {
	s := build(t)
	c := updated("a", "a", orderOld, strings.ReplaceAll(orderNew, "NaN,", "2.5,"))
	m := parsed(t, &c, tenantA)
	for _, where := range []string{
		`status: {eq: in_transit}`, `amount: {gt: "1000000000000000000000000000000"}`, `amount: {in: [7, 8, "9.50"]}`,
		`note: {eq: "no"}`, `quantity: {lt: -1}`, `weight: {eq: 7.25}`, `createdAt: {gt: "2030-01-01T00:00:00+02:00"}`,
		`due: {lt: "-001000-01-01"}`, `payload: {contains: {k: [2, {a: "b"}]}}`, `payload: {path: [{at: ["k", "0"], eq: 5}]}`,
		`seal: {eq: "AAAA"}`, `tags: {has: "y"}`, `tags: {hasAny: ["p", "q"]}`, `address: {eq: "10.0.0.2"}`, `token: {eq: "ffffffff-ffff-ffff-ffff-ffffffffffff"}`,
		`or: [{quantity: {eq: 9}}, {not: {quantity: {eq: 3}}}]`, `note: {like: "%zz"}`,
	} {
		p := plan(t, s, `subscription { ordersChanged(where: {`+where+`}) { kind } }`, "", tenantA)
		if e := p.Match(m); e != subs.None {
			t.Errorf("%s: effect %d", where, e)
		}
		if n := testing.AllocsPerRun(20, func() { p.Match(m) }); n != 0 {
			t.Errorf("%s: %g allocations", where, n)
		}
	}
	p := plan(t, s, `subscription { ordersChanged { kind } }`, "", tenantA)
	stranger := parsed(t, &c, &auth.Identity{Tenants: []string{"x"}})
	if n := testing.AllocsPerRun(20, func() { p.Match(stranger) }); n != 0 {
		t.Errorf("another tenant: %g allocations", n)
	}
}

// wide is a table of n text columns, with an image of it.
func wide(n int) (catalog.Catalog, string) {
	cols := []catalog.Column{{Number: 1, Name: "id", NotNull: true, Type: base("int8")}}
	image := `{"id":1`
	for i := range n - 1 {
		name := fmt.Sprintf("c%d", i)
		cols = append(cols, catalog.Column{Number: int16(i + 2), Name: name, Type: base([]string{"text", "int4", "timestamptz", "numeric"}[i%4])})
		image += `,"` + name + `":` + []string{`"some text that is a little longer"`, `12345`, `"2024-02-29T12:00:00.123456+00:00"`, `1234.50`}[i%4]
	}
	return catalog.Catalog{Tables: []catalog.Table{{Watch: 1, Schema: "public", Name: "t", TenantColumn: "id", Columns: cols, Key: []string{"id"}}}}, image + "}"
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1, 10, 40} {
		cat, image := wide(n)
		s, _, err := Build(cat, nil)
		if err != nil {
			b.Fatal(err)
		}
		var names []string
		for _, c := range s.tables["tChanged"].columns {
			names = append(names, c.name)
		}
		all := strings.Join(names, " ")
		c := updated("a", "a", image, image)
		m := parsed(b, &c, tenantA)
		b.Run(fmt.Sprintf("parse/columns=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var row change.Row
			for b.Loop() {
				if err := row.Parse(c.New); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("match none/columns=%d", n), func(b *testing.B) {
			p := plan(b, s, `subscription { tChanged(where: {id: {eq: "2"}}) { kind } }`, "", tenantA)
			b.ReportAllocs()
			for b.Loop() {
				p.Match(m)
			}
		})
		for name, sel := range map[string]string{"one": "id", "all": all} {
			b.Run(fmt.Sprintf("encode %s/columns=%d", name, n), func(b *testing.B) {
				p := plan(b, s, `subscription { tChanged { kind new { `+sel+` } old { `+sel+` } } }`, "", tenantA)
				b.ReportAllocs()
				for b.Loop() {
					p.Encode(context.Background(), m, subs.Changes)
				}
			})
		}
	}
}

func BenchmarkSubscribe(b *testing.B) {
	s := build(b)
	r := Request{
		Query:     `subscription S($q: Int!, $s: [OrderStatus!]) { ordersChanged(where: {quantity: {gte: $q}, status: {in: $s}}) { kind new { id status amount } old { id } } }`,
		Variables: []byte(`{"q": 3, "s": ["paid", "new"]}`),
	}
	for b.Loop() {
		if _, errs := s.Subscribe(r, tenantA); errs != nil {
			b.Fatal(string(errs))
		}
	}
}

package gql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/subs"
)

// restrictedKinds are the columns by which the property test restricts rows, and texts to be their values: as Postgres writes them, and
// otherwise.
var restrictedKinds = []struct {
	name, sql string
	typ       *catalog.Type
	values    []string
	others    []string
}{
	{"t", "text", base("text"), []string{"u1", "u2", "", "U1", "7", "true", `a"\b`, " "}, nil},
	{"i", "int", base("int4"), []string{"7", "-1", "0", "2147483647"}, []string{"07", "+7", "-0", "7.0", "u1", "99999999999999999999"}},
	{"b", "bigint", base("int8"), []string{"9007199254740993", "7", "9007199254740992"}, []string{"9007199254740993.0", "1e3"}},
	{"n", "numeric", base("numeric"), []string{"7", "9007199254740993", "-1"}, []string{"7.0", "NaN", "1e3"}},
	{"c", "char(3)", base("bpchar"), []string{"u1", "ab", "7"}, []string{"u1 ", "   "}},
	{"u", "uuid", base("uuid"), []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, []string{"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "u1"}},
	{"f", "boolean", base("bool"), []string{"true", "false"}, []string{"t", "1", "TRUE"}},
	{"m", "mood", &catalog.Type{Schema: "public", Name: "mood", Kind: catalog.Enum, Labels: []string{"sad", "so so"}}, []string{"sad", "so so"}, []string{"so_so", "SAD"}},
	{"d", "label", &catalog.Type{Schema: "public", Name: "label", Kind: catalog.Domain, Elem: base("text")}, []string{"u1", "u2", "x"}, nil},
}

// claimOf draws what an issuer may say, and tells which texts a row's column may have for it: nil for none.
func claimOf(t *rapid.T, kind int) (given any, texts []string) {
	k := restrictedKinds[kind]
	one := func() (given any, text string, fits bool) {
		text = rapid.SampledFrom(k.values).Draw(t, "value")
		switch form := rapid.IntRange(0, 9).Draw(t, "form"); {
		case form == 9:
			return "", "", true
		case form == 8 && len(k.others) > 0:
			return rapid.SampledFrom(k.others).Draw(t, "other"), "", false
		case form == 7:
			return rapid.SampledFrom([]any{map[string]any{"x": text}, 1.5, json.Number("1.5"), json.Number("1e3"), float64(1 << 60)}).Draw(t, "odd"), "", false
		case form == 6 && k.name != "f":
			return true, "", false
		case form >= 5 && k.name == "f":
			return text == "true", text, true
		case form == 5 && canonicalNumber.MatchString(text):
			return json.Number(text), text, true
		}
		return text, text, true
	}
	switch rapid.IntRange(0, 5).Draw(t, "claim") {
	case 5:
		return nil, nil
	case 1, 2:
		list, all := []any{}, true
		for range rapid.IntRange(0, 3).Draw(t, "list") {
			v, text, fits := one()
			list, texts, all = append(list, v), append(texts, text), all && fits
		}
		if !all {
			texts = nil
		}
		return list, texts
	}
	v, text, _ := one()
	return v, []string{text}
}

// TestPoliciesAreWhatSelectSees holds three answers to who sees a row equal: the plan's in memory, Postgres' with the condition by which
// rows are read, and the test's own, by the texts that Postgres writes.
func TestPoliciesAreWhatSelectSees(t *testing.T) {
	db := pgtest.Bare(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it has served
	exec := func(t interface{ Fatal(...any) }, sql string, args ...any) {
		if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
			t.Fatal(err, sql)
		}
	}
	exec(t, "create type mood as enum ('sad', 'so so'); create domain label as text")
	defs, texts := []string{"id int"}, []string{"row_to_json(item)::text"}
	table := catalog.Table{Watch: 1, Schema: "public", Name: "item", TenantColumn: "id", Columns: []catalog.Column{{Number: 1, Name: "id", Type: base("int4")}}}
	for i, k := range restrictedKinds {
		defs, texts = append(defs, k.name+" "+k.sql), append(texts, fmt.Sprintf("coalesce(%s::text, '')", k.name))
		table.Columns = append(table.Columns, catalog.Column{Number: int16(i + 2), Name: k.name, Type: k.typ})
	}
	exec(t, "create table item ("+strings.Join(defs, ", ")+")")
	all, some, none := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		exec(rt, "truncate item")
		var b pgx.Batch
		for id := range rapid.IntRange(1, 8).Draw(rt, "rows") {
			names, places, args := []string{"id"}, []string{"$1"}, []any{id}
			for _, k := range restrictedKinds {
				if rapid.IntRange(0, 5).Draw(rt, "null") < 5 {
					args = append(args, rapid.SampledFrom(k.values).Draw(rt, "value"))
					names, places = append(names, k.name), append(places, fmt.Sprintf("$%d::text::%s", len(args), k.sql))
				}
			}
			b.Queue("insert into item ("+strings.Join(names, ", ")+") values ("+strings.Join(places, ", ")+")", args...)
		}
		if err := conn.SendBatch(context.Background(), &b).Close(); err != nil {
			rt.Fatal(err)
		}

		who := &auth.Identity{Tenants: []string{"x"}, UserID: rapid.SampledFrom([]string{"u1", "7", "true", "sad", "07", ""}).Draw(rt, "user"), Claims: map[string]any{}, Roles: rapid.SampledFrom([][]string{nil, {"staff"}, {"admin"}, {""}}).Draw(rt, "roles")}
		allowed := map[int][]string{} // by kind; of those that restrict
		table := table
		table.Policies = nil
		for kind := range restrictedKinds {
			if rapid.IntRange(0, 4).Draw(rt, "restricts") < 4 {
				continue
			}
			p := catalog.Policy{Kind: catalog.RowPolicy, Column: int16(kind + 2), Roles: rapid.SampledFrom([][]string{{}, {"admin"}, {"root", "admin"}}).Draw(rt, "bypass")}
			name := restrictedKinds[kind].name
			given, texts := claimOf(rt, kind)
			switch rapid.IntRange(0, 2).Draw(rt, "where") {
			case 2:
				texts = []string{who.UserID}
			case 0:
				p.Claim, who.Claims[name] = name, given
			case 1:
				p.Claim, who.Claims["in."+name] = "in."+name+".it", map[string]any{"it": given}
			}
			table.Policies = append(table.Policies, p)
			if !slices.Contains(who.Roles, "admin") || len(p.Roles) == 0 {
				allowed[kind] = texts
			}
		}
		s, _, err := Build(catalog.Catalog{Tables: []catalog.Table{table}}, nil)
		if err != nil {
			rt.Fatal(err)
		}
		p := plan(t, s, `subscription { itemChanged(initial: true) { kind } }`, "", who)
		q := p.Start(who).Rows
		if q.Where == "" {
			q.Where = "true"
		}
		rows, err := conn.Query(context.Background(), "select coalesce("+q.Where+", false), "+strings.Join(texts, ", ")+" from item", q.Args...)
		if err != nil {
			rt.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				rt.Fatal(err)
			}
			want := true
			for kind, texts := range allowed {
				text := values[kind+2].(string)
				want = want && text != "" && slices.Contains(texts, text)
			}
			var row change.Row
			if err := row.Parse([]byte(values[1].(string))); err != nil {
				rt.Fatal(err)
			}
			e := p.Match(&subs.Match{Change: &change.Change{Op: change.Insert, Tenant: "x"}, New: &row, Identity: who})
			if got := e == subs.Enters; got != want || values[0] != want || e != subs.Enters && e != subs.None {
				rt.Fatalf("in memory effect %d, SQL %v, want %v: %s\nfor %+v by %+v\n%s %v", e, values[0], want, values[1], who, table.Policies, q.Where, q.Args)
			}
			switch {
			case len(allowed) == 0:
				all++
			case want:
				some++
			default:
				none++
			}
		}
		if err := rows.Err(); err != nil {
			rt.Fatal(err)
		}
	})
	t.Logf("rows seen without a policy: %d, by one: %d, not seen: %d", all, some, none)
	if all == 0 || some == 0 || none == 0 {
		t.Errorf("rows seen without a policy: %d, by one: %d, not seen: %d", all, some, none)
	}
}

// A value is what Postgres writes, and nothing else that it would read as that.
func TestValuesOfPolicies(t *testing.T) {
	t.Parallel()
	for _, k := range restrictedKinds {
		p := rowPolicy{column: filter.NewColumn(k.name, 0, k.typ)}
		for _, text := range k.values {
			if _, fits := p.value(text); !fits && text != "" && text != " " {
				t.Errorf("%s: %q does not fit", k.sql, text)
			}
		}
		for _, text := range k.others {
			if _, fits := p.value(text); fits {
				t.Errorf("%s: %q fits", k.sql, text)
			}
		}
	}
	for _, given := range []any{nil, 1.5, float64(1 << 53), json.Number("1.0"), json.Number("1e3"), []any{}, map[string]any{}, [1]int{}} {
		if text, ok := textOf(given); ok {
			t.Errorf("%v has the text %s", given, text)
		}
	}
}

// restrictedShop is the shop whose orders are their users', and whose amounts are for finance.
func restrictedShop(more ...catalog.Policy) catalog.Catalog {
	c := shop()
	c.Tables[0].Policies = append([]catalog.Policy{
		{Kind: catalog.ColumnPolicy, Column: 4, Roles: []string{"finance", "audit"}},
		{Kind: catalog.RowPolicy, Column: 5, Roles: []string{"admin"}},
	}, more...)
	return c
}

func restricted(t *testing.T, more ...catalog.Policy) *Schema {
	t.Helper()
	s, problems, err := Options{Federation: true}.Build(restrictedShop(more...), nil)
	if err != nil || len(problems) != 1 { // the name of a label
		t.Fatal(problems, err)
	}
	return s
}

// A change is for a subscriber what it is to the rows that it may see, whatever its filter makes of others.
func TestChangesUnderAPolicy(t *testing.T) {
	t.Parallel()
	s := restricted(t)
	u, v := &auth.Identity{UserID: "u", Tenants: []string{"a"}}, &auth.Identity{UserID: "v", Tenants: []string{"a"}}
	admin := &auth.Identity{UserID: "admin", Tenants: []string{"a"}, Roles: []string{"admin"}}
	nobody := &auth.Identity{Tenants: []string{"a"}}
	of := func(note, quantity string) string {
		return `{"id":1,"tenant_id":"a","quantity":` + quantity + `,"note":` + note + `}`
	}
	mine, yours, odd := of(`"u"`, "1"), of(`"v"`, "1"), of(`"v"`, `"x"`)
	const query = `subscription { ordersChanged(where: {quantity: {gte: 0}}) { kind new { note } old { note } } }`
	event := func(kind, old, new string) string {
		return `{"data":{"ordersChanged":{"kind":"` + kind + `","new":` + new + `,"old":` + old + `}}}`
	}
	note := func(s string) string { return `{"note":"` + s + `"}` }
	for _, c := range []struct {
		name string
		id   *auth.Identity
		c    change.Change
		want string
	}{
		{"mine", u, updated("a", "a", mine, of(`"u"`, "2")), event("UPDATE", note("u"), note("u"))},
		{"another's", v, updated("a", "a", mine, of(`"u"`, "2")), ""},
		{"from me", u, updated("a", "a", mine, yours), event("DELETE", note("u"), "null")},
		{"to me", v, updated("a", "a", mine, yours), event("INSERT", "null", note("v"))},
		{"of all, to who bypasses", admin, updated("a", "a", mine, yours), event("UPDATE", note("u"), note("v"))},
		{"another tenant's", u, updated("b", "b", mine, of(`"u"`, "2")), ""},
		{"who is nobody", nobody, updated("a", "a", of(`""`, "1"), of(`""`, "2")), ""},
		{"no identity", nil, updated("a", "a", mine, of(`"u"`, "2")), ""},
		{"NULL", u, updated("a", "a", of("null", "1"), of("null", "2")), ""},
		{"another's that does not fit the filter", u, updated("a", "a", odd, odd), ""},
		{"NULL that does not fit the filter", u, updated("a", "a", of("null", `"x"`), of("null", `"x"`)), ""},
		{"truncated", u, change.Change{Op: change.Truncate}, event("TRUNCATE", "null", "null")},
		{"truncated, to who sees no rows", nobody, change.Change{Op: change.Truncate}, ""},
		{"unserializable, to who sees no rows", nobody, change.Change{Op: change.Insert, Tenant: "a", Unserializable: true}, ""},
	} {
		if _, got := seen(t, plan(t, s, query, "", c.id), c.c, c.id); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	// Of what can't be judged, who may see some rows is told that it was, and nothing of it.
	p := plan(t, s, query, "", u)
	for _, c := range []change.Change{updated("a", "a", `{"id":1,"quantity":1}`, `{"id":1,"quantity":1}`), {Op: change.Insert, Tenant: "a", Unserializable: true}} {
		if e, got := seen(t, p, c, u); e != subs.Failed || strings.Contains(got, `"1"`) {
			t.Errorf("effect %d: %s", e, got)
		}
	}
	if plan(t, s, query, "", v).Key() == p.Key() || plan(t, s, query, "", &auth.Identity{UserID: "u", Roles: []string{"x"}}).Key() != p.Key() {
		t.Error("plans share what they must not, or do not share what they may")
	}
}

// What does not fit is nobody's, and differs from all else.
func TestSameRows(t *testing.T) {
	t.Parallel()
	s := restricted(t, catalog.Policy{Kind: catalog.RowPolicy, Column: 6, Claim: "department.ids"})
	id := func(ids any) *auth.Identity {
		return &auth.Identity{UserID: "u", Claims: map[string]any{"other": ids, "department": map[string]any{"ids": ids}}}
	}
	for _, c := range []struct {
		a, b *auth.Identity
		want bool
	}{
		{id("1"), id([]any{json.Number("1"), "1"}), true},
		{id([]any{"1", "2"}), id([]any{"2", "1"}), true},
		{id("1"), id("2"), false},
		{id("1"), id(nil), false},
		{id("x"), id(nil), true},
		{id("1"), id(float64(1)), true},
		{id("1"), id(int64(1)), true},
		{id([]string{"1"}), id(1), true},
		{id(map[string]any{}), id(""), true},
		{&auth.Identity{UserID: "u", Claims: map[string]any{"x": 1}}, &auth.Identity{UserID: "u"}, true},
	} {
		if got := s.SameRows(c.a, c.b); got != c.want {
			t.Errorf("%+v and %+v: %t", c.a, c.b, got)
		}
	}
}

// A table whose policy has lost its column, or has one of another type, is seen by nobody but who bypasses it.
func TestAPolicyWithoutAColumn(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]catalog.Policy{
		"gone": {Kind: catalog.RowPolicy}, "excluded": {Kind: catalog.RowPolicy, Column: 99, Claim: "x"}, "of another type": {Kind: catalog.RowPolicy, Column: 10, Claim: "x"},
	} {
		p.Roles = []string{"admin"}
		c := shop()
		c.Tables[0].Policies = []catalog.Policy{p}
		s, problems, err := Build(c, nil)
		if err != nil || len(problems) != 2 {
			t.Fatal(problems, err)
		}
		const query = `subscription { ordersChanged(initial: true) { kind } }`
		who := &auth.Identity{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"x": "u"}}
		denied, admitted := plan(t, s, query, "", who), plan(t, s, query, "", &auth.Identity{Roles: []string{"admin"}})
		if e, _ := seen(t, denied, updated("a", "a", orderOld, orderNew), who); e != subs.None || denied.Start(who).Rows.Where != "false" || !admitted.admits.Always() {
			t.Errorf("%s: effect %d, rows where %s", name, e, denied.Start(who).Rows.Where)
		}
	}
}

package gql

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

const introspect = `{ __schema { types { name kind description fields { name description args { name defaultValue } type { name ofType { name } } } inputFields { name } enumValues { name } possibleTypes { name } } } _service { sdl } }`

// Who may not see a column has the schema of a table that has none, to the last letter; and the other way round.
func TestAHiddenColumnIsNotThere(t *testing.T) {
	t.Parallel()
	without := func(name string) catalog.Catalog {
		c := shop()
		for i := range c.Tables {
			if slices.Contains(c.Tables[i].Key, name) {
				c.Tables[i].Key = nil
			}
			c.Tables[i].Columns = slices.DeleteFunc(c.Tables[i].Columns, func(col catalog.Column) bool { return col.Name == name })
		}
		return c
	}
	o := Options{Federation: true}
	ask := func(s *Schema, id *auth.Identity) string {
		return string(s.Execute(context.Background(), Request{Query: introspect}, id))
	}
	whole, _, err := o.Build(shop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, table := range shop().Tables {
		for _, col := range table.Columns {
			c := shop()
			c.Tables[i].Policies = []catalog.Policy{{Kind: catalog.ColumnPolicy, Column: col.Number, Roles: []string{"r"}}}
			s, problems, err := o.Build(c, nil)
			if err != nil || len(problems) != 1 { // the name of a label
				t.Fatal(problems, err)
			}
			bare, _, err := o.Build(without(col.Name), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, who := range []*auth.Identity{nil, {Roles: []string{"other", ""}}} {
				if got, want := ask(s, who), ask(bare, who); got != want {
					t.Errorf("without %s it is\n%s\nnot\n%s", col.Name, got, want)
				}
			}
			if ask(s, &auth.Identity{Roles: []string{"x", "r"}}) != ask(whole, nil) || s.SDL() != whole.SDL() {
				t.Errorf("%s: who may see it does not", col.Name)
			}
		}
	}
}

// A column that is hidden cannot be named, and is not told of.
func TestAHiddenColumnCannotBeNamed(t *testing.T) {
	t.Parallel()
	s := restricted(t)
	who := &auth.Identity{UserID: "hi \"x\"", Tenants: []string{"a"}}
	finance := &auth.Identity{UserID: who.UserID, Tenants: who.Tenants, Roles: []string{"finance"}}
	for _, query := range []string{
		`subscription { ordersChanged { new { amount } } }`, `subscription { ordersChanged { old { amoun: amount } } }`, `subscription { ordersBatch { changes { new { amount } } } }`,
		`subscription { ordersChanged(where: {amount: {gt: "1"}}) { kind } }`, `subscription { ordersChanged(where: {or: [{not: {amount: {isNull: true}}}]}) { kind } }`,
		`subscription { ordersChanged(initial: true, orderBy: [{amount: ASC}]) { kind } }`, `subscription { ordersChanged(where: {amoun: {gt: "1"}}) { kind new { amoun } } }`,
	} {
		_, errs := s.Subscribe(Request{Query: query}, who)
		told := strings.ReplaceAll(string(errs), `\"amount\"`, "") // as it was asked
		if errs == nil || strings.Contains(told, "amount") || strings.Contains(told, "Decimal") {
			t.Errorf("%s: %s", query, errs)
		}
		if _, errs := s.Subscribe(Request{Query: query}, finance); errs != nil && !strings.Contains(query, "amoun:") {
			t.Errorf("%s: who may see it is refused: %s", query, errs)
		}
		if kind, errs := s.OperationKind(Request{Query: query}, who); errs == nil {
			t.Errorf("%s: %s", query, kind)
		}
	}
	const query = `subscription { ordersChanged { kind changedFields new { id } old { id } } }`
	of := func(amount string, more string) string {
		return `{"id":7,"tenant_id":"a","status":"new","amount":` + amount + `,"note":"hi \"x\""` + more + `}`
	}
	p, q := plan(t, s, query, "", who), plan(t, s, query, "", finance)
	const seven = `"new":{"id":"7"},"old":{"id":"7"}}}}`
	for _, c := range []struct {
		plan *Plan
		id   *auth.Identity
		more string
		want string
	}{
		{p, who, "", ""}, // nothing that it may see has changed
		{p, who, `,"quantity":1`, `{"data":{"ordersChanged":{"kind":"UPDATE","changedFields":["quantity"],` + seven},
		{q, finance, "", `{"data":{"ordersChanged":{"kind":"UPDATE","changedFields":["amount"],` + seven},
		{q, finance, `,"quantity":1`, `{"data":{"ordersChanged":{"kind":"UPDATE","changedFields":["amount","quantity"],` + seven},
	} {
		if _, got := seen(t, c.plan, updated("a", "a", of("1", ""), of("2", c.more)), c.id); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if e, _ := seen(t, q, updated("a", "a", of("1", ""), of("1", "")), finance); e != subs.Changes {
		t.Error("an update of nothing does not come to who sees all columns")
	}
}

// A key that has a hidden column is none, and there are no entities by it.
func TestAHiddenKey(t *testing.T) {
	t.Parallel()
	s := restricted(t, catalog.Policy{Kind: catalog.ColumnPolicy, Column: 1, Roles: []string{"r"}})
	who := &auth.Identity{UserID: `hi "x"`, Tenants: []string{"a"}}
	_, got := seen(t, plan(t, s, `subscription { ordersChanged { key oldKey } }`, "", who), updated("a", "a", orderOld, strings.Replace(orderOld, "0.5", "1", 1)), who)
	if want := `{"data":{"ordersChanged":{"key":null,"oldKey":null}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	out := string(s.Execute(context.Background(), Request{Query: `{ _entities(representations: [{__typename: "Orders", id: 7}]) { __typename } }`}, who))
	if want := `"data":{"_entities":[null]}`; !strings.Contains(out, want) || !strings.Contains(out, "is no type with a key") {
		t.Errorf("got %s", out)
	}
	if q := plan(t, s, `subscription { ordersChanged(initial: true) { kind } }`, "", who).Start(who).Rows; len(q.OrderBy) > 0 {
		t.Errorf("ordered by %v", q.OrderBy)
	}
}

// Others' names are the same in each schema.
func TestNamesDoNotMove(t *testing.T) {
	t.Parallel()
	mood := func(schema string) *catalog.Type {
		return &catalog.Type{Schema: schema, Name: "mood", Kind: catalog.Enum, Labels: []string{schema}}
	}
	c := catalog.Catalog{Tables: []catalog.Table{
		{Watch: 1, Schema: "public", Name: "t", Shared: true, Columns: []catalog.Column{
			{Number: 1, Name: "my_name", Type: base("int4")}, {Number: 2, Name: "myName", Type: base("text")}, {Number: 3, Name: "a", Type: mood("public")}, {Number: 4, Name: "b", Type: mood("public")},
		}, Policies: []catalog.Policy{{Kind: catalog.ColumnPolicy, Column: 1}, {Kind: catalog.ColumnPolicy, Column: 3}}},
		{Watch: 2, Schema: "public", Name: "mood", Shared: true, Columns: []catalog.Column{{Number: 1, Name: "x", Type: base("int4")}}, Policies: []catalog.Policy{{Kind: catalog.ColumnPolicy, Column: 1}}},
		{Watch: 3, Schema: "x", Name: "u", Shared: true, Columns: []catalog.Column{{Number: 1, Name: "x", Type: mood("x")}, {Number: 2, Name: "y", Type: base("int4")}}, Policies: []catalog.Policy{{Kind: catalog.ColumnPolicy, Column: 1}}},
	}}
	s, _, err := Build(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, failed := s.as(nil)
	if failed != nil {
		t.Fatal(failed)
	}
	whole, part := s.tables["tChanged"], v.tables["tChanged"]
	if len(part.columns) != 2 || part.columns[0].name != whole.columns[1].name || part.columns[0].name == "myName" || part.columns[1].typ != whole.columns[3].typ {
		t.Errorf("of %s there are %+v", s.SDL(), part.columns)
	}
	if strings.Contains(v.SDL(), "XMood") || strings.Contains(v.SDL(), "moodChanged") || v.tables["moodChanged"] != nil || !strings.Contains(v.SDL(), part.columns[1].typ) {
		t.Errorf("types of hidden columns, or a table without a column:\n%s", v.SDL())
	}
	for field, table := range v.tables {
		if table.whole != s.tables[field] || !table.hides {
			t.Errorf("%s is not a part of the whole", field)
		}
	}
	// The plan of who does not see the columns is held against the whole.
	p := plan(t, s, `subscription { tChanged { new { b } } }`, "", nil)
	again, _, err := Build(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Recheck(p); err != nil {
		t.Error(err)
	}
	// What OnSubscribe filters by may be hidden, and is not told of when it changes.
	narrow, err := s.Narrow(p, map[string]any{"myName": map[string]any{"eq": 1}})
	if err != nil {
		t.Fatal(err)
	}
	c.Tables[0].Columns = slices.Clone(c.Tables[0].Columns)
	c.Tables[0].Columns[0].Type = base("text")
	if again, _, err = Build(c, nil); err != nil {
		t.Fatal(err)
	}
	if err := again.Recheck(narrow); err == nil || err.Error() != "table public.t is another one; subscribe again" {
		t.Error(err)
	}
	if err := again.Recheck(p); err != nil {
		t.Error(err)
	}
}

// However many roles come, few schemas are kept, and each is what it must be.
func TestFewSchemasAreKept(t *testing.T) {
	t.Parallel()
	const columns = 6 // and so 64 schemas
	table := catalog.Table{Watch: 1, Schema: "public", Name: "t", Shared: true, Columns: []catalog.Column{{Number: 99, Name: "id", Type: base("int4")}}}
	for i := range columns {
		table.Columns = append(table.Columns, catalog.Column{Number: int16(i), Name: fmt.Sprintf("c%d", i), Type: base("int4")})
		table.Policies = append(table.Policies, catalog.Policy{Kind: catalog.ColumnPolicy, Column: int16(i), Roles: []string{"r" + strconv.Itoa(i)}})
	}
	s, _, err := Build(catalog.Catalog{Tables: []catalog.Table{table}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for set := range 1 << columns {
		all.Go(func() {
			id := &auth.Identity{Roles: []string{"x" + strconv.Itoa(set)}}
			for i := range columns {
				if set>>i&1 == 1 {
					id.Roles = append(id.Roles, "r"+strconv.Itoa(i))
				}
			}
			for range 2 {
				v, failed := s.as(id)
				if failed != nil {
					t.Error(failed)
					return
				}
				for i := range columns {
					if _, seen := v.tables["tChanged"].byName[fmt.Sprintf("c%d", i)]; seen != (set>>i&1 == 1) {
						t.Errorf("with roles %b column %d is seen: %t", set, i, seen)
					}
				}
			}
		})
	}
	all.Wait()
	if n := len(s.family.variants); n != maxVariants {
		t.Errorf("%d are kept", n)
	}
	// Nor do their documents take many times what those of one schema do.
	for _, v := range s.family.variants {
		one, err := v.schema()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			query := fmt.Sprintf(`subscription Q%d { tChanged { kind } } #%s`, i, strings.Repeat(" ", 30_000))
			if _, errs := one.subscribe(Request{Query: query}, nil); errs != nil {
				t.Fatal(errs.json())
			}
		}
	}
	kept := 0
	for _, v := range s.family.variants {
		one, _ := v.schema()
		kept += one.cache.bytes
	}
	if kept == 0 || kept > keptByVariants {
		t.Errorf("documents of %d bytes are kept", kept)
	}
	one, _ := s.as(nil)
	if again, _ := s.as(&auth.Identity{Roles: []string{"r", "x"}}); again != one {
		t.Error("roles of which no policy knows make a difference")
	}
}

// A gateway gets the rows that its policies let it see, by the database and by what it gives.
func TestEntitiesUnderAPolicy(t *testing.T) {
	t.Parallel()
	c := restrictedShop()
	s, asked := rowsOf(t, c, func(*change.Query) ([]change.Change, error) {
		return []change.Change{
			standing(1, "a", `{"id":1,"tenant_id":"a","note":"u"}`), standing(1, "a", `{"id":2,"tenant_id":"a","note":"v"}`), standing(1, "a", `{"id":3,"tenant_id":"a","note":null}`),
		}, nil
	})
	got := entities(s, `... on Orders { id note }`, `[{"__typename":"Orders","id":1},{"__typename":"Orders","id":2},{"__typename":"Orders","id":3}]`)
	if want := `{"data":{"_entities":[{"__typename":"Orders","id":"1","note":"u"},null,null]}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if q := (*asked)[0]; !strings.Contains(q.Where, `"note" = $4`) && !strings.Contains(q.Where, `"note" in ($`) || !slices.Contains(q.Args, any("u")) {
		t.Errorf("asked where %s, %v", q.Where, q.Args)
	}
}

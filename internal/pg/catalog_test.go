package pg

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// typeText writes a type with all that it is made of.
func typeText(t *catalog.Type) string {
	if t == nil {
		return "-"
	}
	s := fmt.Sprintf("%c:%s.%s", t.Kind, t.Schema, t.Name)
	if len(t.Labels) > 0 {
		s += "(" + strings.Join(t.Labels, " ") + ")"
	}
	if t.Elem != nil {
		s += " of " + typeText(t.Elem)
	}
	return s
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create schema shop;
		create type shop.mood as enum ('sad', 'ok', 'happy');
		create type shop.address as (street text, zip text);
		create domain shop.email as text check (value like '%@%');
		create domain shop.moods as shop.mood[];
		create table shop.orders (
			region text, gone int, id bigint generated always as identity,
			tenant_id text not null, secret text, mood shop.mood not null, "Odd Name" shop.moods,
			email shop.email, tags text[], home shop.address, during tstzrange, point point, net inet, price numeric(10,2),
			twice int generated always as (1 + 1) stored,
			primary key (id, region));
		alter table shop.orders drop column gone;
		comment on table shop.orders is 'What was ordered';
		comment on column shop.orders.mood is 'of the customer';
		create table plain (note text);
		create table hidden_key (id int primary key, tenant_id int not null, a int);
		create table not_watched (id int);
		select notifyql.watch('shop.orders', exclude => '{secret}', type_name => 'Purchase', field_name => 'purchases');
		select notifyql.watch('plain', shared => true);
		select notifyql.watch('hidden_key', exclude => '{id}')`)
	want := map[string]string{
		"shop.orders": `Purchase purchases tenant_id "What was ordered" [id region]
			1 region b:pg_catalog.text not null
			3 id b:pg_catalog.int8 not null
			4 tenant_id b:pg_catalog.text not null
			6 mood e:shop.mood(sad ok happy) not null "of the customer"
			7 Odd Name d:shop.moods of a:shop._mood of e:shop.mood(sad ok happy)
			8 email d:shop.email of b:pg_catalog.text
			9 tags a:pg_catalog._text of b:pg_catalog.text
			10 home c:shop.address
			11 during r:pg_catalog.tstzrange of b:pg_catalog.timestamptz
			12 point b:pg_catalog.point
			13 net b:pg_catalog.inet
			14 price b:pg_catalog.numeric
			15 twice b:pg_catalog.int4`,
		"public.plain": `shared []
			1 note b:pg_catalog.text`,
		"public.hidden_key": `tenant_id []
			2 tenant_id b:pg_catalog.int4 not null
			3 a b:pg_catalog.int4`,
	}
	s := testSource(t, db)
	c, version, err := s.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range c.Tables {
		name := table.Schema + "." + table.Name
		if got, want := tableText(table), strings.Join(strings.Fields(want[name]), " "); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
	if _, again, _ := s.Catalog(t.Context()); again != version || version == "" {
		t.Errorf("the version went from %q to %q, and nothing was changed", version, again)
	}
}

// tableText writes a table in one line.
func tableText(table catalog.Table) string {
	var words []string
	for _, w := range []string{table.TypeName, table.FieldName, table.TenantColumn} {
		if w != "" {
			words = append(words, w)
		}
	}
	if table.Shared {
		words = append(words, "shared")
	}
	if table.Comment != "" {
		words = append(words, fmt.Sprintf("%q", table.Comment))
	}
	words = append(words, fmt.Sprint(table.Key))
	for _, p := range table.Policies {
		words = append(words, fmt.Sprintf("<%c %d %s %v>", p.Kind, p.Column, p.Claim, p.Roles))
	}
	for _, c := range table.Columns {
		words = append(words, fmt.Sprint(c.Number), c.Name, typeText(c.Type))
		if c.NotNull {
			words = append(words, "not null")
		}
		if c.Comment != "" {
			words = append(words, fmt.Sprintf("%q", c.Comment))
		}
	}
	return strings.Join(words, " ")
}

// Whatever DDL changes of a watched table is told, and nothing else is.
func TestCatalogIsFollowed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create type mood as enum ('sad', 'happy');
		create table orders (id int primary key, tenant_id text, mood mood);
		select notifyql.watch('orders')`)
	told := make(chan catalog.Catalog)
	startNode(t, Config{DatabaseURL: db.URL, Poll: 20 * time.Millisecond, OnCatalog: func(c catalog.Catalog) {
		select {
		case told <- c:
		case <-t.Context().Done():
		}
	}})
	next := func(after string) string {
		select {
		case c := <-told:
			var all []string
			for _, table := range c.Tables {
				all = append(all, table.Name+": "+tableText(table))
			}
			return strings.Join(all, "; ")
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing was told after %s", after)
			return ""
		}
	}
	const start = "orders: tenant_id [id] 1 id b:pg_catalog.int4 not null 2 tenant_id b:pg_catalog.text 3 mood e:public.mood(sad happy)"
	if got := next("the start"); got != start {
		t.Fatalf("got %s, want %s", got, start)
	}
	db.Exec(t, "create table other (id int); insert into other values (1); analyze orders; create index on orders (mood)") // tells nothing
	for _, step := range []struct{ sql, want string }{
		{"alter table orders add column amount numeric", "4 amount b:pg_catalog.numeric"},
		{"alter table orders rename column amount to total", "4 total b:pg_catalog.numeric"},
		{"alter table orders alter column total type bigint", "4 total b:pg_catalog.int8"},
		{"alter table orders alter column total set not null", "4 total b:pg_catalog.int8 not null"},
		{"comment on column orders.total is 'in cents'", `"in cents"`},
		{"comment on table orders is 'sold'", `"sold"`},
		{"alter type mood add value 'ok' after 'sad'", "mood(sad ok happy)"},
		{"alter type mood rename to temper", "e:public.temper(sad ok happy)"},
		{"alter table orders drop constraint orders_pkey", "[]"},
		{"alter table orders drop column total", "3 mood e:public.temper(sad ok happy)"},
		{"select notifyql.restrict('orders', 'mood', 'moods', '{admin}')", "<r 3 moods [admin]> 1 id"},
		{"select notifyql.restrict_column('orders', 'mood', '{a,b}')", "<c 3  [a b]> <r 3 moods [admin]>"},
		{"select notifyql.unrestrict('orders', 'mood')", "[] <c 3  [a b]> 1 id"},
		{"alter table orders drop mood, add mood text", "[] <c 5  [a b]> 1 id"}, // the column of that name
		{"alter table orders rename mood to temper", "[] 1 id"},
		{"alter table orders drop temper; select notifyql.unrestrict_column('orders', 'mood'), notifyql.restrict('orders', 'id', bypass => '{admin}'), notifyql.restrict_column('orders', 'tenant_id', '{x}')", "[] <c 2  [x]> <r 1  [admin]> 1 id"},
		{"begin; set local session_replication_role = replica; update notifyql.policy set rel_oid = 1; commit", "[] <r 0  []> <r 0  []> 1 id"}, // as in a restored dump
		{"select notifyql.restrict('orders', 'id'), notifyql.unrestrict_column('orders', 'tenant_id')", "[] <r 1  []> 1 id"},
		{"alter table orders rename id to nr", "[] <r 1  []> 1 nr"},
		{"alter table orders add id int, drop nr", "[] <r 0  []> 2 tenant_id"}, // nobody sees rows
		{"alter table orders rename to sales", "sales: tenant_id"},
		{"alter table sales rename column tenant_id to customer", `sales: "sold" []`}, // nobody's now
		{"alter table sales rename column customer to tenant_id", "sales: tenant_id"},
		{"alter table sales set schema notifyql", "sales"},
		{"alter table notifyql.sales set schema public", "sales"},
		{"create table shared (id int); select notifyql.watch('shared', shared => true)", "; shared: shared [] 1 id"},
		{"select notifyql.watch('shared', shared => true, type_name => 'Common')", "; shared: Common shared [] 1 id"},
		{"select notifyql.unwatch('shared')", "sales"},
		{"drop table sales", ""},
		{"create table orders (id int, tenant_id text); select notifyql.watch('orders')", "orders: tenant_id [] <r 0  []> 1 id"}, // by its name of then
	} {
		db.Exec(t, step.sql)
		if got := next(step.sql); !strings.Contains(got, step.want) || strings.HasSuffix(step.sql, "('shared')") && strings.Contains(got, "shared") {
			t.Errorf("after %s: got %s, want something with %s", step.sql, got, step.want)
		}
	}
}

package pg

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Rows that another table lets through are read with it in one snapshot: by the tenants' rows of that alone, by values of equal bytes, and
// by indexes.
func TestRowsAmong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create collation loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
		create table "the docs" (id int primary key, "the key" text collate loose, tenant_id text);
		create table "the members" (id int primary key, tenant_id text, "the key" text collate loose, usr text);
		insert into "the docs" values (1, 'x', 'a'), (2, 'X', 'a'), (3, 'y', 'a'), (4, 'x', 'b'), (5, null, 'a'), (6, 'z', 'a');
		insert into "the members" values (1, 'a', 'x', 'u'), (2, 'b', 'y', 'u'), (3, 'a', null, 'u'), (4, 'a', 'z', 'other'), (5, 'a', 'x', 'u')`)
	docs, members := watch(t, db, `'"the docs"'`), watch(t, db, `'"the members"'`)
	db.Exec(t, `select notifyql.restrict_to_members('"the docs"', 'the key', '"the members"', 'the key', 'usr', bypass => '{admin}')`)
	s := sourceOf(t, serverLogin(t, db)) // who may run the server may read all of it
	policies := func() []catalog.Policy {
		t.Helper()
		c, _, err := s.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c.Tables[0].Policies
	}
	policy := catalog.Policy{Kind: catalog.MemberPolicy, Column: 2, Roles: []string{"admin"}, Member: &catalog.Member{Watch: members, Key: 3, User: 4}}
	if got := policies(); !reflect.DeepEqual(got, []catalog.Policy{policy}) {
		t.Errorf("the catalog has %+v", got)
	}
	among := &change.Among{Column: "the key", Watch: members, Key: "the key", Where: `"usr" = $2`}
	read := func(q change.Query, tenants ...string) string {
		t.Helper()
		var got []string
		q.Watch, q.Tenants, q.Among = docs, tenants, among
		if _, err := s.Rows(t.Context(), &q, 100, func(page []change.Change) error {
			for _, c := range page {
				got = append(got, string(c.New[len(`{"id":`)]))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		return strings.Join(got, "")
	}
	all := change.Query{Where: `"id" < $1::int4`, Args: []any{"100", "u"}}
	for _, c := range []struct {
		tenants []string
		want    string
	}{{[]string{"a"}, "1"}, {[]string{"a", "b"}, "134"}, {[]string{"b"}, ""}, {[]string{""}, ""}, {nil, ""}} {
		if got := read(all, c.tenants...); got != c.want {
			t.Errorf("tenants %v see %q, want %q", c.tenants, got, c.want)
		}
	}
	few := all
	few.Limit, few.OrderBy = 1, []change.OrderBy{{Column: "id", Descending: true}}
	if got := read(few, "a", "b"); got != "4" {
		t.Errorf("the last of them is %s", got)
	}
	db.Exec(t, `alter table "the members" drop constraint "the members_pkey"`)
	if got := policies(); len(got) != 1 || got[0].Kind != catalog.MemberPolicy || got[0].Member != nil {
		t.Errorf("without a key the catalog has %+v", got)
	}
	db.Exec(t, `alter table "the members" rename column "the key" to "another key"`)
	q := all
	q.Watch, q.Tenants, q.Among = docs, []string{"a"}, among
	if _, err := s.Rows(t.Context(), &q, 100, func([]change.Change) error { return nil }); err == nil {
		t.Error("rows were read by a column that is gone")
	}
}

// Whose a row of the member table is may be found through a foreign key of its own.
func TestRowsAmongThroughAForeignKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table teams (id int primary key, tenant_id text);
		create table docs (id int primary key, team int references teams, project int);
		create table members (id int primary key, team int references teams, project int, usr text);
		insert into teams values (1, 'a'), (2, 'b');
		insert into docs values (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2);
		insert into members values (1, 1, 1, 'u'), (2, 2, 2, 'u'), (3, 1, 2, 'other')`)
	docs, members := watch(t, db, `'docs', tenant_via => 'team'`), watch(t, db, `'members', tenant_via => 'team'`)
	s := testSource(t, db)
	for _, c := range []struct {
		tenants []string
		want    string
	}{{[]string{"a"}, "1"}, {[]string{"b"}, "4"}, {[]string{"a", "b"}, "1234"}, {[]string{"c"}, ""}} {
		q := change.Query{
			Watch: docs, Tenants: c.tenants, Args: []any{"u"},
			Among: &change.Among{Column: "project", Watch: members, Key: "project", Where: `"usr" = $1`},
		}
		got := ""
		if _, err := s.Rows(t.Context(), &q, 100, func(page []change.Change) error {
			for _, c := range page {
				got += string(c.New[len(`{"id":`)])
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("tenants %v see %q, want %q", c.tenants, got, c.want)
		}
	}
}

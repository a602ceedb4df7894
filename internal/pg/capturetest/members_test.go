package capturetest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// listedMembers gives the policies of members.
const listedMembers = `select format('%s.%s in %s.%s of %s %s %s: %s', tbl, column_name, members, key, user_column, coalesce(claim, '-'), roles, state)
	from notifyql.restricted where kind = 'member'`

func TestPoliciesOfMembersAreDeclaredAndListed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table docs (id int primary key, tenant_id text, project int);
		create table members (tenant_id text, project bigint, usr uuid, primary key (project, usr));
		select notifyql.watch('docs'), notifyql.watch('members')`)
	e := listen(t, db)
	const to = `select notifyql.restrict_to_members('docs', 'project', 'members', 'project', 'usr'`
	for _, s := range []struct{ sql, heard, listed string }{
		{to + `)`, "W 0", "docs.project in members.project of usr - {}: in force"},
		{to + `)`, "", "docs.project in members.project of usr - {}: in force"},
		{to + `, 'sub', '{admin}')`, "W 0", "docs.project in members.project of usr sub {admin}: in force"},
		{`alter table members rename usr to member; alter table members rename project to p`, "", "docs.project in members.p of member sub {admin}: in force"},
		{`select notifyql.unwatch('members')`, "W 2", "docs.project in members.p of member sub {admin}: the member table is not watched, so that only who bypasses the policy sees rows"},
		{`select notifyql.watch('members', exclude => '{member}')`, "W 3", "docs.project in members.p of member sub {admin}: a column of the member table is excluded, so that only who bypasses the policy sees rows"},
		{`select notifyql.watch('members')`, "W 3", "docs.project in members.p of member sub {admin}: in force"},
		{`alter table members drop constraint members_pkey`, "", "docs.project in members.p of member sub {admin}: a table has no primary key, so that only who bypasses the policy sees rows"},
		{`alter table members add primary key (p, member) deferrable`, "", "docs.project in members.p of member sub {admin}: a table has no primary key, so that only who bypasses the policy sees rows"},
		{`alter table members drop constraint members_pkey, add primary key (p, member)`, "", "docs.project in members.p of member sub {admin}: in force"},
		{`alter table members alter p type numeric`, "", "docs.project in members.p of member sub {admin}: a column has another type, so that only who bypasses the policy sees rows"},
		{`alter table members drop p`, "", "docs.project in members.project of member sub {admin}: the member table or a column of it is gone, so that only who bypasses the policy sees rows"},
		{`select notifyql.unrestrict_from_members('docs'), notifyql.unrestrict_from_members('docs')`, "W 0", ""},
	} {
		db.Exec(t, s.sql)
		if got := text(e.hear(t)); strings.TrimSpace(got) != s.heard {
			t.Errorf("%s: heard %q, want %q", s.sql, got, s.heard)
		}
		if got := lines(t, db, listedMembers); got != s.listed {
			t.Errorf("%s:\ngot  %s\nwant %s", s.sql, got, s.listed)
		}
	}
}

func TestRestrictToMembersRefusesWithAReason(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table docs (id int primary key, project int, name text, other text collate "C", u uuid);
		create table members (id int primary key, project int, usr text, x jsonb, name text, u uuid, gone int);
		create table keyless (project int, usr text); create table later (id int primary key deferrable, project int, usr text);
		alter table members drop gone`)
	for _, c := range []struct{ args, want string }{
		{`'docs', 'project', 'members', 'project', 'usr'`, ``},
		{`'docs', 'u', 'members', 'u', 'usr'`, `it is restricted so by another column`},
		{`'docs', 'project', 'members', 'project', 'x'`, `x is of type jsonb`},
		{`'docs', 'project', 'members', 'name', 'usr'`, `project and name are not of one type`},
		{`'docs', 'other', 'members', 'name', 'usr'`, `other and name are not of one type`},
		{`'docs', 'project', 'members', 'gone', 'usr'`, `a column is not there`},
		{`'docs', 'projects', 'members', 'project', 'usr'`, `a column is not there`},
		{`'docs', 'project', 'keyless', 'project', 'usr'`, `both tables must have a primary key that is not deferrable`},
		{`'docs', 'project', 'later', 'project', 'usr'`, `both tables must have a primary key that is not deferrable`},
		{`'keyless', 'project', 'members', 'project', 'usr'`, `both tables must have a primary key that is not deferrable`},
		{`'docs', 'project', 'members', 'project', 'usr', ''`, `the claim has no name`},
		{`'docs', 'project', 'members', 'project', 'usr', bypass => '{""}'`, `a role has no name`},
		{`null, 'project', 'members', 'project', 'usr'`, `a column is not there`},
		{`'docs', 'project', null, 'project', 'usr'`, `a column is not there`},
	} {
		if got := try(t, db, `select notifyql.restrict_to_members(`+c.args+`)`); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s:\n%s", c.args, got)
		}
	}
	// It is the table's owner's to declare, of members that he may read.
	w := login(t, db, "watch")
	if _, err := w.Exec(t.Context(), `create table mine (id int primary key, project int)`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`select notifyql.restrict_to_members('mine', 'project', 'members', 'project', 'usr')`, `select notifyql.restrict_to_members('docs', 'project', 'mine', 'project', 'id')`,
		`select notifyql.unrestrict_from_members('docs')`,
	} {
		if _, err := w.Exec(t.Context(), sql); code(err) != denied {
			t.Errorf("%s: %v", sql, err)
		}
	}
	db.Exec(t, `grant select on members to public`)
	if _, err := w.Exec(t.Context(), `select notifyql.restrict_to_members('mine', 'project', 'members', 'project', 'usr')`); err != nil {
		t.Error(err)
	}
}

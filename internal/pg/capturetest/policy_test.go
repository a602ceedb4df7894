package capturetest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// listed gives the policies, sorted.
const listed = `select format('%s %s %s %s %s: %s', tbl, kind, column_name, coalesce(claim, '-'), roles, state) from notifyql.restricted order by 1`

func TestPoliciesAreDeclaredAndListed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, owner text, dept int, cost numeric); select notifyql.watch('t')`)
	e := listen(t, db)
	for _, s := range []struct{ sql, heard, listed string }{
		{`select notifyql.restrict('t', 'owner')`, "W 0", "t row owner - {}: in force"},
		{`select notifyql.restrict('t', 'owner')`, "", "t row owner - {}: in force"},
		{`select notifyql.restrict('t', 'owner', claim => 'a.b', bypass => '{admin,support}')`, "W 0", "t row owner a.b {admin,support}: in force"},
		{`select notifyql.restrict_column('t', 'owner', '{x}')`, "W 0", "t column owner - {x}: in force\nt row owner a.b {admin,support}: in force"},
		{`select notifyql.unrestrict_column('t', 'owner'), notifyql.unrestrict_column('t', 'owner')`, "W 0", "t row owner a.b {admin,support}: in force"},
		{`alter table t rename owner to holder`, "", "t row holder a.b {admin,support}: in force"},
		{`select notifyql.unwatch('t')`, "W 1", "t row holder a.b {admin,support}: the table is not watched"},
		{`select notifyql.watch('t')`, "W 2", "t row holder a.b {admin,support}: in force"},
		{`select notifyql.watch('t', exclude => '{holder}')`, "W 2", "t row holder a.b {admin,support}: the column is excluded, so that only who bypasses the policy sees rows"},
		{`select notifyql.watch('t')`, "W 2", "t row holder a.b {admin,support}: in force"},
		{`alter table t alter holder type json using null::json`, "", "t row holder a.b {admin,support}: the column has another type, so that only who bypasses the policy sees rows"},
		{`alter table t drop holder`, "", "t row owner a.b {admin,support}: the column is gone, so that only who bypasses the policy sees rows"},
		{`select notifyql.unrestrict('t', 'holder')`, "", "t row owner a.b {admin,support}: the column is gone, so that only who bypasses the policy sees rows"},
		{`select notifyql.unrestrict('t', 'owner')`, "W 0", ""},
		{`select notifyql.restrict('t', 'dept', 'departments'), notifyql.restrict_column('t', 'cost', '{finance}')`, "W 0", "t column cost - {finance}: in force\nt row dept departments {}: in force"},
		{`drop table t`, "", "%d column cost - {finance}: the table is gone\n%d row dept departments {}: the table is gone"},
		{
			`create table t (id int, tenant_id text, dept int, cost numeric); select notifyql.watch('t')`, "W 3",
			"%d column cost - {finance}: the table was made anew, and nobody sees its rows: restrict it again\n%d row dept departments {}: the table was made anew, and nobody sees its rows: restrict it again",
		},
		{`select notifyql.restrict('t', 'dept', 'departments')`, "W 0", "%d column cost - {finance}: the table was made anew, and nobody sees its rows: restrict it again\nt row dept departments {}: in force"},
		{`select notifyql.unrestrict_column('t', 'cost')`, "W 0", "t row dept departments {}: in force"},
		{`drop table t`, "", "%d row dept departments {}: the table is gone"},
		{`select notifyql.unrestrict(tbl, column_name) from notifyql.restricted`, "W 0", ""},
	} {
		db.Exec(t, s.sql)
		if got := text(e.hear(t)); strings.TrimSpace(got) != s.heard {
			t.Errorf("%s: heard %q, want %q", s.sql, got, s.heard)
		}
		got := strings.Split(lines(t, db, listed), "\n")
		for i, line := range got {
			if number, rest, _ := strings.Cut(line, " "); number > "0" && number < "a" {
				got[i] = "%d " + rest
			}
		}
		if got := strings.Join(got, "\n"); got != s.listed {
			t.Errorf("%s:\ngot  %s\nwant %s", s.sql, got, s.listed)
		}
	}
	// A program that knows of no policies is kept away from now on, and was not before.
	if n := one[int](t, db, `select min_schema from notifyql.setting`); n != 9 {
		t.Errorf("the lowest version is %d", n)
	}
	if n := one[int](t, pgtest.New(t), `select min_schema from notifyql.setting`); n != 1 {
		t.Errorf("without a policy the lowest version is %d", n)
	}
}

func TestRestrictRefusesWithAReason(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good'); create domain org as varchar(9); create domain deep as org; create domain bad as json;
		create table t (a text, b varchar, c char(3), d name, e int2, f int, g bigint, h numeric(3), i uuid, j bool, k mood, l deep,
			m json, n int[], o timestamptz, p float8, q bytea, r bad, s int4range);
		create table root (id int, owner text) partition by list (id);
		create view v as select 1 as a`)
	for _, c := range "abcdefghijkl" {
		if got := try(t, db, `select notifyql.restrict('t', '`+string(c)+`')`); got != "" {
			t.Errorf("%c: %s", c, got)
		}
	}
	for _, c := range "mnopqrs" {
		if got := try(t, db, `select notifyql.restrict('t', '`+string(c)+`')`); !strings.Contains(got, "cannot restrict public.t by "+string(c)+": it is of type") || !strings.Contains(got, "Such a column is a smallint") {
			t.Errorf("%c: %q", c, got)
		}
		if got := try(t, db, `select notifyql.restrict_column('t', '`+string(c)+`', '{x}')`); got != "" {
			t.Errorf("%c: %s", c, got)
		}
	}
	for _, c := range []struct{ sql, want string }{
		{`select notifyql.restrict('nothing', 'a')`, `relation "nothing" does not exist`},
		{`select notifyql.restrict(null, 'a')`, `cannot restrict null: it has no column a`},
		{`select notifyql.restrict('t', null)`, `it has no column null`},
		{`select notifyql.restrict('t', 'X')`, `cannot restrict public.t: it has no column "X"`},
		{`select notifyql.restrict('t', 'ctid')`, `it has no column ctid`},
		{`select notifyql.restrict('v', 'a')`, `cannot restrict public.v: it is no table with this column`},
		{`select notifyql.restrict('t', 'a', '')`, `the claim has no name | Name a claim, or leave it out for the user's id.`},
		{`select notifyql.restrict('t', 'a', bypass => '{""}')`, `a role has no name`},
		{`select notifyql.restrict('t', 'a', bypass => '{null}')`, `a role has no name`},
		{`select notifyql.restrict('t', 'a', bypass => null)`, `a role has no name`},
		{`select notifyql.restrict_column('t', 'a', null)`, `a role has no name`},
		{`insert into notifyql.policy (rel, kind, attnum, claim, roles) values ('t', 'column', 1, 'x', '{}')`, `policy_check`},
		{`insert into notifyql.policy (rel, kind, attnum, roles) values ('t', 'x', 1, '{}')`, `policy_kind_check`},
		{`insert into notifyql.policy (rel, kind, attnum, roles) values (1, 'row', 1, '{}')`, `it is no table with this column`},
		{`select notifyql.restrict('root', 'owner')`, ``},
	} {
		if got := try(t, db, c.sql); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s:\n%s", c.sql, got)
		}
	}
}

// Who may watch declares, changes and drops policies of its own tables and of nobody else's, through the functions or without them.
func TestOnlyATablesOwnerRestrictsIt(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, owner text); select notifyql.restrict('t', 'owner'), notifyql.restrict_column('t', 'id', '{x}')`)
	w, other := login(t, db, "watch"), login(t, db)
	exec := func(sql string) {
		t.Helper()
		if _, err := w.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	exec(`create table mine (id int, owner text); select notifyql.restrict('mine', 'owner'), notifyql.restrict_column('mine', 'id', '{y}')`)
	exec(`select notifyql.restrict('mine', 'owner', 'claim'); select notifyql.unrestrict('mine', 'owner'); select * from notifyql.restricted`)
	for _, sql := range []string{
		`select notifyql.restrict('t', 'owner', 'mine')`, `select notifyql.restrict('t', 'id')`, `select notifyql.unrestrict('t', 'owner')`,
		`select notifyql.restrict_column('t', 'id', '{me}')`, `select notifyql.unrestrict_column('t', 'id')`,
		`delete from notifyql.policy`, `update notifyql.policy set rel = 'mine' where rel = 't'::regclass and kind = 'row'`,
		`update notifyql.policy set rel = 't', attnum = 2 where rel = 'mine'::regclass`, `update notifyql.policy set roles = '{y}'`,
		`insert into notifyql.policy (rel, kind, attnum, roles) values ('t', 'column', 2, '{}')`,
		`truncate notifyql.policy`, `alter table notifyql.policy disable trigger all`, `drop trigger check_policy on notifyql.policy`,
		`set session_replication_role = replica`,
		`create trigger x after insert on notifyql.policy execute function notifyql.policy_changed()`,
	} {
		if _, err := w.Exec(t.Context(), sql); code(err) != denied {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{`select notifyql.restrict('t', 'owner')`, `select * from notifyql.policy`} {
		if _, err := other.Exec(t.Context(), sql); code(err) != denied {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// What is said of the table's name and number is not believed.
	exec(`insert into notifyql.policy (rel, rel_oid, name, kind, attnum, column_name, roles) values ('mine', 1, 'public.t', 'row', 2, 'x', '{}')`)
	want(t, lines(t, db, `select format('%s %s %s', name, rel = rel_oid, column_name) from notifyql.policy where rel = 'mine'::regclass and kind = 'row'`), "public.mine t owner")
	// A table that is gone and was made anew is its new owner's.
	exec(`drop table mine`)
	db.Exec(t, `create table mine (id int, owner text)`)
	if _, err := w.Exec(t.Context(), `select notifyql.unrestrict('mine', 'owner')`); code(err) != denied {
		t.Errorf("another's table: %v", err)
	}
	want(t, lines(t, db, listed), lines(t, db, `select format('%s %s %s - %s: the table was made anew, and nobody sees its rows: restrict it again', rel::oid, kind, column_name, roles)
		from notifyql.policy where name = 'public.mine' order by 1`)+`
		t column id - {x}: the table is not watched
		t row owner - {}: the table is not watched`)
}

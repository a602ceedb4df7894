package capturetest

import (
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A tenant column that was renamed or dropped makes rows nobody's, whatever is called so now.
func TestALostTenantColumnMeansNobody(t *testing.T) {
	t.Parallel()
	for _, partitioned := range []string{"", "partitioned"} {
		for _, column := range []string{"tenant_id", "org"} {
			t.Run(column+partitioned, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				if partitioned == "" {
					db.Exec(t, `create table t (id int, gone int, `+column+` text, x text)`)
				} else {
					db.Exec(t, `create table t (id int, gone int, `+column+` text, x text) partition by list (id);
						create table t1 (x text, `+column+` text, gone int, id int); alter table t attach partition t1 for values in (1)`)
				}
				db.Exec(t, `alter table t drop column gone; select notifyql.watch('t', '`+column+`')`)
				tenants := func(sql, state, tenants string) {
					t.Helper()
					db.Exec(t, `truncate notifyql.change`)
					db.Exec(t, sql)
					want(t, lines(t, db, `select concat(op, flags, ' ', old_tenant, '>', tenant) from notifyql.change order by seq`), tenants)
					want(t, lines(t, db, `select state from notifyql.watched`), state)
				}
				const lost = "its tenant column was renamed or dropped, so its rows are nobody's: watch the table again"
				tenants(`insert into t values (1, 'a', 'x')`, "watched", "I0 >a")
				tenants(`alter table t rename `+column+` to away; update t set x = 'y'`, lost, "U0 >")
				tenants(`alter table t rename x to `+column+`; update t set `+column+` = 'b'`, lost, "U0 >")
				deleted := "D0 >"
				if partitioned != "" {
					deleted = "D4 >" // it might be half of a move
				}
				tenants(`delete from t`, lost, deleted)
				tenants(`insert into t values (1, 'a', 'b')`, lost, "I0 >")
				tenants(`alter table t drop column away; update t set `+column+` = 'c'`, lost, "U0 >")
				tenants(`select notifyql.watch('t', '`+column+`'); update t set `+column+` = 'd'`, "watched", "U0 c>d")
			})
		}
	}
}

func TestTenantsOfEachType(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good', 'bad "one"'); create domain org as varchar(9); create domain orgs as org`)
	for _, c := range []struct{ typ, value, tenant string }{
		{"smallint", "7", "7"},
		{"integer", "-8", "-8"},
		{"bigint", "9007199254740993", "9007199254740993"},
		{"numeric", "1.50", "1.50"},
		{"text", "'a \"quoted\" é'", `a "quoted" é`},
		{"varchar(20)", "'v'", "v"},
		{"name", "'n'", "n"},
		{"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"mood", `'bad "one"'`, `bad "one"`},
		{"orgs", "'o'", "o"},
		{"text", "''", ""},
		{"text", "null", ""},
	} {
		for _, column := range []string{"tenant_id", "org"} {
			db.Exec(t, `drop table if exists t; truncate notifyql.change; create table t (`+column+` `+c.typ+`); select notifyql.watch('t', '`+column+`')`)
			db.Exec(t, `insert into t values (`+c.value+`)`)
			want(t, lines(t, db, `select coalesce(tenant, '') from notifyql.change`), c.tenant)
		}
	}
}

// A json column may hold what is no text. Neither the image nor the tenant suffers.
func TestTenantBesideAnEscapeThatIsNoText(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, org text, j json); select notifyql.watch('t', 'org')`)
	db.Exec(t, `insert into t values (1, 'a', '{"x": "\u0000", "org": "b"}'), (2, 'a', '["\ud800", 1e200000]')`)
	db.Exec(t, `update t set org = 'c' where id = 1; delete from t where id = 2`)
	want(t, lines(t, db, logged), `
		I 0 >a >{"id":1,"org":"a","j":{"x": "\u0000", "org": "b"}}
		I 0 >a >{"id":2,"org":"a","j":["\ud800", 1e200000]}
		U 0 a>c {"id":1,"org":"a","j":{"x": "\u0000", "org": "b"}}>{"id":1,"org":"c","j":{"x": "\u0000", "org": "b"}}
		D 0 a> {"id":2,"org":"a","j":["\ud800", 1e200000]}>`)
}

func TestAStoredGeneratedTenantColumn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (owner text, tenant_id text generated always as (lower(owner)) stored); select notifyql.watch('t')`)
	db.Exec(t, `insert into t values ('ANN'); update t set owner = 'BO'`)
	want(t, lines(t, db, `select concat(old_tenant, '>', tenant) from notifyql.change order by seq`), ">ann\nann>bo")
}

package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// The server reads by the right that watch gives it: to the columns that are seen, and as long as the table is watched.
func TestRowsByRight(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := sourceOf(t, serverLogin(t, db))
	alice := db.Role(t, "")
	db.Exec(t, fmt.Sprintf(`do $$ begin execute format('grant %%I to %s', (select left(nspowner::regrole::text, -length('owner')) || 'watch' from pg_namespace where nspname = 'notifyql')); end $$;
		create schema app authorization %[1]s; create schema "not hers"; grant usage, create on schema "not hers" to %[1]s`, alice))
	config, err := pgx.ParseConfig(db.URLAs(alice))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Message+" | "+n.Hint) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) }) //nolint:errcheck // it has served
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	number := func(sql string) (id change.WatchID) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan((*int32)(&id)); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return id
	}
	is := func(what string, id change.WatchID, want string) {
		t.Helper()
		rows, _, err := rowsOf(t, s, change.Query{Watch: id})
		switch {
		case err == nil && strings.TrimSpace(news(rows)) != want:
			t.Errorf("%s: %s, want %s", what, news(rows), want)
		case err != nil && (!errors.Is(err, change.ErrUnreadable) || !strings.Contains(err.Error(), want) || want == ""):
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}

	exec(`create table app.t (id int primary key, v text, hidden text default 'secret'); insert into app.t values (1, 'x')`)
	id := number(`select notifyql.watch('app.t', shared => true)`)
	is("watched", id, `{"id":1,"v":"x","hidden":"secret"}`)
	exec(`alter table app.t add column later int`)
	is("with a new column", id, `{"id":1,"v":"x","hidden":"secret","later":null}`)
	number(`select notifyql.watch('app.t', shared => true, exclude => '{hidden}')`)
	is("with a column excluded", id, `{"id":1,"v":"x","later":null}`)
	server := db.Conn(t, "server "+db.Name)
	if _, err := server.Exec(t.Context(), `select hidden from app.t`); err == nil {
		t.Error("the server may read what is excluded")
	}
	exec(`alter table app.t rename v to w; alter table app.t rename hidden to v; alter table app.t rename w to hidden`)
	is("with a column excluded by another name", id, `{"id":1,"hidden":"x","later":null}`)
	exec(`alter table app.t add column newest int`)
	is("with a new column beside one that is excluded", id, `have its owner call notifyql.watch again`)
	number(`select notifyql.watch('app.t', shared => true, exclude => '{v}')`)
	is("watched again", id, `{"id":1,"hidden":"x","later":null,"newest":null}`)
	number(`select notifyql.watch('app.t', shared => true)`)
	is("with nothing excluded", id, `{"id":1,"hidden":"x","v":"secret","later":null,"newest":null}`)
	number(`select notifyql.watch('app.t', shared => true, exclude => '{id,v,hidden,later,newest}')`)
	is("with everything excluded", id, `have its owner call notifyql.watch again`)
	number(`select notifyql.watch('app.t', shared => true)`)
	exec(`select notifyql.unwatch('app.t')`)
	is("not watched any more", id, `not watched any more`)
	if _, err := server.Exec(t.Context(), `select id from app.t`); err == nil {
		t.Error("the server may read what is not watched any more")
	}

	id = number(`select notifyql.watch('app.t', shared => true)`)
	exec(`do $$ begin execute format('revoke select on app.t from %I', notifyql.server_role()); end $$`)
	is("without the right", id, `have its owner call notifyql.watch again`)
	number(`select notifyql.watch('app.t', shared => true)`)
	is("given again", id, `{"id":1,"hidden":"x","v":"secret","later":null,"newest":null}`)

	exec(`create policy p on app.t using (id > 100); alter table app.t enable row level security`)
	is("with row level security", id, `would hide rows from login "server `+db.Name+`": run as a superuser: alter role "server `+db.Name+`" bypassrls`)
	db.Exec(t, `alter role "server `+db.Name+`" bypassrls`)
	is("with row level security that it passes", id, `{"id":1,"hidden":"x","v":"secret","later":null,"newest":null}`)
	exec(`drop table app.t`)
	is("dropped", id, `is gone, or not watched any more`)
	is("never watched", 99, `is not watched any more`)

	exec(`create table "not hers".t (id int primary key); insert into "not hers".t values (1)`)
	id = number(`select notifyql.watch('"not hers".t', shared => true)`)
	is("in a schema that the server may not use", id, `may not read "not hers"."t"`)
	role := one[string](t, db, `select notifyql.server_role()::text`)
	if want := `the server cannot read the rows of "not hers".t as they stand | Have the owner of the schema run: grant usage on schema "not hers" to ` + role; len(said) != 1 || said[0] != want {
		t.Errorf("said %q, want %q", said, want)
	}
	db.Exec(t, `do $$ begin execute format('grant usage on schema "not hers" to %I', notifyql.server_role()); end $$`)
	is("in a schema that the server may use now", id, `{"id":1}`)

	db.Exec(t, `create table p (id int, tenant_id int) partition by list (tenant_id); create table p1 partition of p for values in (1);
		create foreign data wrapper w; create server elsewhere foreign data wrapper w`)
	id = watch(t, db, `'p'`)
	db.Exec(t, `create foreign table p2 partition of p for values in (2) server elsewhere`)
	is("with a foreign partition", id, `a partition of "public"."p" is a foreign table`)
}

// A cast of somebody's runs as a role without rights, in a session that ends: what it leaves there is nobody's.
func TestRowsRunHostileCasts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	login := serverLogin(t, db)
	s := sourceOf(t, login)
	db.Exec(t, `
		create schema hostile; grant usage on schema hostile to public;
		create type hostile.e as enum ('who', 'read', 'set', 'fail', 'prepare', 'session'); create domain hostile.d as hostile.e; create type hostile.c as (n int, e hostile.e[]);
		create function hostile.cast(v hostile.e) returns json language plpgsql as $$
			declare said text := current_user;
			begin
				case v
				when 'read' then select channel into said from notifyql.secret;
				when 'set' then perform set_config('search_path', 'hostile', false);
				when 'prepare' then execute 'deallocate all'; execute 'prepare mine as select 1';
				when 'session' then said := pg_backend_pid();
				when 'fail' then raise exception 'failed';
				else
				end case;
				return to_json(said);
			end $$;
		create cast (hostile.e as json) with function hostile.cast(hostile.e);
		create table t (id int primary key, tenant_id int default 1, plain text, e hostile.e, d hostile.d, c hostile.c);
		insert into t values (1, 1, 'x', 'who', 'who', row(1, '{who}')), (2, 1, 'x', 'read', null, null), (3, 1, 'x', null, null, row(1, '{fail}')), (4, 1, 'x', 'set', null, null),
			(5, 1, 'x', null, 'prepare', null), (6, 1, 'x', null, null, null), (7, 1, 'x', 'session', null, null)`)
	id := watch(t, db, `'t'`)
	image := one[string](t, db, `select left(pg_get_userbyid(nspowner), -length('owner')) || 'image' from pg_namespace where nspname = 'notifyql'`)
	rows, _, err := rowsOf(t, s, change.Query{Watch: id, Tenants: []string{"1"}, OrderBy: []change.OrderBy{{Column: "id"}}})
	if err != nil || len(rows) != 7 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if want := fmt.Sprintf(`{"id":1,"tenant_id":1,"plain":"x","e":"%[1]s","d":"%[1]s","c":{"n":1,"e":["%[1]s"]}}`, image); string(rows[0].New) != want {
		t.Errorf("%s, want %s", rows[0].New, want)
	}
	for i, failed := range []bool{false, true, true, false, false, false} {
		if c := rows[i]; c.Unserializable != failed || (c.New == nil) != failed || c.Tenant != "1" {
			t.Errorf("row %d: %+v, want that it can't be converted: %v", i+1, c, failed)
		}
	}
	// As the trigger has it.
	db.Exec(t, `update t set id = id where id in (1, 6)`)
	if got, want := string(rows[0].New)+"\n"+string(rows[5].New)+"\n", logged(t, db, id); got != want {
		t.Errorf("read:\n%s\nlogged:\n%s", got, want)
	}

	var ran struct{ E string }
	if err := json.Unmarshal(rows[6].New, &ran); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the session in which it ran has ended", func() bool {
		return one[int](t, db, `select count(*) from pg_stat_activity where pid::text = $1`, ran.E) == 0
	})
}

// Rows are read of the tenants that are asked for, by the text that capture logs; nobody's are nobody's.
func TestRowsOfTenants(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := testSource(t, db)
	db.Exec(t, `do $$ begin
		if current_setting('server_version_num')::int >= 120000 and exists (select from pg_collation where collprovider = 'i') then
			create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		else
			create collation blind from "C";
		end if; end $$`)
	uuids := []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12"}
	for typ, values := range map[string][]string{
		"text": {"a", "A", "b", "", "07", `q"uo\te`, "{}", "null", "é"}, `text collate "blind"`: {"a", "A", "b"}, "varchar(9)": {"a", "A"}, "name": {"a", "A"},
		"smallint": {"7", "-1", "0"}, "integer": {"7", "-7"}, "bigint": {"9223372036854775807", "7"}, "numeric": {"7", "7.0", "07", "NaN"}, "uuid": uuids,
	} {
		db.Exec(t, `drop table if exists t; create table t (id serial primary key, tenant_id `+typ+`); create index on t (tenant_id); insert into t values (default, null)`)
		id := watch(t, db, `'t'`)
		for _, v := range values {
			db.Exec(t, `insert into t (tenant_id) values (`+quoteLiteral(v)+`)`)
		}
		owners := strings.Split(one[string](t, db, `select string_agg(coalesce(tenant, ''), e'\n' order by seq) from notifyql.change where watch = $1`, id), "\n")
		asked := append([]string{"", "nobody", "7", "07", "+7", "7.0", "7 ", "a\x00", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "99999999999999999999999"}, values...)
		of := func(tenants ...string) {
			t.Helper()
			rows, _, err := rowsOf(t, s, change.Query{Watch: id, Tenants: tenants})
			if err != nil {
				t.Fatalf("%s, %q: %v", typ, tenants, err)
			}
			want := 0
			for _, owner := range owners {
				for _, a := range tenants {
					if owner == a && a != "" {
						want++
						break
					}
				}
			}
			if len(rows) != want {
				t.Errorf("%s, %q: %d rows, want %d:\n%s", typ, tenants, len(rows), want, news(rows))
			}
			for _, c := range rows {
				if c.Shared || !strings.Contains("\n"+strings.Join(tenants, "\n")+"\n", "\n"+c.Tenant+"\n") {
					t.Errorf("%s, %q: %+v", typ, tenants, c)
				}
			}
		}
		for _, a := range asked {
			of(a)
		}
		of(asked...)
		of()
	}

	db.Exec(t, `drop table t; create table t (id int primary key, tenant_id text); insert into t values (1, 'a')`)
	id := watch(t, db, `'t'`)
	for _, step := range []struct {
		sql  string
		want int
	}{
		{`alter table t rename tenant_id to other`, 0},
		{`alter table t rename other to tenant_id`, 1},
		{`alter table t drop tenant_id; alter table t add tenant_id text default 'a'`, 0},
		{`select notifyql.watch('t')`, 1},
		{`select notifyql.watch('t', shared => true)`, 1},
	} {
		db.Exec(t, step.sql)
		rows, at, err := rowsOf(t, s, change.Query{Watch: id, Tenants: []string{"a"}})
		if err != nil || len(rows) != step.want || at.Tick.ID == 0 {
			t.Errorf("%s: %d rows, want %d; %v", step.sql, len(rows), step.want, err)
		}
	}
	if rows, _, err := rowsOf(t, s, change.Query{Watch: id}); err != nil || len(rows) != 1 || !rows[0].Shared || rows[0].Tenant != "" {
		t.Errorf("%+v, %v", rows, err)
	}
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

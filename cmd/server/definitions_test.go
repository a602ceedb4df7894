package main

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What `tables --sql` prints makes a schema that is made anew what it was, whatever can be declared.
func TestDefinitionsMakeItAgain(t *testing.T) {
	t.Parallel()
	// A server of its own: a database that another test drops meanwhile is in the way of dropping roles.
	db := pgtest.NewOn(t, pgtest.Server(t, localpg.Options{}))
	login := db.Role(t, "")
	db.Exec(t, `
		create table projects (id bigint primary key, tenant_id text);
		create table tasks (id bigint primary key, project bigint references projects, owner text, secret text, note text);
		create schema "Other'S"; create table "Other'S"."a %I b" (id int primary key, "org's" text, "not, seen" text, "nor ""this" text);
		create table members (project bigint, who text, primary key (project, who), tenant_id text);
		create table news (id int primary key);
		select notifyql.watch('projects'), notifyql.watch('tasks', tenant_via => 'project', type_name => 'Job', field_name => 'jobs'),
			notifyql.watch('"Other''S"."a %I b"', tenant_column => 'org''s', exclude => array['not, seen', 'nor "this']::name[]),
			notifyql.watch('members'), notifyql.watch('news', shared => true);
		select notifyql.restrict('projects', 'id', claim => 'the.project', bypass => array['boss', 'a, "b']), notifyql.restrict_column('tasks', 'secret', array['boss']),
			notifyql.restrict('tasks', 'owner');
		select notifyql.restrict_to_members('tasks', 'project', 'members', 'project', 'who');
		update notifyql.setting set mode = 'busy', retention = '3 hours', slot_seconds = 1800`)
	grant := `do $$ begin execute format('grant %I to ` + login + `', (select left(pg_get_userbyid(nspowner), -5) || 'server' from pg_namespace where nspname = 'notifyql')); end $$`
	db.Exec(t, grant)
	run := func(args ...string) string {
		t.Helper()
		p, out, errs := world(map[string]string{"DATABASE_URL": db.URL})
		if code := p.main(t.Context(), args); code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, errs)
		}
		return out.String()
	}
	before := run("tables", "--sql")
	for _, want := range []string{"'Job'", `"Other''S"."a %I b"`, "restrict_to_members", "'busy'", "'03:00:00'", login, "tenant_via => 'project'", "the.project"} {
		if !strings.Contains(before, want) {
			t.Errorf("it lacks %s:\n%s", want, before)
		}
	}
	listed := func() (all string) {
		if err := db.Pool(t).QueryRow(t.Context(), `
			select (select string_agg((to_jsonb(w) - 'id')::text, E'\n' order by tbl::text) from notifyql.watched w)
			       || (select string_agg(to_jsonb(r)::text, E'\n' order by tbl::text, kind, column_name) from notifyql.restricted r)`).Scan(&all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	was := listed()
	if strings.Count(was, `"ok"`)+strings.Count(was, "in force") == 0 {
		t.Fatal(was)
	}
	run("migrate", "down")
	run("migrate", "up")
	db.Exec(t, before)
	if after := run("tables", "--sql"); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	if is := listed(); is != was {
		t.Errorf("it was\n%s\nand is\n%s", was, is)
	}
}

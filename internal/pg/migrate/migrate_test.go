package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// one queries a database for one value.
func one[T any](t testing.TB, url, sql string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// trace is all that there is of the schema in a database and of its roles: the same before up and after down.
const trace = `
select coalesce(string_agg(what, e'\n' order by what), '') from (
	select 'schema ' || nspname as what from pg_namespace where nspname !~ '^pg_(toast_)?temp'
	union all select 'relation ' || relname || c.oid::text from pg_class c where relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace)
	union all select 'function ' || oid::regprocedure from pg_proc where oid >= 16384
	union all select 'trigger ' || tgname || ' ' || tgrelid::regclass from pg_trigger
	union all select 'privileges ' || oid from pg_default_acl
	union all select 'type ' || typname || oid::text from pg_type where oid >= 16384
	union all select 'role ' || rolname from pg_roles where rolname ~ ('^notifyql_' || (select oid from pg_database where datname = current_database()) || '_')
	union all select 'acl ' || coalesce(nspacl, acldefault('n', nspowner))::text from pg_namespace
	union all select 'acl ' || coalesce(relacl, acldefault('r', relowner))::text from pg_class where relkind in ('r', 'p') and oid >= 16384
	union all select 'member ' || roleid::regrole || ' ' || member::regrole from pg_auth_members where member = (select oid from pg_roles where rolname = current_user)
) t`

func TestDownLeavesNoTrace(t *testing.T) {
	t.Parallel()
	for _, attributes := range []string{"superuser", "createrole"} {
		t.Run(attributes, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Bare(t)
			admin := db.Role(t, attributes)
			url := db.URLAs(admin)
			db.Exec(t, `alter database `+db.Name+` owner to `+admin)
			conn := db.Conn(t, admin)
			exec := func(sql string) {
				t.Helper()
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			// The application migrates with the same tool, and has its own table of versions.
			exec(`create schema app; create table app.schema_migrations (version bigint not null primary key, dirty boolean not null); insert into app.schema_migrations values (42, true);
				create table app.orders (id int primary key, tenant_id text);
				create table app.parts (id int, tenant_id text) partition by list (id); create table app.part partition of app.parts for values in (1);
				create function app.f() returns trigger language plpgsql as $$ begin return null; end $$;
				create trigger theirs after insert on app.orders for each row execute function app.f()`)
			before := one[string](t, url, trace)
			for round := range 2 {
				if err := migrate.Up(t.Context(), url); err != nil {
					t.Fatal(err)
				}
				if err := migrate.Up(t.Context(), url); err != nil {
					t.Errorf("up again: %v", err)
				}
				if v, err := migrate.Version(t.Context(), url); v != migrate.Latest() || err != nil {
					t.Errorf("version %d, %v", v, err)
				}
				if err := migrate.Check(t.Context(), conn); err != nil {
					t.Errorf("the login that migrated may not run the server: %v", err)
				}
				// Whoever migrated cannot read what is everybody's by accident: only as a member of server and watch.
				if attributes != "superuser" {
					if member := one[bool](t, url, `select pg_has_role(pg_get_userbyid(nspowner), case when current_setting('server_version_num')::int >= 160000 then 'usage' else 'member' end) from pg_namespace where nspname = 'notifyql'`); member {
						t.Error("the login that migrated is still a member of the owner")
					}
				}
				exec(`select notifyql.watch('app.orders'), notifyql.watch('app.parts', exclude => '{id}')`)
				exec(`insert into app.orders values (1, 'a'), (2, 'b'); update app.orders set tenant_id = 'c'; insert into app.parts values (1, 'a')`)
				exec(`select notifyql.publish('news', '1', 'a')`)
				if n := one[int](t, url, `select count(*) from notifyql.change`); n != 6 {
					t.Errorf("%d changes in the log", n)
				}
				if err := migrate.Down(t.Context(), url, func(s string) { t.Errorf("notice: %s", s) }); err != nil {
					t.Fatal(err)
				}
				if after := one[string](t, url, trace); after != before {
					t.Errorf("round %d: before:\n%s\nafter:\n%s", round, before, after)
				}
				exec(`truncate app.orders, app.parts`)
			}
			if err := migrate.Down(t.Context(), url, nil); err != nil {
				t.Errorf("down with nothing there: %v", err)
			}
			if got := one[string](t, url, `select version || ' ' || dirty from app.schema_migrations`); got != "42 true" {
				t.Errorf("the application's version is %s", got)
			}
		})
	}
}

// A copy of a database shares its roles. Down in one leaves those that the other needs, and up again takes others.
func TestRolesThatACopyNeedsStay(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	if err := migrate.Up(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	owner := one[string](t, db.URL, `select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'notifyql'`)
	copied := db.Name + "_copy"
	admin, err := pgx.Connect(t.Context(), db.Server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	if _, err := admin.Exec(t.Context(), `create database `+copied+` template `+db.Name); err != nil {
		t.Fatal(err)
	}
	defer admin.Exec(context.WithoutCancel(t.Context()), `drop database `+copied)
	copyURL := db.Server.URL(copied)

	var notices []string
	if err := migrate.Down(t.Context(), db.URL, func(s string) { notices = append(notices, s) }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(notices, "\n"); !strings.Contains(got, "role "+owner+" stays") {
		t.Errorf("notices:\n%s", got)
	}
	if err := migrate.Up(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	again := one[string](t, db.URL, `select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'notifyql'`)
	if again == owner {
		t.Errorf("both databases are owned by %s", owner)
	}
	// The copy works, and goes by itself.
	one[int](t, copyURL, `with w as (select notifyql.publish('x', '1', 'a')) select 1 from w`)
	if err := migrate.Down(t.Context(), copyURL, func(s string) { t.Errorf("notice: %s", s) }); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Down(t.Context(), db.URL, func(s string) { t.Errorf("notice: %s", s) }); err != nil {
		t.Fatal(err)
	}
	if left := one[string](t, db.URL, `select coalesce(string_agg(rolname, ' '), '') from pg_roles where starts_with(rolname, $1) or rolname = $2`,
		strings.TrimSuffix(owner, "owner"), again); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestWhoMayNotMigrateIsToldWhatToDo(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	nobody, creator, other := db.Role(t, ""), db.Role(t, "createrole"), db.Role(t, "createrole")
	for _, login := range []string{nobody, creator} { // the second may make roles, but no schema
		err := migrate.Up(t.Context(), db.URLAs(login))
		if !errors.Is(err, migrate.ErrPrivilege) || !strings.Contains(err.Error(), "migrate sql") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
	db.Exec(t, `grant create on database `+db.Name+` to `+nobody) // a schema, but no roles
	if err := migrate.Up(t.Context(), db.URLAs(nobody)); !errors.Is(err, migrate.ErrPrivilege) {
		t.Errorf("%v", err)
	}
	if v := one[string](t, db.URL, `select (select count(*) from notifyql.migrations) || ' ' || (select count(*) from pg_roles where rolname ~ ('^notifyql_' || (select oid from pg_database where datname = current_database()) || '_'))`); v != "0 0" {
		t.Errorf("a failed migration left %s", v)
	}
	if err := migrate.Down(t.Context(), db.URL, nil); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `grant create on database `+db.Name+` to `+creator)
	if err := migrate.Up(t.Context(), db.URLAs(creator)); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Down(t.Context(), db.URLAs(other), nil); !errors.Is(err, migrate.ErrPrivilege) {
		t.Errorf("%v", err)
	}
	if err := migrate.Check(t.Context(), db.Conn(t, other)); !errors.Is(err, migrate.ErrPrivilege) || !strings.Contains(err.Error(), "_server to ") {
		t.Errorf("%v", err)
	}
	if err := migrate.Down(t.Context(), db.URLAs(creator), nil); err != nil {
		t.Fatal(err)
	}
}

func TestCheckTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	check := func(want error, says string) {
		t.Helper()
		err := migrate.Check(t.Context(), db.Pool(t))
		if !errors.Is(err, want) || want != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	check(migrate.ErrMissing, "run `notifyql migrate up`")
	db.Exec(t, `create schema notifyql`)
	check(migrate.ErrMissing, "run `notifyql migrate up`")
	if err := migrate.Up(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	check(nil, "")
	db.Exec(t, `update notifyql.migrations set version = 2`)
	check(migrate.ErrBehind, "version 2")
	db.Exec(t, `update notifyql.migrations set version = 99`) // by a newer program, which says that this one may run
	check(nil, "")
	tooOld := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, migrate.ErrTooOld) || !strings.Contains(err.Error(), "newer program") {
			t.Errorf("%s: %v", what, err)
		}
	}
	tooOld("down", migrate.Down(t.Context(), db.URL, nil)) // it does not know what to undo
	if err := migrate.Up(t.Context(), db.URL); err != nil {
		t.Errorf("up, where there is nothing to do: %v", err)
	}
	if got := one[string](t, db.URL, `select max(version)::text from notifyql.migrations`); got != "99" {
		t.Errorf("version %s", got)
	}
	db.Exec(t, `update notifyql.setting set min_schema = 98`)
	check(migrate.ErrTooOld, "use a newer program")
	tooOld("up", migrate.Up(t.Context(), db.URL))
}

// A migration that fails leaves the version it was at, and no dirty one.
func TestAFailedMigrationChangesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	db.Exec(t, `create schema notifyql; create table notifyql.change (x int)`) // in the way of the second one
	if err := migrate.Up(t.Context(), db.URL); err == nil || !strings.Contains(err.Error(), `at version 1: ERROR: relation "change" already exists`) {
		t.Errorf("%v", err)
	}
	if got := one[string](t, db.URL, `select version || ' ' || dirty from notifyql.migrations`); got != "1 false" {
		t.Errorf("version %s", got)
	}
	if n := one[int](t, db.URL, `select count(*) from pg_class where relnamespace = 'notifyql'::regnamespace and relname = 'change_seq'`); n != 0 {
		t.Error("half of the migration is there")
	}
	db.Exec(t, `drop table notifyql.change`)
	if err := migrate.Up(t.Context(), db.URL); err != nil {
		t.Error(err)
	}
}

// A migration that cannot have a lock does not queue writers behind it: it gives up, and tries again until it can.
func TestMigratingDoesNotStopWriters(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text); select notifyql.watch('t')`)
	long, writer := db.Conn(t, "postgres"), db.Conn(t, "postgres")
	if _, err := long.Exec(t.Context(), `begin; insert into t values (1, 'a')`); err != nil { // holds the log, and t
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- migrate.Down(t.Context(), db.URL, nil) }()
	if _, err := writer.Exec(t.Context(), `set statement_timeout = '10s'`); err != nil {
		t.Fatal(err)
	}
	// Wait until the migration has been refused once: then others have written while it waited.
	for refused := false; !refused; {
		if _, err := writer.Exec(t.Context(), `insert into t values (2, 'a')`); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			t.Fatalf("down ended with %v", err)
		default:
		}
		refused = strings.Contains(db.Server.Log(), "lock timeout")
	}
	if _, err := long.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Exec(t.Context(), `insert into t values (3, 'a')`); err != nil {
		t.Error(err)
	}
}

func TestMigrationsStopWithTheirContext(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	holder := db.Conn(t, "postgres")
	if _, err := holder.Exec(t.Context(), `select pg_advisory_lock(hashtextextended('notifyql migrate', 0))`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- migrate.Down(ctx, db.URL, nil) }()
	for one[int](t, db.URL, `select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`) == 0 {
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for _, url := range []string{"postgres://127.0.0.1:1/x", "::", db.Server.URL("nowhere")} {
		if err := migrate.Up(t.Context(), url); err == nil || !strings.HasPrefix(err.Error(), "migrate up: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

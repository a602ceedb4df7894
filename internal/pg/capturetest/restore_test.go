package capturetest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// clientProgram finds pg_dump or pg_restore, and the major version that it is of.
func clientProgram(t *testing.T, name string) (path string, major int) {
	t.Helper()
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is well-formed
	if found, err := exec.LookPath(name); err == nil {
		candidates = append(candidates, found)
	}
	for _, c := range candidates {
		out, err := exec.CommandContext(t.Context(), c, "--version").Output()
		if m := regexp.MustCompile(`\) (\d+)`).FindSubmatch(out); err == nil && m != nil {
			if v, _ := strconv.Atoi(string(m[1])); v > major {
				path, major = c, v
			}
		}
	}
	if path == "" {
		t.Fatalf("there is no %s here: run scripts/setup.sh test (Debian: apt-get install postgresql-client)", name)
	}
	return path, major
}

// dumped is a server whose databases pg_dump can read: it refuses one that is newer than itself.
func dumped(t *testing.T) (srv *localpg.Server, pgDump, pgRestore string) {
	t.Helper()
	pgDump, major := clientProgram(t, "pg_dump")
	pgRestore, _ = clientProgram(t, "pg_restore")
	db := pgtest.Bare(t)
	if one[int](t, db, `select current_setting('server_version_num')::integer / 10000`) <= major {
		return db.Server, pgDump, pgRestore
	}
	return pgtest.Server(t, localpg.Options{Version: strconv.Itoa(major)}), pgDump, pgRestore
}

// call runs a program and gives what it said; an error of its own ends the test, but for pg_restore's having ignored some.
func call(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || !strings.Contains(string(out), "errors ignored on restore")) {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// application is the schema of an application, some of it watched, and rows that were written before and since.
const application = `
	create table orders (id int primary key, tenant_id text, x text);
	create table parts (id int, tenant_id text, x text) partition by range (id); create table parts1 partition of parts for values from (0) to (10);
	insert into orders values (1, 'a', 'before');
	select notifyql.watch('orders'), notifyql.watch('parts', exclude => '{x}');
	insert into orders values (2, 'b', 'since'); insert into parts values (1, 'a', 'hidden')`

// restored holds what must be after a restore: the rows are there, writers write, nothing is captured or announced, and to
// watch the tables again is all it takes.
func restored(t *testing.T, db *pgtest.DB, watches bool) {
	t.Helper()
	write := func() {
		t.Helper()
		db.Exec(t, `insert into orders values (3, 'c', 'new'); update orders set x = x || '!'; delete from orders where id = 3;
			insert into parts values (2, 'b', 'hidden'); update parts set x = 'hush'; delete from parts where id = 2; truncate parts1`)
	}
	if got := lines(t, db, `select left(x, 5) from orders order by id`); got != "befor\nsince" {
		t.Errorf("rows: %s", got)
	}
	if !watches {
		write()
		return
	}
	e := listen(t, db)
	before := one[int](t, db, `select count(*) from notifyql.change`)
	write()
	if n := one[int](t, db, `select count(*) from notifyql.change`); n != before || len(e.hear(t)) > 0 {
		t.Errorf("%d changes were captured", n-before)
	}
	db.Exec(t, `select notifyql.watch('orders'), notifyql.watch('parts', exclude => '{x}')`)
	e.hear(t)
	write()
	if n := one[int](t, db, `select count(*) from notifyql.change`); n != before+9 {
		t.Errorf("%d changes were captured of 9", n-before)
	}
	if heard := text(e.hear(t)); strings.Contains(heard, "hush") || strings.Contains(heard, "hidden") || heard == "" {
		t.Errorf("heard %s", heard)
	}
	want(t, lines(t, db, `select tbl || ' ' || state from notifyql.watched where state <> 'the table is gone' order by 1`), "orders watched\nparts watched")
	want(t, lines(t, db, `select count(*)::text from pg_trigger where tgname like ' notifyql%' and tgparentid = 0`), "5")
}

func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	srv, pgDump, pgRestore := dumped(t)
	source := pgtest.NewOn(t, srv)
	source.Exec(t, application)
	source.Exec(t, `select notifyql.restrict('orders', 'x', bypass => '{admin}')`)
	dump := func(args ...string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "dump")
		call(t, pgDump, append(args, "-Fc", "-f", file, source.URL)...)
		return file
	}
	whole, app := dump(), dump("-n", "public")

	t.Run("the whole, in the same cluster", func(t *testing.T) {
		db := pgtest.BareOn(t, srv)
		if out := call(t, pgRestore, "--exit-on-error", "-d", db.URL, whole); out != "" {
			t.Error(out)
		}
		want(t, lines(t, db, `select distinct state from notifyql.watched`), "the database was restored: watch the table again")
		want(t, lines(t, db, `select tbl || ' ' || state from notifyql.restricted`), "orders the database was restored, and nobody sees the rows: restrict the table again")
		restored(t, db, true)
		want(t, lines(t, db, `select tbl || ' ' || state from notifyql.restricted`), "orders the database was restored, and nobody sees the rows: restrict the table again")
		db.Exec(t, `select notifyql.restrict('orders', 'x', 'claim')`)
		want(t, lines(t, db, `select tbl || ' ' || state from notifyql.restricted`), "orders in force")
		want(t, lines(t, db, `select tbl::text || ' ' || (id > 2) from notifyql.watched order by 1`), "orders true\nparts true")
		want(t, lines(t, db, `select distinct state from notifyql.watched`), "watched")
		if err := migrate.Down(t.Context(), db.URL, func(string) {}); err != nil {
			t.Error(err)
		}
		db.Exec(t, `update orders set x = 'on their own'; truncate parts`)
	})
	t.Run("the whole, in another cluster", func(t *testing.T) {
		t.Parallel()
		other, err := localpg.Start(t.Context(), localpg.Options{Version: srv.Version()}) // without roles of ours
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := other.Stop(); err != nil {
				t.Error(err)
			}
		})
		for _, way := range []struct {
			name   string
			args   []string
			misses bool // the roles; the migration below makes some, maybe of the same names, so this is the first
		}{
			{"with owners", nil, true},
			{"without", []string{"--no-owner", "--no-privileges"}, false},
		} {
			db := pgtest.BareOn(t, other)
			out := call(t, pgRestore, append(way.args, "-d", db.URL, whole)...)
			if misses := strings.Contains(out, `_owner" does not exist`); misses != way.misses {
				t.Errorf("%s: pg_restore misses the owner: %v, want %v; the roles here are %s; it said %q", way.name, misses, way.misses,
					lines(t, db, `select rolname::text from pg_roles where rolname like 'notifyql%'`), out)
			}
			db.Exec(t, `insert into orders values (9, 'a', 'x'); update parts set x = 'y'; truncate parts; delete from orders where id = 9`)
			if got := try(t, db, `select notifyql.watch('orders')`); !strings.Contains(got, "restored without the roles that own what is in it | Drop the schema notifyql (cascade), migrate, and watch again") {
				t.Errorf("%s: to watch gave %q", way.name, got)
			}
			// Nothing of it is for everybody.
			want(t, lines(t, db, `select has_schema_privilege('pg_monitor', 'notifyql', 'usage')::text`), "false")
			db.Exec(t, `drop schema notifyql cascade`)
			if err := migrate.Up(t.Context(), db.URL); err != nil {
				t.Fatal(err)
			}
			restored(t, db, true)
		}
		// The roles first, as pg_dumpall --roles-only has them.
		db := pgtest.BareOn(t, other)
		for _, kind := range []string{"owner", "watch", "image", "tenant", "server"} {
			db.Exec(t, `do $$ begin create role `+role(t, source, kind)+` nologin; exception when duplicate_object then null; end $$`)
		}
		if out := call(t, pgRestore, "--exit-on-error", "-d", db.URL, whole); out != "" {
			t.Error(out)
		}
		restored(t, db, true)
	})
	t.Run("the application's schema, where notifyql is", func(t *testing.T) {
		db := pgtest.NewOn(t, srv)
		db.Exec(t, `create schema another; create table another.t (id int, tenant_id text); select notifyql.watch('another.t'); drop schema public`)
		if out := call(t, pgRestore, "--exit-on-error", "-d", db.URL, app); out != "" {
			t.Error(out)
		}
		restored(t, db, false) // its triggers have another's watch id
		if n := one[int](t, db, `select count(*) from notifyql.change`); n != 0 {
			t.Errorf("%d changes were captured", n)
		}
		db.Exec(t, `select notifyql.watch('orders'), notifyql.watch('parts'); insert into orders values (7, 'a', 'x')`)
		want(t, lines(t, db, `select rel::text || op::text from notifyql.change join notifyql.watch w on w.id = watch`), "ordersI")
	})
	t.Run("the application's schema, where notifyql is not", func(t *testing.T) {
		db := pgtest.BareOn(t, srv)
		db.Exec(t, `drop schema public`)
		out := call(t, pgRestore, "-d", db.URL, app)
		if errs := strings.Count(out, "error: could not execute query"); errs == 0 || errs != strings.Count(out, `schema "notifyql" does not exist`)+strings.Count(out, `for table`) {
			t.Error(out)
		}
		restored(t, db, false)
		if err := migrate.Up(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
		restored(t, db, true)

		// Without our triggers: nothing is missed.
		db = pgtest.BareOn(t, srv)
		db.Exec(t, `drop schema public`)
		var list []string
		for line := range strings.Lines(call(t, pgRestore, "-l", app)) {
			if !strings.Contains(line, " notifyql") {
				list = append(list, line)
			}
		}
		file := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(file, []byte(strings.Join(list, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := call(t, pgRestore, "--exit-on-error", "--single-transaction", "-L", file, "-d", db.URL, app); out != "" {
			t.Error(out)
		}
		restored(t, db, false)
	})
	t.Run("over the tables that are watched", func(t *testing.T) {
		db := pgtest.NewOn(t, srv)
		db.Exec(t, application)
		if out := call(t, pgRestore, "--clean", "--exit-on-error", "-d", db.URL, app); out != "" {
			t.Error(out)
		}
		want(t, lines(t, db, `select state from notifyql.watched`), "the table is gone\nthe table is gone")
		restored(t, db, true)
		want(t, lines(t, db, `select notifyql.unwatch(tbl)::text from notifyql.watched where state = 'the table is gone'`), "true\ntrue")
		want(t, lines(t, db, `select distinct state from notifyql.watched`), "watched")
	})
	t.Run("by who may not read what is ours", func(t *testing.T) {
		db := pgtest.BareOn(t, srv)
		owner := db.Role(t, "")
		db.Exec(t, `grant create on schema public to `+owner)
		if err := migrate.Up(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
		db.Exec(t, `grant `+role(t, db, "watch")+` to `+owner)
		conn := db.Conn(t, owner)
		for _, sql := range splitStatements(application) {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(t.TempDir(), "dump")
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), pgDump, "-Fc", "-f", file, db.URLAs(owner)).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "permission denied") {
			t.Errorf("%v: %s", err, out)
		}
		call(t, pgDump, "-Fc", "-f", file, "--exclude-schema=notifyql", db.URLAs(owner))
	})
	t.Run("the secret", func(t *testing.T) {
		file := dump("--exclude-table-data=notifyql.secret", "--exclude-table-data=notifyql.change*", "-Z", "0")
		secret := one[string](t, source, `select channel from notifyql.secret`)
		if strings.Contains(read(t, file), secret) || !strings.Contains(read(t, dump("-Z", "0")), secret) {
			t.Error("the channel's name is in a dump, or not in one, that it should not be in")
		}
		db := pgtest.BareOn(t, srv)
		if out := call(t, pgRestore, "--exit-on-error", "-d", db.URL, file); out != "" {
			t.Error(out)
		}
		db.Exec(t, `select notifyql.watch('orders'); update orders set x = 'y'`) // without a channel writers write all the same
		db.Exec(t, `insert into notifyql.secret default values`)
		restoredSecret := one[string](t, db, `select channel from notifyql.secret`)
		if restoredSecret == secret {
			t.Error("it is the same")
		}
		e := listen(t, db)
		db.Exec(t, `update orders set x = 'z'`)
		if n := count(e.hear(t)); n["U"] != 2 {
			t.Error(n)
		}
	})
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

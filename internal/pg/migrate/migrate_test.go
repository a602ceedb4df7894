package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// traces lists what in the database and the cluster has to do with us, but for what other databases' copies hold.
const traces = `
	select 'schema ' || nspname from pg_namespace where nspname like 'notifyql%'
	union all select 'relation ' || oid::regclass from pg_class where relname ~ 'notifyql' and relkind <> 't'
	union all select 'function ' || oid::regprocedure from pg_proc where proname ~ 'notifyql' or prosrc ~ 'notifyql'
	union all select 'trigger ' || tgname || ' on ' || tgrelid::regclass from pg_trigger where not tgisinternal
	union all select 'role ' || rolname from pg_roles
		where rolname ~ ('^notifyql_' || (select oid from pg_database where datname = current_database()) || '_')`

func left(t *testing.T, db *pgtest.DB) (list []string) {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), traces)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// Down leaves nothing, whoever migrates and whatever is in the log; up works again; and golang-migrate's own table of the
// application is not touched.
func TestDownLeavesNothingAndUpWorksAgain(t *testing.T) {
	t.Parallel()
	for _, attributes := range []string{"superuser", "createrole"} {
		t.Run(attributes, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Bare(t)
			admin := db.Role(t, attributes)
			db.Exec(t, `alter database `+db.Name+` owner to `+admin)
			db.Exec(t, `grant create on schema public to `+admin)
			url := db.URLAs(admin)
			app := db.Conn(t, admin)
			exec := func(sql string) {
				t.Helper()
				if _, err := app.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			exec(`create table schema_migrations (version bigint primary key, dirty boolean not null)`)
			exec(`insert into schema_migrations values (42, true)`)
			exec(`create table orders (id int primary key, tenant_id text not null)`)
			exec(`create table parts (id int, tenant_id text not null) partition by range (id)`)
			exec(`create table parts_1 partition of parts for values from (0) to (100)`)
			for range 2 {
				if err := migrate.Up(t.Context(), url); err != nil {
					t.Fatal(err)
				}
				if v, err := migrate.Version(t.Context(), url); err != nil || v != migrate.Latest() {
					t.Fatalf("version %d (%v)", v, err)
				}
				exec(`select notifyql.watch('orders'), notifyql.watch('parts')`)
				exec(`insert into orders values (1, 'a'); insert into parts values (1, 'a'); truncate parts; delete from orders`)
				var logged int
				if err := db.Pool(t).QueryRow(t.Context(), `select count(*) from notifyql.change`).Scan(&logged); err != nil || logged != 4 {
					t.Fatalf("%d changes are logged (%v)", logged, err)
				}
				if err := migrate.Down(t.Context(), url, func(note string) { t.Error(note) }); err != nil {
					t.Fatal(err)
				}
				if list := left(t, db); len(list) > 0 {
					t.Fatalf("down left %s", strings.Join(list, ", "))
				}
				exec(`insert into orders values (1, 'a'); delete from orders; insert into parts values (1, 'a'); truncate parts`)
			}
			var version int
			var dirty bool
			if err := db.Pool(t).QueryRow(t.Context(), `select version, dirty from schema_migrations`).Scan(&version, &dirty); err != nil || version != 42 || !dirty {
				t.Errorf("the application's version is %d, %v (%v)", version, dirty, err)
			}
		})
	}
}

// A copy of a database keeps the roles of its template. Down in one leaves them to the other, and says so.
func TestDownInACopyLeavesTheRolesToTheOther(t *testing.T) {
	t.Parallel()
	a := pgtest.New(t) // itself a copy of the tests' template
	var notes []string
	if err := migrate.Down(t.Context(), a.URL, func(note string) { notes = append(notes, note) }); err != nil {
		t.Fatal(err)
	}
	if len(notes) == 0 {
		t.Error("nothing was said of the roles that stay")
	}
	b := pgtest.New(t)
	b.Exec(t, `create table orders (id int, tenant_id text); select notifyql.watch('orders'); insert into orders values (1, 'a')`)
	if err := migrate.Up(t.Context(), a.URL); err != nil {
		t.Fatal(err)
	}
	a.Exec(t, `create table orders (id int, tenant_id text); select notifyql.watch('orders'); insert into orders values (1, 'a')`)
}

// A program does not run on a schema that it does not know, and says which is too old.
func TestVersionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if err := migrate.Check(t.Context(), db.Pool(t)); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `update notifyql.migrations set version = version + 1`)
	if err := migrate.Check(t.Context(), db.Pool(t)); err != nil {
		t.Errorf("a newer schema that lets this program run: %v", err)
	}
	for _, run := range []func() error{
		func() error { return migrate.Up(t.Context(), db.URL) },
		func() error { return migrate.Down(t.Context(), db.URL, nil) },
	} {
		if err := run(); !errors.Is(err, migrate.ErrTooOld) {
			t.Errorf("a newer schema: %v", err)
		}
	}
	db.Exec(t, `update notifyql.setting set min_schema = (select version from notifyql.migrations)`)
	if err := migrate.Check(t.Context(), db.Pool(t)); !errors.Is(err, migrate.ErrTooOld) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a schema that wants a newer program: %v", err)
	}
	if err := migrate.Check(t.Context(), pgtest.Bare(t).Pool(t)); !errors.Is(err, migrate.ErrMissing) || !strings.Contains(err.Error(), "migrate up") {
		t.Errorf("without the schema: %v", err)
	}
}

// A migration waits for a lock only briefly at a time: writers never queue behind it.
func TestMigratingNeverQueuesWriters(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int, tenant_id text); select notifyql.watch('orders')`)
	long, writer := db.Conn(t, "postgres"), db.Conn(t, "postgres")
	if _, err := long.Exec(t.Context(), `begin; insert into orders values (1, 'a')`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- migrate.Down(ctx, db.URL, nil) }()
	// Until it has met the lock of the long transaction, waited, and gone on to the next try.
	var waited bool
	deadline := time.Now().Add(time.Minute)
	for !waited && time.Now().Before(deadline) {
		err := db.Pool(t).QueryRow(t.Context(), `
			select exists (select from pg_stat_activity where datname = current_database()
			               and application_name = 'notifyql migrate' and wait_event_type = 'Lock')`).Scan(&waited)
		if err != nil {
			t.Fatal(err)
		}
	}
	if !waited {
		t.Fatal("the migration never waited for the long transaction")
	}
	if _, err := writer.Exec(t.Context(), `set statement_timeout = '5s'`); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := writer.Exec(t.Context(), `insert into orders values (2, 'a')`); err != nil {
			t.Fatalf("a writer beside the migration: %v", err)
		}
	}
	if _, err := long.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	if err := <-down; err != nil {
		t.Fatal(err)
	}
	cancel()
}

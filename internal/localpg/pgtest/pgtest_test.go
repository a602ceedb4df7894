package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, setup) }

func setup(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "create table mark (n int); insert into mark values (1)")
	return err
}

func rows(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	var n int
	if err := db.Pool(t).QueryRow(t.Context(), "select count(*) from mark").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, "insert into mark values ($1)", 2)
			if n := rows(t, db); n != 2 {
				t.Errorf("%d rows, want the template's one and ours", n)
			}
		})
	}
}

func TestBareIsEmpty(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	db.Exec(t, "create table mark (n int)")
	if n := rows(t, db); n != 0 {
		t.Errorf("%d rows in an empty database", n)
	}
}

func TestPrivateServerHasTheSetup(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{Settings: map[string]string{"fsync": "on"}})
	db := pgtest.NewOn(t, srv)
	if n := rows(t, db); n != 1 {
		t.Errorf("%d rows, want the template's one", n)
	}
	if err := srv.Restart(t.Context(), localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var fsync string
	if err := conn.QueryRow(t.Context(), "show fsync").Scan(&fsync); err != nil || fsync != "on" {
		t.Errorf("fsync is %q, %v", fsync, err)
	}
}

func TestRolesGoWithTheirDatabase(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{})
	t.Run("database", func(t *testing.T) {
		db := pgtest.NewOn(t, srv)
		db.Exec(t, "grant create on schema public to public")
		conn := db.Conn(t, db.Role(t, "createrole"))
		if _, err := conn.Exec(t.Context(), "create table mine (n int)"); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), srv.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var left int
	err = conn.QueryRow(t.Context(), `select (select count(*) from pg_roles where rolname like 'test%')
		+ (select count(*) from pg_database where datname like 'test%')`).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d databases and roles are left, %v", left, err)
	}
}

func BenchmarkNew(b *testing.B) {
	pgtest.New(b)
	for b.Loop() {
		pgtest.New(b)
	}
}

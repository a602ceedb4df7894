// Package pgtest gives tests databases of their own on a real Postgres.
//
// A package that uses it has this TestMain, in an external test package (foo_test) if foo is imported by the setup:
//
//	func TestMain(m *testing.M) { pgtest.Main(m, pgmigrate.Up) }
//
// with
//
//	pgmigrate "github.com/notifyql/notifyql/internal/pg/migrate" // func Up(ctx context.Context, databaseURL string) error
//
// The setup is a parameter, and may be nil, so that pgtest imports nothing that it helps to test. It is run once, on a
// template; New copies the template in some ten milliseconds:
//
//	db := pgtest.New(t)
//	db.Exec(t, "insert into …")
//	pool := db.Pool(t)
//
// One server is shared by all tests of the binary: it starts with the first test that wants it and is stopped by Main,
// which then looks for goroutines left behind. A test that restarts, kills or configures a server takes one of its own:
//
//	srv := pgtest.Server(t, localpg.Options{Settings: map[string]string{"fsync": "on"}})
//	db := pgtest.NewOn(t, srv) // with the setup applied
//
// The environment variable NOTIFYQL_TEST_POSTGRES names the major version that all of this runs on.
//
// Go offers no way from TestMain to a test but a variable of the package: the shared server is one, set by Main before
// any test runs. Roles belong to the whole server: tests name theirs after their database (DB.Name) or clean them up.
package pgtest

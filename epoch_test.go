package notifyql_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// versionWith is the newest version of Postgres here that has a program, which not all that can be fetched have.
func versionWith(t *testing.T, program string) (version string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program) // the pattern is well-formed
	newest := 0
	for _, path := range found {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))); err == nil && v > newest {
			newest = v
		}
	}
	if newest == 0 {
		t.Fatalf("there is no %s here: run scripts/setup.sh test (Debian: apt-get install postgresql)", program)
	}
	return strconv.Itoa(newest)
}

// Transaction ids beyond 32 bits: live, across a restart in which the server comes to them, and resumed.
func TestBeyond32Bits(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{Version: versionWith(t, "pg_resetwal")})
	db := pgtest.NewOn(t, srv)
	db.Exec(t, items)
	node := run(t, notifyql.Config{DatabaseURL: db.URL})
	f := &follower{t: t}
	f.follow(node, "")
	db.Exec(t, "insert into items values (1, 'a')")
	f.want("INSERT 1.0")
	f.leave()
	if err := srv.Shutdown(t.Context(), localpg.Fast); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Program(t.Context(), "pg_resetwal", "--epoch=5"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := run(t, notifyql.Config{DatabaseURL: db.URL})
	var xid uint64
	for n := 1; n <= 20; n++ {
		if err := db.Pool(t).QueryRow(t.Context(), "with w as (update items set version = $1 returning id) select pg_current_xact_id() from w", n).Scan(&xid); err != nil {
			n-- // the pool's connections are those of before
			continue
		}
	}
	if xid < 5<<32 {
		t.Fatalf("transaction %d", xid)
	}
	for _, at := range []*notifyql.Server{node, other} {
		g := &follower{t: t, cursor: f.cursor}
		g.follow(at, "")
		for n := 1; n <= 20; n++ {
			g.want(fmt.Sprintf("UPDATE 1.%d", n))
		}
		g.want("SYNCED")
		g.leave()
	}
}

package pg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{DatabaseURL: "postgres://me:s3cret@host:notaport/db"},
		{DatabaseURL: "postgres://me:s3cret%zz@host/db"},
		{DatabaseURL: "postgres://me:s3cret@host/db?sslmode=maybe"},
		{DatabaseURL: "postgres://h/d", PoolURL: "postgres://me:s3cret@host/db?pool_max_conns=many"},
		{DatabaseURL: "postgres://h/d", PoolURL: "host=x port=s3cret"},
	} {
		s, err := New(cfg)
		if err == nil {
			s.Close()
			t.Errorf("%+v was taken", cfg)
			continue
		}
		name := "DATABASE_URL "
		if cfg.PoolURL != "" {
			name = "NOTIFYQL_POOL_URL "
		}
		if text := err.Error(); !strings.HasPrefix(text, name) || strings.Contains(text, "s3cret") || strings.Contains(text, "\n") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// check is what Check says of a database.
func check(t *testing.T, url string) error {
	t.Helper()
	s, err := New(Config{DatabaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Check(t.Context())
}

// Whatever makes a database unfit is said in one line, with what to do.
func TestCheckExplains(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create role "plain `+db.Name+`" login`)
	t.Cleanup(func() { db.Exec(t, `drop role "plain `+db.Name+`"`) })
	for _, c := range []struct {
		name, url string
		want      error
		says      []string
	}{
		{"fine", db.URL, nil, nil},
		{"nobody there", "postgres://me@127.0.0.1:1/db", nil, []string{`database "db" at 127.0.0.1:1`, "refuses the connection", "DATABASE_URL"}},
		{"no such host", "postgres://me@no.such.host.invalid/db", nil, []string{"host is not known", "DATABASE_URL"}},
		{"no such folder", "postgres:///db?host=/no/such/folder", nil, []string{"refuses the connection"}},
		{"no such database", db.Server.URL("nothing_here"), nil, []string{"does not exist", "create it"}},
		{"no such role", db.URLAs("nobody"), nil, []string{`does not let user "nobody" in`}},
		{"no schema", pgtest.Bare(t).URL, migrate.ErrMissing, []string{"migrate up"}},
		{"no right", db.URLAs("plain " + db.Name), migrate.ErrPrivilege, []string{"grant notifyql_"}},
		{"a pooler", through(t, db.URL, pgtest.Pooler(t, db.URL, 1)), errPooler, []string{"NOTIFYQL_POOL_URL"}},
		{"a pooler with several servers", through(t, db.URL, pgtest.Pooler(t, db.URL, 3)), errPooler, []string{"NOTIFYQL_POOL_URL"}},
		{"a pooler that refuses", through(t, db.URL, pgtest.Pooler(t, db.URL, 1)) + "&search_path=x", nil, []string{"pooler", "NOTIFYQL_POOL_URL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := check(t, c.url)
			if c.says == nil {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("it found nothing wrong")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v is not %v", err, c.want)
			}
			for _, part := range append(c.says, "") {
				if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %q, want one line with %q", err, part)
				}
			}
		})
	}
}

func TestServerTooOld(t *testing.T) {
	if err := errServerVersion(120017); err.Error() != "the server is Postgres 12.17: notifyql needs Postgres 13 or newer" {
		t.Error(err)
	}
}

// A standby is refused, by the listener and by all that takes snapshots, until it is promoted.
func TestStandby(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{})
	db := pgtest.NewOn(t, srv)
	ledger(t, db)
	signal := filepath.Join(srv.Dir(), "data", "standby.signal")
	if err := srv.Shutdown(t.Context(), localpg.Fast); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(signal, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(signal, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := srv.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := check(t, db.URL); !errors.Is(err, errStandby) {
		t.Errorf("Check says %v", err)
	}
	n := startNode(t, Config{DatabaseURL: db.URL})
	for _, part := range []string{"listener", "heartbeat"} {
		waitFor(t, part+" refuses", func() bool { return strings.Contains(n.Status().Problems[part], "standby") })
	}
	db.Pool(t).Reset()
	db.Exec(t, "select pg_promote()")
	n.opened(1)
	db.Exec(t, "insert into ledger values (1, 'a', 1)")
	n.caughtUp(db)
	checkLedger(t, db, n)
}

// waitFor waits for something that nothing signals.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long until %s", what)
		}
	}
}

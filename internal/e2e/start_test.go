package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// begin starts the server without waiting for it to be ready.
func begin(t *testing.T, url, addr string) *server {
	t.Helper()
	env := []string{"DATABASE_URL=" + url, "NOTIFYQL_ADDR=" + addr, "NOTIFYQL_AUTH=trust"}
	return &server{launch(t, "", env, binary(t), "serve"), addr}
}

// run runs a command of the binary to its end.
func run(t *testing.T, url string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), args...)
	cmd.Env = append(cmd.Environ(), "DATABASE_URL="+url)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustRun(t *testing.T, url string, args ...string) string {
	t.Helper()
	out, err := run(t, url, args...)
	if err != nil {
		t.Fatalf("notifyql %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestTheDatabaseIsDownAtTheStart(t *testing.T) {
	t.Parallel()
	own := pgtest.Server(t, localpg.Options{})
	db := pgtest.NewOn(t, own)
	if err := own.Shutdown(t.Context(), localpg.Fast); err != nil {
		t.Fatal(err)
	}
	srv := begin(t, db.URL, freeAddr(t))
	srv.await(t, "to say why it is not ready", func(h health) bool {
		return h.Status == "starting" && strings.Contains(h.Problems["listener"], "refuses the connection")
	})
	if err := own.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.await(t, "to be ready", func(h health) bool { return h.Status == "ready" && len(h.Problems) == 0 })
	refusals := 0 // said by whichever part noticed first
	for line := range strings.Lines(srv.stderr()) {
		if strings.Contains(line, "has a problem") && strings.Contains(line, "refuses the connection") {
			refusals++
		}
	}
	if refusals != 1 {
		t.Errorf("the problem was said %d times:\n%s", refusals, srv.stderr())
	}
}

func TestMigrationsAreMissingAtTheStart(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	srv := begin(t, db.URL, freeAddr(t))
	srv.await(t, "to say what to do", func(h health) bool {
		return h.Status == "starting" && strings.Contains(h.Problems["listener"], "migrate up")
	})
	mustRun(t, db.URL, "migrate", "up")
	srv.await(t, "to be ready", func(h health) bool { return h.Status == "ready" })
}

func TestTheServerGoesDownAndAnotherComes(t *testing.T) {
	overEachLibrary(t, func(t *testing.T, serve serving) {
		t.Parallel()
		db := pgtest.New(t)
		db.Exec(t, ordersTable)
		addr := freeAddr(t)
		srv := serve(t, db.URL, addr)
		c := connect(t, addr, map[string]any{"tenantId": "acme"}, subscription{Query: `subscription { ordersChanged { new { id } } }`})
		srv.await(t, "to have the subscription", func(h health) bool { return h.Subscriptions == 1 })
		if s := c.said(t); s.Type != "connected" {
			t.Fatalf("the client got %+v", s)
		}
		db.Exec(t, `insert into orders (tenant_id, status) values ('acme', 'open')`)
		if s := c.said(t); s.Type != "next" {
			t.Fatalf("the client got %+v", s)
		}
		if err := srv.stop(syscall.SIGTERM); err != nil {
			t.Fatalf("the server ended with %v", err)
		}
		if s := c.said(t); s.Type != "closed" || s.Code != 1012 { // and no complete, which would end the subscription for good
			t.Fatalf("the client got %+v, want to be closed with 1012", s)
		}
		db.Exec(t, `insert into orders (tenant_id, status) values ('acme', 'open')`) // writers don't need a server
		srv = serve(t, db.URL, addr)
		srv.await(t, "to have the subscription again", func(h health) bool { return h.Subscriptions == 1 })
		db.Exec(t, `insert into orders (tenant_id, status) values ('acme', 'open')`)
		if got, want := c.next(t), `{"data":{"ordersChanged":{"new":{"id":"3"}}}}`; got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestCommands(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	if out, err := run(t, db.URL, "watch", "orders"); err == nil || !strings.Contains(out, "migrate up") {
		t.Errorf("watch without migrations said %q (%v)", out, err)
	}
	if out := mustRun(t, db.URL, "migrate", "version"); !strings.Contains(out, "nothing") {
		t.Errorf("version said %q", out)
	}
	mustRun(t, db.URL, "migrate", "up")
	db.Exec(t, `create table orders (id int primary key, tenant_id text not null, status text)`)
	for what, args := range map[string][]string{
		"does not exist": {"watch", "nothing"},
		"tenant":         {"watch", "orders", "--tenant", "tenant"},
		"exclude":        {"watch", "orders", "--exclude", "no_such"},
	} {
		if out, err := run(t, db.URL, args...); err == nil || !strings.Contains(out, what) || strings.Count(out, "\n") != 1 {
			t.Errorf("%v said %q (%v)", args, out, err)
		}
	}
	mustRun(t, db.URL, "watch", "orders")
	db.Exec(t, `create table "order s" (id int primary key, tenant_id text not null, "a b" text, "a_b" text)`)
	mustRun(t, db.URL, "watch", `"order s"`)
	if out := mustRun(t, db.URL, "tables"); !strings.Contains(out, `public.order s.`) {
		t.Errorf("tables did not say what the schema changed: %q", out)
	}
	mustRun(t, db.URL, "unwatch", `"order s"`)
	if out := mustRun(t, db.URL, "tables"); !strings.Contains(out, "orders") {
		t.Errorf("tables said %q", out)
	}
	db.Exec(t, `select notifyql.restrict('orders', 'status', 'may.see'), notifyql.restrict('orders', 'tenant_id', bypass => '{boss}')`)
	if out := mustRun(t, db.URL, "tables"); strings.Count(out, "in force") != 2 || !strings.Contains(out, "may.see") {
		t.Errorf("tables said %q", out)
	}
	if out, err := run(t, db.URL, "tail", "--claims", "7", "subscription { ordersChanged { kind } }"); err == nil || !strings.Contains(out, "--claims is not a JSON object") {
		t.Errorf("tail said %q (%v)", out, err)
	}
	if out := mustRun(t, db.URL, "schema"); !strings.Contains(out, "ordersChanged") {
		t.Errorf("schema said %q", out)
	}
	if out := mustRun(t, db.URL, "migrate", "sql"); !strings.Contains(out, "create schema") {
		t.Errorf("sql said %q", out)
	}

	tail := launch(t, "", []string{"DATABASE_URL=" + db.URL}, binary(t), "tail", "--tenant", "acme", "--role", "boss", "--claims", `{"may":{"see":"open"}}`, `subscription { ordersChanged { new { id } } }`)
	eventually(t, "the tail to listen", func() bool {
		var n int
		err := db.Pool(t).QueryRow(t.Context(), `
			with written as (insert into orders select coalesce(max(id), 0) + 1, 'acme', 'open' from orders returning 1)
			select count(*) from written`).Scan(&n)
		return err == nil && len(tail.lines) > 0
	})
	if line := tail.line(t); !strings.HasPrefix(line, `{"data":{"ordersChanged":{"new":{"id":`) {
		t.Errorf("tail wrote %q", line)
	}
	if err := tail.stop(syscall.SIGINT); err != nil {
		t.Errorf("tail ended with %v", err)
	}
	if out, err := run(t, db.URL, "tail", `subscription { ordersChange { new { id } } }`); err == nil || !strings.Contains(out, "ordersChanged") {
		t.Errorf("a wrong field said %q (%v)", out, err)
	}
	mustRun(t, db.URL, "unwatch", "orders")
	mustRun(t, db.URL, "migrate", "down")
	if out := mustRun(t, db.URL, "migrate", "version"); !strings.Contains(out, "nothing") {
		t.Errorf("version after down said %q", out)
	}
}

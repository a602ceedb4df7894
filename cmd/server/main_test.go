package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, migrate.Up) }

// world is a program whose output a test reads.
func world(env map[string]string) (p *program, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return &program{stdout: out, stderr: errs, getenv: func(k string) string { return env[k] }}, out, errs
}

func TestTheTableOfSettingsIsInTheDocs(t *testing.T) {
	p, out, _ := world(nil)
	if code := p.main(t.Context(), []string{"config"}); code != 0 {
		t.Fatalf("exit %d", code)
	}
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), out.String()) {
		t.Errorf("docs/configuration.md lacks what `notifyql config` prints:\n%s", out)
	}
}

func TestABadCommandLineSaysWhatIsWrong(t *testing.T) {
	bare := pgtest.Bare(t)
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		"no such command":     {[]string{"sevre"}, nil, 2, `no command "sevre"`},
		"no database":         {[]string{"serve", "--auth", "trust"}, nil, 1, "set DATABASE_URL"},
		"wrong auth":          {[]string{"serve"}, map[string]string{"NOTIFYQL_AUTH": "truts", "DATABASE_URL": "postgres://x"}, 1, `NOTIFYQL_AUTH is "truts"`},
		"wrong bus":           {[]string{"serve", "--bus", "kafka"}, nil, 1, `NOTIFYQL_BUS is "kafka"`},
		"misspelt bus":        {[]string{"serve", "--bus", "radis://:secret@host"}, nil, 1, `NOTIFYQL_BUS is "…"; it can be postgres, memory, redis:`},
		"bus with no host":    {[]string{"serve", "--bus", "nats://"}, nil, 1, "NOTIFYQL_BUS: nats: the URL must be"},
		"broker, no Postgres": {[]string{"serve", "--bus", "redis://127.0.0.1:1"}, nil, 1, "set DATABASE_URL"},
		"wrong URL":           {[]string{"serve", "--auth", "trust", "--database-url", "postgres://a b"}, nil, 1, "DATABASE_URL"},
		"wrong size":          {[]string{"serve"}, map[string]string{"NOTIFYQL_TAIL_BYTES": "much"}, 1, "NOTIFYQL_TAIL_BYTES is \"much\""},
		"zero":                {[]string{"serve", "--max-connections", "0"}, nil, 2, "above zero"},
		"wrong level":         {[]string{"serve", "--log-level", "loud"}, nil, 1, "NOTIFYQL_LOG_LEVEL"},
		"too many words":      {[]string{"watch", "a", "b"}, nil, 2, `"b" is more than it takes`},
		"too few words":       {[]string{"watch"}, nil, 2, "it takes an argument"},
		"a word for serve":    {[]string{"serve", "now"}, nil, 2, `"now" is more than it takes`},
		"shared and tenants":  {[]string{"watch", "t", "--shared", "--tenant", "org_id"}, map[string]string{"DATABASE_URL": bare.URL}, 1, "--shared shows every tenant all rows"},
		"nothing of notifyql": {[]string{"watch", "pg_class"}, map[string]string{"DATABASE_URL": bare.URL}, 1, "run `notifyql migrate up`"},
		"nor to unwatch":      {[]string{"unwatch", "pg_class"}, map[string]string{"DATABASE_URL": bare.URL}, 1, "run `notifyql migrate up`"},
		"neither yes nor no":  {[]string{"serve"}, map[string]string{"NOTIFYQL_MIGRATE": "perhaps"}, 1, "want true or false"},
		"no port":             {[]string{"serve", "--bus", "memory", "--addr", "here"}, nil, 1, "such as :8000"},
		"no keys":             {[]string{"serve", "--auth", "jwt"}, nil, 1, "one of NOTIFYQL_JWT_SECRET, NOTIFYQL_JWT_PUBLIC_KEYS and NOTIFYQL_JWT_JWKS_URL"},
		"no hook":             {[]string{"serve", "--auth", "hook"}, nil, 1, "NOTIFYQL_HOOK_URL does not say"},
		"no hook's URL":       {[]string{"serve", "--auth", "hook", "--hook-url", "localhost:99"}, nil, 1, "NOTIFYQL_HOOK_URL and"},
		"no JWKS' URL":        {[]string{"serve", "--auth", "jwt", "--jwt-jwks-url", "here"}, nil, 1, "NOTIFYQL_JWT_…: JWT: the address"},
		"nothing to look at":  {[]string{"doctor", "--bus", "memory"}, nil, 1, "neither a database nor a broker"},
		"an origin's path":    {[]string{"serve", "--bus", "memory", "--origins", "https://app.example.com/"}, nil, 1, "want a host such as app.example.com"},
		"migrate sideways":    {[]string{"migrate", "sideways"}, map[string]string{"DATABASE_URL": "postgres://x"}, 2, "none of up, down, version, sql"},
		"no such flag":        {[]string{"serve", "--port", "1"}, nil, 2, "-port"},
		"nobody there":        {[]string{"watch", "t"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x"}, 1, "is Postgres running there"},
		"nor to migrate":      {[]string{"migrate", "up"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x"}, 1, "is Postgres running there"},
		"no URL":              {[]string{"tables"}, map[string]string{"DATABASE_URL": "nonsense"}, 1, "want something like postgres://"},
		"no such feature":     {[]string{"serve", "--auth", "trust", "--features", "sse,-see"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x"}, 1, `no feature "see"; there are batches,`},
		"watch, read-only":    {[]string{"watch", "t"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x", "NOTIFYQL_READ_ONLY": "true"}, 1, "NOTIFYQL_READ_ONLY is set"},
		"unwatch, read-only":  {[]string{"unwatch", "t", "--read-only"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x"}, 1, "NOTIFYQL_READ_ONLY is set"},
		"migrate, read-only":  {[]string{"migrate", "down"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x", "NOTIFYQL_READ_ONLY": "1"}, 1, "NOTIFYQL_READ_ONLY is set"},
		"serve and migrate":   {[]string{"serve", "--migrate", "--read-only", "--auth", "trust"}, map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/x"}, 1, "NOTIFYQL_READ_ONLY is set"},
		"a port in use":       {[]string{"serve", "--bus", "memory"}, nil, 1, "NOTIFYQL_ADDR"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a port in use" {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				c.args = append(c.args, "--addr", ln.Addr().String())
			}
			p, _, errs := world(c.env)
			if code := p.main(context.Background(), c.args); code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			if said := errs.String(); !strings.Contains(said, c.want) || strings.Count(last(said), "\n") != 1 {
				t.Errorf("said %q, want a line with %q", said, c.want)
			}
		})
	}
}

// Who may not watch is told what to ask for, and with that may.
func TestWhoMayNotWatchIsToldWhatToAskFor(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	login := db.Role(t, "")
	db.Exec(t, `create table orders (id int primary key, tenant_id text); alter table orders owner to `+login)
	watch := func() (int, string) {
		p, _, errs := world(map[string]string{"DATABASE_URL": db.URLAs(login)})
		return p.main(t.Context(), []string{"watch", "orders"}), errs.String()
	}
	code, said := watch()
	_, grant, found := strings.Cut(said, "run: ")
	if code != 1 || !found {
		t.Fatalf("%d: %s", code, said)
	}
	db.Exec(t, grant)
	if code, said := watch(); code != 0 {
		t.Errorf("%d: %s", code, said)
	}
}

// A login for which the database is read-only is told so, and what makes it so.
func TestADatabaseThatIsReadOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int primary key, tenant_id text)`)
	for url, args := range map[string][]string{db.URL: {"watch", "orders"}, pgtest.Bare(t).URL: {"migrate", "up"}} {
		p, _, errs := world(map[string]string{"DATABASE_URL": url + "&default_transaction_read_only=on"})
		if code := p.main(t.Context(), args); code != 1 || !strings.Contains(errs.String(), "see to default_transaction_read_only") {
			t.Errorf("%s: %d: %s", args, code, errs)
		}
	}
}

// last is what is said beside the log.
func last(said string) string {
	var rest strings.Builder
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "time=") {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// A password in the environment is in nothing that is printed.
func TestPasswordsAreNotPrinted(t *testing.T) {
	for _, url := range []string{"postgres://bob:hunter2@127.0.0.1:1/x", "postgres://bob:hunter2@a b/x", "host=127.0.0.1 port=none password=hunter2"} {
		for _, c := range commands() {
			if c.name == "serve" || c.name == "demo" || c.name == "tail" || c.name == "schema" {
				continue // they would wait
			}
			p, out, errs := world(map[string]string{"DATABASE_URL": url, "NOTIFYQL_POOL_URL": url})
			p.main(t.Context(), []string{c.name, "up"})
			if strings.Contains(out.String()+errs.String(), "hunter2") {
				t.Errorf("%s said %s%s", c.name, out, errs)
			}
		}
		for _, c := range commands() {
			for _, flag := range []string{"-h", "--no-such-flag"} {
				p, out, errs := world(map[string]string{"DATABASE_URL": url, "NOTIFYQL_POOL_URL": url})
				p.main(t.Context(), []string{c.name, flag})
				if strings.Contains(out.String()+errs.String(), "hunter2") {
					t.Errorf("%s %s said %s%s", c.name, flag, out, errs)
				}
			}
		}
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	p, out, _ := world(nil)
	if code := p.main(t.Context(), []string{"help"}); code != 0 {
		t.Fatalf("exit %d", code)
	}
	for _, c := range commands() {
		if !strings.Contains(out.String(), "notifyql "+c.name) {
			t.Errorf("help does not name %s", c.name)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"7": 7, "64KB": 64 << 10, "1 mb": 1 << 20, "2GB": 2 << 30} {
		if got, err := parseBytes(in); err != nil || got != want {
			t.Errorf("parseBytes(%q) = %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "KB", "1.5MB", "99999999999GB", "x"} {
		if got, err := parseBytes(in); err == nil {
			t.Errorf("parseBytes(%q) = %d", in, got)
		}
	}
}

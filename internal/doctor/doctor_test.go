package doctor_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/doctor"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	pgmigrate "github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, pgmigrate.Up) }

// patient is a database that is well but for what tests are run with, and the settings by which a server would use it.
type patient struct {
	*pgtest.DB
	t       *testing.T
	options doctor.Options
	login   string // the server's
	admin   string // the URL of who migrates
}

// shop are tables of each kind.
const shop = `
	create table orders (id bigint primary key, tenant_id text not null, secret text);
	create table items (id bigint primary key, order_id bigint references orders (id), what text);
	create table visits (id bigint, tenant_id text not null, at date not null, primary key (id, at)) partition by range (at);
	create table visits_1 partition of visits for values from ('2024-01-01') to ('2025-01-01');
	create table visits_2 partition of visits for values from ('2025-01-01') to ('2026-01-01');
	create table rates (id bigint primary key, rate numeric);
	select notifyql.watch('orders', exclude => '{secret}');
	select notifyql.watch('items', tenant_via => 'order_id', type_name => 'Item');
	select notifyql.watch('visits');
	select notifyql.watch('rates', shared => true);`

func newPatient(t *testing.T, db *pgtest.DB) *patient {
	t.Helper()
	p := &patient{DB: db, t: t, login: db.Role(t, ""), admin: db.URL}
	p.Exec(t, shop)
	p.Exec(t, `do $$ begin execute format('grant %I, pg_read_all_stats to `+p.login+`', notifyql.server_role()); end $$`)
	p.options = doctor.Options{DatabaseURL: p.URLAs(p.login)}
	return p
}

// look is the doctor's report. What it could not look at is a failure.
func (p *patient) look() *doctor.Report {
	p.t.Helper()
	r := doctor.Run(p.t.Context(), p.options)
	for _, f := range r.Findings {
		if strings.HasSuffix(f.ID, "-unknown") {
			p.t.Errorf("%s: %s", f.ID, f.What)
		}
	}
	return r
}

// role is one of the schema's roles.
func (p *patient) role(kind string) (role string) {
	p.t.Helper()
	err := p.Pool(p.t).QueryRow(p.t.Context(), `select left(nspowner::regrole::text, -length('owner')) || $1 from pg_namespace where nspname = 'notifyql'`, kind).Scan(&role)
	if err != nil {
		p.t.Fatal(err)
	}
	return role
}

// paste does what a fix says. It reports whether a person would have something else to do.
func (p *patient) paste(steps []doctor.Step) (pasted int) {
	p.t.Helper()
	for _, s := range steps {
		switch s.How {
		case "sql":
			if s.Text == "select pg_reload_conf()" {
				p.reload()
			} else {
				p.Exec(p.t, s.Text)
			}
		case "setting":
			key, value, _ := strings.Cut(s.Text, "=")
			switch key {
			case "DATABASE_URL":
				p.options.DatabaseURL = value + "?sslmode=disable"
			case "NOTIFYQL_POOL_URL":
				p.options.PoolURL = value
			default:
				p.t.Fatalf("a setting %q", s.Text)
			}
		case "shell":
			switch s.Text {
			case "notifyql migrate up":
				if err := pgmigrate.Up(p.t.Context(), p.admin); err != nil {
					p.t.Fatal(err)
				}
			case "sudo timedatectl set-ntp true":
				p.options.Now = nil
			default:
				words := strings.Fields(s.Text)
				if out, err := p.Server.Program(p.t.Context(), words[0], words[1:]...); err != nil {
					p.t.Fatalf("%s: %v: %s", s.Text, err, out)
				}
			}
		case "restart":
			if err := p.restart(); err != nil {
				p.t.Fatal(err)
			}
		case "do":
			continue
		default:
			p.t.Fatalf("a step of kind %q", s.How)
		}
		pasted++
	}
	return pasted
}

// heal plants a fault, which must be found by its id, and pastes the fix, after which it must be gone. What comes to light then is
// mended likewise, until all is as it was.
func (p *patient) heal(id string, plant func()) {
	p.t.Helper()
	before := p.look()
	if before.Has(id) {
		p.t.Fatalf("found before it was planted: %+v", before.Find(id))
	}
	plant()
	report := p.look()
	if !report.Has(id) {
		p.t.Fatalf("not found: %s", text(report))
	}
	for round := range 4 {
		left := false
		for _, f := range report.Findings {
			if f.Severity == doctor.OK || before.Has(f.ID) || f.ID == "nothing-watched" || round == 0 && f.ID != id {
				continue
			}
			left = true
			if f.What == "" || f.Why == "" {
				p.t.Errorf("%+v", f)
			}
			if p.paste(f.Fix) == 0 {
				p.t.Errorf("nothing to paste: %+v", f)
			}
		}
		if !left {
			return
		}
		if report = p.look(); report.Has(id) {
			p.t.Fatalf("still there: %s", text(report))
		}
	}
	p.t.Errorf("there is no end: %s", text(report))
}

func text(r *doctor.Report) string {
	var b strings.Builder
	_ = r.Write(&b)
	return b.String()
}

// A database that is as it should be is well, to a login with no more rights than the server's.
func TestAHealthyDatabase(t *testing.T) {
	t.Parallel()
	p := newPatient(t, pgtest.New(t))
	r := p.look()
	for _, f := range r.Findings {
		if f.Severity != doctor.OK && f.ID != "fsync" && f.ID != "full_page_writes" && f.ID != "synchronous-commit" { // the tests' servers are fast, not safe
			t.Errorf("%+v", f)
		}
	}
	said := text(r)
	for _, want := range []string{"4 tables watched", "LISTEN works", "the log has", "no server leads", "two-phase", "0 errors"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in\n%s", want, said)
		}
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"severity":"ok"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// So is one that a role without a superuser's rights has migrated, which runs the server too.
func TestAHealthyDatabaseOfNoSuperuser(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	creator := db.Role(t, "createrole")
	db.Exec(t, "grant create on database "+db.Name+" to "+creator+"; grant all on schema public to "+creator)
	if err := pgmigrate.Up(t.Context(), db.URLAs(creator)); err != nil {
		t.Fatal(err)
	}
	// Roles outlive the database, and their creator would not.
	t.Cleanup(func() {
		if err := pgmigrate.Down(context.WithoutCancel(t.Context()), db.URL, nil); err != nil {
			t.Error(err)
		}
	})
	p := &patient{DB: db, t: t, options: doctor.Options{DatabaseURL: db.URLAs(creator)}}
	if _, err := db.Conn(t, creator).Exec(t.Context(), `create table a (id int primary key, tenant_id text); select notifyql.watch('a')`); err != nil {
		t.Fatal(err)
	}
	for _, f := range p.look().Findings {
		if f.Severity != doctor.OK && f.ID != "fsync" && f.ID != "full_page_writes" {
			t.Errorf("%+v", f)
		}
	}
}

// So it is beside a server that leads and writers that write.
func TestAHealthyDatabaseAtWork(t *testing.T) {
	t.Parallel()
	p := newPatient(t, pgtest.New(t))
	before := p.look()
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: p.URLAs(p.login), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	parts.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-srv.Ready()
	for w := range 3 {
		conn := p.Conn(t, "postgres")
		parts.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := conn.Exec(context.WithoutCancel(ctx), `insert into rates values ($1, 1)`, 1_000_000*w+n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for leads := false; !leads; leads = srv.Stats().Leader {
		p.look()
	}
	for range 5 {
		r := p.look()
		for _, f := range r.Findings {
			if f.Severity != doctor.OK && !before.Has(f.ID) {
				t.Errorf("%+v", f)
			}
		}
		if !strings.Contains(text(r), "a server leads, and no stranger") {
			t.Error(text(r))
		}
	}
}

// A report has no password, whatever is wrong.
func TestNoPasswordIsInAReport(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	withPassword := strings.Replace(db.URL, "postgres@", "postgres:hunter2@", 1)
	for name, o := range map[string]doctor.Options{
		"nobody there":    {DatabaseURL: "postgres://bob:hunter2@127.0.0.1:1/x"},
		"no URL":          {DatabaseURL: "postgres://bob:hunter2@a b/x"},
		"no keyword":      {DatabaseURL: "host=127.0.0.1 port=none password=hunter2"},
		"no pool":         {DatabaseURL: withPassword, PoolURL: "postgres://bob:hunter2@127.0.0.1:1/x"},
		"no URL for it":   {DatabaseURL: withPassword, PoolURL: "postgres://bob:hunter2@a b/x"},
		"no database":     {DatabaseURL: withPassword + "&dbname=nowhere"},
		"another's login": {DatabaseURL: strings.Replace(db.URL, "postgres@", "nobody:hunter2@", 1)},
	} {
		r := doctor.Run(context.Background(), o)
		if r.Errors == 0 && r.Warnings == 0 {
			t.Errorf("%s: nothing is wrong: %+v", name, r)
		}
		b, err := json.Marshal(r)
		if err != nil || strings.Contains(text(r)+string(b), "hunter2") {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

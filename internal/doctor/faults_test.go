package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	pgmigrate "github.com/notifyql/notifyql/internal/pg/migrate"
	"github.com/notifyql/notifyql/migrations"
)

// fault is what can go wrong with a database, and the id by which the doctor finds it.
type fault struct {
	id, name string
	plant    func(p *patient)
}

// run is a fault that a statement of the superuser's plants. OWNER, SERVER and so on are the schema's roles, LOGIN the server's login,
// DATABASE the database.
func run(statements ...string) func(p *patient) {
	return func(p *patient) {
		for _, s := range statements {
			for _, kind := range []string{"owner", "watch", "image", "tenant", "server"} {
				if upper := strings.ToUpper(kind); strings.Contains(s, upper) {
					s = strings.ReplaceAll(s, upper, p.role(kind))
				}
			}
			s = strings.NewReplacer("LOGIN", p.login, "DATABASE", p.Name).Replace(s)
			p.Exec(p.t, s)
		}
	}
}

// session keeps what it runs open: until the fix ends it.
func session(statements ...string) func(p *patient) {
	return func(p *patient) { open(p, statements...) }
}

func open(p *patient, statements ...string) *pgx.Conn {
	p.t.Helper()
	conn := p.Conn(p.t, "postgres")
	for _, s := range statements {
		if _, err := conn.Exec(p.t.Context(), s); err != nil {
			p.t.Fatal(err)
		}
	}
	return conn
}

var faults = []fault{
	{"connect", "the login may not log in", run(`alter role LOGIN nologin`)},
	{"connect", "the database is not there", func(p *patient) { // the next one is empty
		p.admin = p.Server.URL(p.Name + "_not_there")
		p.options.DatabaseURL = p.admin
		p.t.Cleanup(func() { p.Exec(p.t, "drop database "+p.Name+"_not_there") })
	}},
	{"pooler", "a transaction pooler stands before the database", func(p *patient) {
		p.options.DatabaseURL = through(p, p.options.DatabaseURL, 3)
	}},
	{"pooler", "a pooler of one session", func(p *patient) { p.options.DatabaseURL = through(p, p.options.DatabaseURL, 1) }},
	{"pool-url", "the pool is another database's", func(p *patient) { p.options.PoolURL = p.Server.URL("postgres") }},
	{"pool-url", "nobody is at the pool's address", func(p *patient) { p.options.PoolURL = "postgres://127.0.0.1:1/x" }},
	{"clock", "the server's clock is slow", func(p *patient) {
		p.options.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	}},

	{"schema-missing", "the database was never migrated", func(p *patient) {
		if err := pgmigrate.Down(p.t.Context(), p.URL, nil); err != nil {
			p.t.Fatal(err)
		}
	}},
	{"schema-behind", "an older version migrated it", func(p *patient) { p.Exec(p.t, older(p)) }},
	{"owner", "it was restored without its roles", func(p *patient) {
		p.Exec(p.t, fmt.Sprintf(`reassign owned by %s, %s, %s to postgres`, p.role("owner"), p.role("image"), p.role("tenant")))
	}},
	{"login", "the login is no member of the server's role", run(`revoke SERVER from LOGIN`)},
	{"privileges", "a right was taken away", run(`revoke select on notifyql.tick from SERVER`, `revoke execute on function notifyql.enter() from SERVER`)},
	{"privileges", "the schema may not be used", run(`revoke usage on schema notifyql from SERVER`)},
	{"exposed", "everybody may read the log", run(`grant select on notifyql.change to public`)},
	{"exposed", "somebody may read the channel's name", run(`grant select on notifyql.secret to WATCH`)},
	{"secret-missing", "the channel's name was not restored", run(`delete from notifyql.secret`)},
	{"role-attributes", "the role of conversions may log in", run(`alter role IMAGE login`)},
	{"role-attributes", "the owner is a superuser", run(`alter role OWNER superuser`)},
	{"role-members", "the login acts as the owner", run(`grant OWNER to LOGIN`)},
	{"function-owner", "conversions run as a superuser", run(`alter function notifyql.convert(anyelement) owner to postgres`)},

	{"connections-role", "the login may have few connections", run(`alter role LOGIN connection limit 5`)},
	{"connections-database", "the database may have few connections", run(`alter database DATABASE connection limit 10`)},
	{"synchronous-commit", "commits of the database are not durable", run(`alter database DATABASE set synchronous_commit = off`)},

	{"trigger-disabled", "of a table", run(`alter table rates disable trigger " notifyql"`)},
	{"trigger-disabled", "but for replicas", run(`alter table orders enable trigger " notifyql"`)},
	{"trigger-disabled", "of a partition", run(`alter table visits_2 disable trigger " notifyql root"`)},
	{"trigger-disabled", "of a partition's TRUNCATE", run(`alter table visits_1 disable trigger " notifyql truncate"`)},
	{"triggers", "one was dropped", run(`drop trigger " notifyql" on items`)},
	{"triggers", "a partition came later", run(`create table visits_3 partition of visits for values from ('2026-01-01') to ('2027-01-01')`)},
	{"tenant-column", "it was renamed", run(`alter table orders rename tenant_id to customer`)},
	{"tenant-column", "it was dropped, and made anew", run(`alter table orders drop tenant_id`, `alter table orders add tenant_id text`)},
	{"tenant-column", "it was dropped", run(`alter table visits drop tenant_id`)},
	{"tenant-type", "it is of another type", run(`alter table orders alter tenant_id type json using to_json(tenant_id)`)},
	{"tenant-way", "the foreign key was dropped", run(`alter table items drop constraint items_order_id_fkey`)},
	{"tenant-right", "the right to find tenants was taken away", run(`revoke all on orders from TENANT`)},
	{"tenant-right", "row level security hides the tenants", run(`alter table orders enable row level security`)},
	{"table-gone", "it was dropped", run(`drop table rates`)},
	{"row-security", "it was switched on", run(`alter table rates enable row level security`)},
	{"row-security-login", "the login does not pass it", run(`alter table rates enable row level security`, `select notifyql.watch('rates', shared => true, ignore_rls => true)`)},
	{"rows-right", "the right to read was taken away", run(`revoke all on rates from SERVER`)},
	{"rows-right", "a column came beside excluded ones", run(`alter table orders add note text`)},
	{"rows-schema", "the schema may not be used", run(`create schema shop; alter table rates set schema shop; select notifyql.watch('shop.rates', shared => true); revoke usage on schema shop from SERVER`)},
	{"inherited", "a table inherits from one that is watched", run(`create table old_rates () inherits (rates)`)},

	{"retention", "the log is kept for seconds", run(`update notifyql.setting set retention = '10 seconds'`)},
	{"log-overdue", "nobody turns the log", run(oldRow, newRow)},
	{"log-held", "a slot is locked", func(p *patient) {
		p.Exec(p.t, oldRow)
		p.Exec(p.t, newRow)
		open(p, `begin`, `lock table notifyql.change in access share mode`)
		p.Exec(p.t, `select notifyql.tick()`)
		p.Exec(p.t, `select * from notifyql.turn()`)
		p.Exec(p.t, `update notifyql.ring set tried = tried - interval '1 hour'`) // or who turns it next waits
	}},
	{"old-transaction", "one is left open", func(p *patient) {
		p.options.Limits.Transaction = time.Nanosecond
		open(p, `begin`, `insert into rates values (1, 1)`)
	}},
	{"leader-lock", "a stranger has it", session(`select pg_advisory_lock(lead) from notifyql.mode`)},
	{"gate-lock", "a stranger has it", session(`select pg_advisory_lock(gate) from notifyql.mode`)},
	{"gate-lock", "a stranger shares it", session(`select pg_advisory_lock_shared(gate) from notifyql.mode`)},
}

// oldRow is a change of three days ago, and newRow one of now, so that the former is not the newest.
const (
	oldRow = `
	insert into notifyql.change (slot, at, watch, op, shared, new)
	select (floor(extract(epoch from now()))::bigint / slot_seconds + 5) % 10, now() - interval '3 days', 0, 'E', true, '{}' from notifyql.setting`
	newRow = `insert into rates values (2, 2)`
)

// older is what makes the schema that of the version before.
func older(p *patient) string {
	down, err := filepath.Glob(fmt.Sprintf("../../migrations/%06d_*.down.sql", pgmigrate.Latest()))
	if err != nil || len(down) != 1 {
		p.t.Fatal(down, err)
	}
	text, err := migrations.FS.ReadFile(filepath.Base(down[0]))
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf(`begin; set local role %s; %s; reset role; update notifyql.migrations set version = version - 1; commit`, p.role("owner"), text)
}

func through(p *patient, databaseURL string, sessions int) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		p.t.Fatal(err)
	}
	u.Host = pgtest.Pooler(p.t, databaseURL, sessions).String()
	return u.String()
}

// Each fault is found by its id, and what the finding says to paste mends it.
func TestFaults(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	for _, f := range faults {
		if tried[f.id] && !pgtest.Thorough() {
			continue
		}
		tried[f.id] = true
		t.Run(f.id+"/"+f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New
			if strings.HasPrefix(f.id, "role-") { // copies of the template share its roles
				db = migrated
			}
			p := newPatient(t, db(t))
			p.heal(f.id, func() { f.plant(p) })
		})
	}
}

// migrated is a database with roles of its own.
func migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	db := pgtest.Bare(t)
	if err := pgmigrate.Up(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // roles outlive the database
		if err := pgmigrate.Down(context.WithoutCancel(t.Context()), db.URL, nil); err != nil {
			t.Error(err)
		}
	})
	return db
}

// reload returns when new sessions have the settings.
func (p *patient) reload() {
	p.t.Helper()
	loaded := func() (at time.Time) {
		conn, err := pgx.Connect(p.t.Context(), p.URL)
		if err == nil {
			err = errors.Join(conn.QueryRow(p.t.Context(), `select pg_conf_load_time()`).Scan(&at), conn.Close(p.t.Context()))
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return at
	}
	before := loaded()
	p.Exec(p.t, `select pg_reload_conf()`)
	for loaded().Equal(before) {
		runtime.Gosched()
	}
}

func (p *patient) restart() error {
	defer p.Pool(p.t).Reset()
	return p.Server.Restart(p.t.Context(), localpg.Fast)
}

// Faults of a whole server.
func TestFaultsOfAServer(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{Settings: map[string]string{
		"max_connections": "25", "max_prepared_transactions": "5", "synchronous_commit": "on", "fsync": "on", "full_page_writes": "on",
	}})
	p := newPatient(t, pgtest.NewOn(t, srv))
	prepared := func(gid string) func() {
		return func() {
			p.options.Limits.Prepared = time.Nanosecond
			conn := open(p, `begin`, `insert into rates values (`+gid+`, 1)`, `prepare transaction '`+gid+`'`)
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.heal("prepared", prepared("11"))
	p.heal("two-phase", prepared("12"))
	p.heal("fsync", func() { p.Exec(t, `alter system set fsync = off`); p.reload() })
	p.heal("synchronous-commit", func() { p.Exec(t, `alter system set synchronous_commit = off`); p.reload() })

	p.options.Limits.Queue = 1e-6 // it is large
	p.heal("queue", func() {
		open(p, `listen stranger`, `begin`, `select pg_notify('stranger', repeat('x', 7900))`, `commit`, `begin`, `select 1`)
		p.Exec(t, `select pg_notify('stranger', concat(i, repeat('x', 7900))) from generate_series(1, 100) i`)
	})
	p.options.Limits.Queue = 0

	p.heal("connections", func() {
		for range 12 {
			open(p)
		}
	})

	p.heal("standby", func() {
		if err := srv.Shutdown(t.Context(), localpg.Fast); err != nil {
			t.Fatal(err)
		}
		signal := filepath.Join(srv.Dir(), "data", "standby.signal")
		if err := os.WriteFile(signal, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(signal, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := srv.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Pool(t).Reset()
	})
}

// What no statement mends, and is found all the same.
func TestFaultsForAPerson(t *testing.T) {
	t.Parallel()
	for id, statement := range map[string]string{
		"schema-ahead":    `update notifyql.setting set min_schema = 99; update notifyql.migrations set version = 99`,
		"nothing-watched": `select notifyql.unwatch(tbl) from notifyql.watched order by id desc`,
		"policy":          `select notifyql.restrict('orders', 'secret'); select notifyql.watch('orders'); alter table orders drop secret`,
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, pgtest.New(t))
			p.Exec(t, statement)
			if f := p.look().Find(id); len(f) == 0 || len(f[0].Fix) == 0 || f[0].Fix[0].How != "do" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// There are at least twenty, each with an id of its own, and the docs name them.
func TestManyKindsOfFaults(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:v\.found\(\w+, |return )"([a-z-]+)",`).FindAllStringSubmatch(string(source), -1) {
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/operations.md lacks %s", m[1])
			}
		}
	}
	ids := map[string]bool{}
	for _, f := range faults {
		ids[f.id] = true
	}
	if len(ids) < 20 {
		t.Errorf("%d", len(ids))
	}
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Options say what is looked at, and from when on it is too much. The zero value of each but DatabaseURL has a sane default.
type Options struct {
	DatabaseURL string
	PoolURL     string // empty: DatabaseURL
	Bus         Bus

	Now    func() time.Time // the server's clock
	Limits Limits
}

// Limits are from when on something is too much.
type Limits struct {
	Queue       float64       // share of the queue of notifications that is in use; default a quarter, where streams become busy
	Transaction time.Duration // that is open; default 10 minutes
	Prepared    time.Duration // likewise, prepared; default 10 minutes
	Clock       time.Duration // that the clocks differ; default 2 s
	Retention   time.Duration // less than which the log is kept; default an hour
	Connections int           // that a server needs; default what it opens at most
}

func (l Limits) withDefaults(connections int) Limits {
	if l.Queue == 0 {
		l.Queue = 0.25
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&l.Transaction, 10 * time.Minute}, {&l.Prepared, 10 * time.Minute}, {&l.Clock, 2 * time.Second}, {&l.Retention, time.Hour}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if l.Connections == 0 {
		l.Connections = connections
	}
	return l
}

// patience bounds what one check asks of the database.
const patience = 10 * time.Second

// visit is one look at a database.
type visit struct {
	o      Options
	config *pgx.ConnConfig
	conn   *pgx.Conn
	report *Report

	version     int
	database    string
	login       string
	super       bool
	role        string // the login's rights come by: notifyql_…_server
	owner       string // of the schema
	unfit       bool   // what follows makes no sense
	behindProxy bool
}

// check is what is looked at together. It returns what to say if nothing was wrong, and an error if it could not look.
type check struct {
	id   string
	look func(v *visit, ctx context.Context) (well string, err error)
}

func checks() []check {
	return []check{
		{"connect", (*visit).connect},
		{"server-version", (*visit).server},
		{"standby", (*visit).standby},
		{"pooler", (*visit).pooler},
		{"pool-url", (*visit).poolURL},
		{"clock", (*visit).clock},
		{"schema", (*visit).schema},
		{"roles", (*visit).roles},
		{"privileges", (*visit).privileges},
		{"secret", (*visit).secret},
		{"connections", (*visit).connections},
		{"durability", (*visit).durability},
		{"tables", (*visit).tables},
		{"policies", (*visit).policies},
		{"queue", (*visit).queue},
		{"log", (*visit).log},
		{"transactions", (*visit).transactions},
		{"two-phase", (*visit).twoPhase},
		{"locks", (*visit).locks},
	}
}

// Run looks at everything. It does not fail: what could not be looked at is in the report. ctx bounds all of it.
func Run(ctx context.Context, o Options) *Report {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults(connections(o))
	v := &visit{o: o, report: &Report{}}
	defer func() {
		if v.conn != nil {
			closeConn(v.conn)
		}
	}()
	for _, c := range checks() {
		v.run(ctx, c)
		if v.unfit || v.conn != nil && v.conn.IsClosed() {
			break
		}
	}
	v.run(ctx, check{"bus", (*visit).bus}) // also where the database is unfit
	return v.report
}

func (v *visit) run(ctx context.Context, c check) {
	before := len(v.report.Findings)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	well, err := c.look(v, ctx)
	switch {
	case err != nil:
		v.report.Add(Finding{ID: c.id + "-unknown", Severity: Warning, What: "this could not be looked at: " + said(err)})
	case len(v.report.Findings) == before && well != "":
		v.report.Add(Finding{ID: c.id, Severity: OK, What: well})
	}
}

func (v *visit) found(s Severity, id, subject, what, why string, fix ...Step) {
	v.report.Add(Finding{ID: id, Severity: s, Subject: subject, What: what, Why: why, Fix: fix})
}

// each calls do for the rows of a query, with its columns as pointers.
func (v *visit) each(ctx context.Context, query string, into []any, do func() error, args ...any) error {
	rows, err := v.conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, do)
	return err
}

// said is an error in one line. Postgres' words hold no password.
func said(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// name is an identifier as SQL has it.
func name(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// literal is a text as SQL has it.
func literal(s string) string {
	if strings.Contains(s, `\`) {
		return " E'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // there is nobody to tell
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/pg"
)

const (
	sessionName = "notifyql doctor"
	// probeTime is how long a notification may take that is to come at once.
	probeTime = 3 * time.Second
)

// open connects, as a session that gets along with whatever stands before the database.
func open(ctx context.Context, databaseURL string) (*pgx.Conn, *pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, nil, err
	}
	config.RuntimeParams["application_name"] = sessionName
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	return conn, config, err
}

func (v *visit) connect(ctx context.Context) (string, error) {
	conn, config, err := open(ctx, v.o.DatabaseURL)
	v.conn, v.config = conn, config
	if err == nil {
		return fmt.Sprintf("database %q at %s:%d lets %q in", config.Database, config.Host, config.Port, config.User), nil
	}
	v.unfit = true
	where := setting("DATABASE_URL=postgres://USER:PASSWORD@HOST:5432/DATABASE")
	fix := []Step{where}
	var said *pgconn.PgError
	if config != nil && errors.As(err, &said) {
		switch said.Code {
		case pgerrcode.InvalidCatalogName:
			fix = []Step{sql("create database %s", name(config.Database)), advice("or correct DATABASE_URL")}
		case pgerrcode.InvalidAuthorizationSpecification:
			fix = []Step{sql("alter role %s login", name(config.User)), advice("or let it in by pg_hba.conf, or correct DATABASE_URL")}
		case pgerrcode.InsufficientPrivilege:
			fix = []Step{sql("grant connect on database %s to %s", name(config.Database), name(config.User))}
		}
	}
	v.found(Error, "connect", "", pg.Explain(err, v.o.DatabaseURL).Error(), "Without the database nothing arrives.", fix...)
	return "", nil
}

func (v *visit) server(ctx context.Context) (string, error) {
	var text string
	err := v.conn.QueryRow(ctx, `
		select current_setting('server_version_num')::int, current_setting('server_version'), current_database()::text, current_user::text,
		       (select rolsuper from pg_catalog.pg_roles where rolname = current_user)`).
		Scan(&v.version, &text, &v.database, &v.login, &v.super)
	if err != nil {
		v.unfit = true
		return "", err
	}
	if v.version < pg.MinServerVersion {
		v.unfit = true
		v.found(Error, "server-version", "", "Postgres "+text+" is too old; 13 is needed", "Transactions are told apart by means that Postgres has since 13.",
			advice("upgrade Postgres with pg_upgrade"))
	}
	return "Postgres " + text, nil
}

func (v *visit) standby(ctx context.Context) (string, error) {
	var standby bool
	if err := v.conn.QueryRow(ctx, `select pg_catalog.pg_is_in_recovery()`).Scan(&standby); err != nil || !standby {
		return "the database is no standby", err
	}
	v.unfit = true
	fix := []Step{sql("select pg_promote()"), advice("or set DATABASE_URL to its primary")}
	var host string
	var port int
	if v.conn.QueryRow(ctx, `select sender_host, sender_port from pg_catalog.pg_stat_wal_receiver`).Scan(&host, &port) == nil && host != "" {
		fix = []Step{setting("DATABASE_URL=%s", v.address(host, port))}
	}
	v.found(Error, "standby", "", "the database is a standby", "A standby knows nothing of the transactions that run on its primary, and nobody can listen there.", fix...)
	return "", nil
}

// address is our URL with another host. It has no password.
func (v *visit) address(host string, port int) string {
	u := url.URL{Scheme: "postgres", Host: host + ":" + strconv.Itoa(port), Path: "/" + v.config.Database, User: url.User(v.config.User)}
	if v.config.Password != "" {
		u.User = url.UserPassword(v.config.User, "PASSWORD")
	}
	return u.String()
}

// pooler tells by what happens whether our session is on one server session, and hears notifications. Another session takes a server
// session and keeps it while we look: a pooler of transactions then has to give us another one.
func (v *visit) pooler(ctx context.Context) (string, error) {
	mark := fmt.Sprintf("notifyql_doctor_%016x", rand.Uint64())
	other, _, err := open(ctx, v.o.DatabaseURL)
	if err != nil {
		return "", err
	}
	defer closeConn(other)
	if why, err := v.probe(ctx, other, mark); err != nil {
		return "", err
	} else if why != "" {
		v.behindProxy = true
		fix := setting("DATABASE_URL=postgres://USER:PASSWORD@HOST:5432/DATABASE")
		var host string
		var port int
		if v.conn.QueryRow(ctx, `select host(pg_catalog.inet_server_addr()), pg_catalog.inet_server_port()`).Scan(&host, &port) == nil {
			fix = setting("DATABASE_URL=%s", v.address(host, port))
		}
		v.found(Error, "pooler", "", "a transaction pooler stands before the database: "+why,
			"A session that listens, and the leader's locks, have to stay on one session of Postgres; all else may go through the pooler, by NOTIFYQL_POOL_URL.", fix)
		return "", nil
	}
	return "LISTEN works: a notification of another session came, and the session stays what it is", nil
}

func (v *visit) probe(ctx context.Context, other *pgx.Conn, mark string) (why string, err error) {
	var before, after int
	if err := v.conn.QueryRow(ctx, `select pg_catalog.pg_backend_pid()`).Scan(&before); err != nil {
		return "", err
	}
	if _, err := v.conn.Exec(ctx, "listen "+name(mark)); err != nil {
		return "LISTEN is refused: " + said(err), nil
	}
	if _, err := v.conn.Exec(ctx, `select pg_catalog.set_config('notifyql.doctor', $1, false)`, mark); err != nil {
		return "", err
	}
	// A pooler of one server session would have us wait for the other's transaction: it ends within probeTime.
	ctx, cancel := context.WithTimeout(ctx, 2*probeTime)
	defer cancel()
	if _, err := other.Exec(ctx, `begin`); err != nil {
		return "", err
	}
	if _, err := other.Exec(ctx, `select pg_catalog.pg_notify($1, '')`, mark); err != nil {
		return "", err
	}
	// Meanwhile we may not ask: with one server session for both that would wait for ever. The pid is looked at after.
	if _, err := other.Exec(ctx, `commit`); err != nil {
		return "", err
	}
	waiting, stop := context.WithTimeout(ctx, probeTime)
	defer stop()
	if n, err := v.conn.WaitForNotification(waiting); err != nil || n.Channel != mark {
		if v.conn.IsClosed() { // a read that was given up closes it
			if v.conn, _, err = open(ctx, v.o.DatabaseURL); err != nil {
				return "", err
			}
		}
		return "a notification of another session does not arrive", nil
	}
	var kept string
	if err := v.conn.QueryRow(ctx, `select pg_catalog.pg_backend_pid(), coalesce(pg_catalog.current_setting('notifyql.doctor', true), '')`).Scan(&after, &kept); err != nil {
		return "", err
	}
	if before != after || kept != mark {
		return fmt.Sprintf("the session was with process %d of Postgres, and then with %d", before, after), nil
	}
	_, err = v.conn.Exec(ctx, "unlisten "+name(mark))
	return "", err
}

// identity tells one database from all others.
const identity = `
	select concat_ws(' ', (select c.system_identifier from pg_catalog.pg_control_system() c), d.oid, pg_catalog.pg_is_in_recovery())
	from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()`

func (v *visit) poolURL(ctx context.Context) (string, error) {
	if v.o.PoolURL == "" || v.o.PoolURL == v.o.DatabaseURL {
		return "", nil
	}
	const why = "Catching up, first rows and publishing go there; from another database they would bring what never happened here."
	fix := setting("NOTIFYQL_POOL_URL=")
	conn, config, err := open(ctx, v.o.PoolURL)
	if err != nil {
		what := "NOTIFYQL_POOL_URL can't be parsed"
		if config != nil {
			what = fmt.Sprintf("database %q at %s:%d does not let us in", config.Database, config.Host, config.Port)
			var e *pgconn.PgError
			if errors.As(err, &e) {
				what += ": " + e.Message
			}
		}
		v.found(Error, "pool-url", "", what, why, fix)
		return "", nil
	}
	defer closeConn(conn)
	var here, there string
	if err := v.conn.QueryRow(ctx, identity).Scan(&here); err != nil {
		return "", err
	}
	if err := conn.QueryRow(ctx, identity).Scan(&there); err != nil {
		return "", err
	}
	if here != there {
		v.found(Error, "pool-url", "", "NOTIFYQL_POOL_URL leads to another database than DATABASE_URL, or to a standby of it", why, fix)
	}
	return "NOTIFYQL_POOL_URL leads to the same database", nil
}

// clock compares the clocks. Half of the round trip may be on either way.
func (v *visit) clock(ctx context.Context) (string, error) {
	var there time.Time
	began, mono := v.o.Now(), time.Now()
	if err := v.conn.QueryRow(ctx, `select pg_catalog.clock_timestamp()`).Scan(&there); err != nil {
		return "", err
	}
	took := time.Since(mono)
	off := there.Sub(began.Add(took / 2))
	if off.Abs()-took/2 <= v.o.Limits.Clock {
		return fmt.Sprintf("this machine's clock and Postgres' are within %v", max(off.Abs(), time.Millisecond).Round(time.Millisecond)), nil
	}
	s := Warning
	if off.Abs() > time.Minute {
		s = Error
	}
	which := "ahead of"
	if off < 0 {
		which = "behind"
	}
	v.found(s, "clock", "", fmt.Sprintf("Postgres' clock is %v %s this machine's", off.Abs().Round(time.Millisecond), which),
		"Tokens expire by this machine's clock, changes are dated and the log is emptied by Postgres'; lags that are measured are off by as much.",
		shell("sudo timedatectl set-ntp true"))
	return "", nil
}

package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// MinServerVersion is the oldest Postgres with xid8 and pg_snapshot.
const MinServerVersion = 130000

// What makes a connection unfit for a listener.
var (
	errStandby = errors.New("the database is a standby, which knows nothing of the transactions that run on its primary: set DATABASE_URL to the primary")
	errPooler  = errors.New("a transaction pooler stands before the database and keeps its notifications from us: " +
		"set DATABASE_URL to the database itself, and NOTIFYQL_POOL_URL to the pooler if all else should go through it")
)

// errVersion is what an error about the server's version wraps.
var errVersion = errors.New("notifyql needs Postgres 13 or newer")

func errServerVersion(v int) error {
	return fmt.Errorf("the server is Postgres %d.%d: %w", v/10000, v%10000, errVersion)
}

// isSchema reports whether err is migrate's word on the schema.
func isSchema(err error) bool {
	return errors.Is(err, migrate.ErrMissing) || errors.Is(err, migrate.ErrBehind) || errors.Is(err, migrate.ErrTooOld) || errors.Is(err, migrate.ErrPrivilege)
}

// explained is an error in one line that says what to do. It keeps what it explains.
type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.cause }

// Explain says in one line what is wrong with the database at a URL and what to do about it. It does not repeat the URL, which
// may hold a password.
func Explain(err error, databaseURL string) error {
	config, parseErr := pgx.ParseConfig(databaseURL)
	if parseErr != nil {
		return badURL("DATABASE_URL", parseErr)
	}
	return explain(err, config)
}

// explain says in one line what is wrong and what to do about it; config is the connection that was meant.
func explain(err error, config *pgx.ConnConfig) error {
	if err == nil {
		return nil
	}
	where := fmt.Sprintf("database %q at %s:%d", config.Database, config.Host, config.Port)
	say := func(format string, args ...any) error {
		return &explained{text: oneLine(fmt.Sprintf(format, args...)), cause: err}
	}
	var server *pgconn.PgError
	switch {
	case errors.As(err, &server):
		if text := explainServer(server, config, where); text != "" {
			return say("%s", text)
		}
		return say("%s: %s (SQLSTATE %s)", where, server.Message, server.Code)
	case errors.Is(err, errStandby), errors.Is(err, errPooler), errors.Is(err, errVersion), errors.Is(err, change.ErrDropped), isSchema(err):
		return err // it says what to do
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return say("%s refuses the connection: is Postgres running there, and is DATABASE_URL right?", where)
	case isUnknownHost(err):
		return say("%s: the host is not known: is DATABASE_URL right?", where)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return say("%s does not answer in time", where)
	}
	return say("%s: %v", where, err)
}

func explainServer(e *pgconn.PgError, config *pgx.ConnConfig, where string) string {
	switch e.Code {
	case "22023", "22P02": // what was asked for, not the database
		return e.Message
	case "28000", "28P01":
		return fmt.Sprintf("%s does not let user %q in: %s: check the user and password of DATABASE_URL, and of NOTIFYQL_POOL_URL if that is set", where, config.User, e.Message)
	case "3D000":
		return fmt.Sprintf("%s: the database does not exist: create it, or correct DATABASE_URL", where)
	case "3F000", "42P01", "42703", "42883": // schema, table, column, function
		if strings.Contains(e.Message, "notifyql") || e.Code == "42703" {
			return fmt.Sprintf("%s: notifyql is not installed there, or in another version (%s): run migrate up", where, e.Message)
		}
	case "42501":
		return fmt.Sprintf("%s: user %q may not do this (%s): make it a member of the role notifyql_…_server, which migrate up has created", where, config.User, e.Message)
	case "53300":
		return fmt.Sprintf("%s has no connection left for us (%s): raise that limit, or end what holds them", where, e.Message)
	case "57P01", "57P02", "57P03":
		return fmt.Sprintf("%s is going down or starting: %s", where, e.Message)
	case "08P01":
		if strings.Contains(e.Message, "startup parameter") {
			return errPooler.Error()
		}
	}
	return ""
}

func isUnknownHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

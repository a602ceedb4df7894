package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What can be wrong with a database's schema. The errors that wrap these say what to do.
var (
	ErrMissing   = errors.New("the schema notifyql is missing")
	ErrBehind    = errors.New("the schema notifyql is older than this program")
	ErrTooOld    = errors.New("this program is too old for the schema notifyql")
	ErrPrivilege = errors.New("missing privilege")
)

// Querier is a connection or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check tells whether this program may run on the database as the login it is connected as: nil, or an error that wraps
// one of the above and says in a line what to do.
func Check(ctx context.Context, db Querier) error {
	var login, server string
	var present, usable bool
	if err := db.QueryRow(ctx, selectAccess).Scan(&login, &server, &present, &usable); err != nil {
		return fmt.Errorf("checking the schema notifyql: %w", err)
	}
	if !present {
		return fmt.Errorf("%w: run `notifyql migrate up` on this database, or serve with --migrate", ErrMissing)
	}
	if !usable {
		return fmt.Errorf("%w: login %q may not run the server: grant %s to %q", ErrPrivilege, login, server, login)
	}
	var have, least uint
	if err := db.QueryRow(ctx, selectVersions).Scan(&have, &least); err != nil {
		return fmt.Errorf("checking the version of the schema notifyql: %w", err)
	}
	switch latest := Latest(); {
	case have < latest:
		return fmt.Errorf("%w: it has version %d, this program needs %d: run `notifyql migrate up`", ErrBehind, have, latest)
	case least > latest:
		return fmt.Errorf("%w: it has version %d and asks for programs that know version %d, this one knows %d: use a newer program",
			ErrTooOld, have, least, latest)
	}
	return nil
}

const (
	selectAccess = `
select current_user,
       coalesce((select left(pg_get_userbyid(nspowner), -length('owner')) || 'server'
                   from pg_namespace where nspname = 'notifyql'), ''),
       exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'notifyql' and c.relname = 'setting'),
       coalesce((select bool_and(has_table_privilege(c.oid, 'select') and has_schema_privilege(n.oid, 'usage'))
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = 'notifyql'
                    and c.relname in ('change', 'secret', 'setting', 'watch', 'policy', 'migrations')), false)`
	selectVersions = `
select (select coalesce(max(version), 0) from notifyql.migrations), (select min_schema from notifyql.setting)`
)

type oneLine struct {
	text string
	err  error
}

func (e *oneLine) Error() string { return e.text }
func (e *oneLine) Unwrap() error { return e.err }

// describe says on one line what failed, and what to do where that is known.
func describe(what string, err error) error {
	if err == nil {
		return nil
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) { // where there is no connection, pgx says why in several lines
		return &oneLine{text: what + ": " + strings.Join(strings.Fields(err.Error()), " "), err: err}
	}
	switch pgErr.Code {
	case pgerrcode.InsufficientPrivilege:
		return fmt.Errorf("%s: %w: %s: use a login that owns the database and has CREATEROLE (once installed: the one that "+
			"installed it), or let an administrator run the output of `notifyql migrate sql`", what, ErrPrivilege, pgErr.Message)
	case pgerrcode.ReadOnlySQLTransaction:
		return fmt.Errorf("%s: the database is a standby, or read-only for this login (%s): use the primary; else see to default_transaction_read_only", what, pgErr.Message)
	case pgerrcode.LockNotAvailable, pgerrcode.DeadlockDetected:
		return fmt.Errorf("%s: a long transaction holds a lock it needs (%s): try again when that has ended", what, pgErr.Message)
	}
	return fmt.Errorf("%s: %w", what, err)
}

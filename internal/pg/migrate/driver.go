package migrate

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	pgxdriver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/notifyql/notifyql/migrations"
)

var (
	//go:embed begin.sql
	beginSQL string
	//go:embed end.sql
	endSQL string
)

// wrap makes a migration one transaction with the version it leads to, acting as the schema's owner. Several statements
// sent as one are a transaction of their own.
func wrap(body string, version int) string {
	var sql strings.Builder
	sql.WriteString(beginSQL)
	sql.WriteString(body)
	sql.WriteString(endSQL)
	sql.WriteString("delete from notifyql.migrations;\n")
	if version > 0 {
		fmt.Fprintf(&sql, "insert into notifyql.migrations (version, dirty) values (%d, false);\n", version)
	}
	return sql.String()
}

// driver is golang-migrate's, but that a migration's version is set in the transaction of the migration, and that
// it stops with its context.
type driver struct {
	database.Driver
	ctx  context.Context //nolint:containedctx // the interface has none
	conn *pgx.Conn
	next int // the version that Run leads to
}

// SetVersion is called before Run and after it. What it asks for is done in Run.
func (d *driver) SetVersion(version int, _ bool) error {
	d.next = version
	return nil
}

// lockTries and lockPause say how long a migration is tried again that could not have its locks: writers go on between.
const (
	lockTries = 60
	lockPause = time.Second
)

func (d *driver) Run(migration io.Reader) error {
	body, err := io.ReadAll(migration)
	if err != nil {
		return err
	}
	sql := wrap(string(body), d.next)
	for try := 1; ; try++ {
		_, err = d.conn.PgConn().Exec(d.ctx, sql).ReadAll()
		if code := sqlState(err); try == lockTries || code != pgerrcode.LockNotAvailable && code != pgerrcode.DeadlockDetected {
			return err
		}
		select {
		case <-time.After(lockPause):
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// steps runs migrations one at a time until the version is to. (golang-migrate reads ahead in goroutines; one step at
// a time leaves none of them behind when a migration fails.)
func (s *session) steps(ctx context.Context, to uint) (err error) {
	source, err := iofs.New(migrations.FS, ".")
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(s.url)
	if err != nil {
		return err
	}
	inner, err := pgxdriver.WithInstance(stdlib.OpenDB(*config), &pgxdriver.Config{
		MigrationsTable:       `"notifyql"."migrations"`,
		MigrationsTableQuoted: true,
	})
	if err != nil {
		return err
	}
	m, err := migrate.NewWithInstance("iofs", source, "pgx5", &driver{Driver: inner, ctx: ctx, conn: s.conn})
	if err != nil {
		return errors.Join(err, inner.Close())
	}
	defer func() {
		sourceErr, databaseErr := m.Close()
		err = errors.Join(err, sourceErr, databaseErr)
	}()
	for {
		at, err := s.version(ctx)
		if err != nil || at == to {
			return err
		}
		step := 1
		if at > to {
			step = -1
		}
		if err := m.Steps(step); err != nil {
			return fmt.Errorf("at version %d: %w", at, err)
		}
	}
}

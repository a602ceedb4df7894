package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/migrations"
)

// Up brings the database to this program's version. It returns nil if it is there already, or beyond it and this program may run on
// it, so that going back to a program is no matter of the schema; and an error that wraps ErrTooOld if it may not. Canceled, it leaves the database at the last version it reached.
func Up(ctx context.Context, databaseURL string) error {
	err := run(ctx, databaseURL, nil, func(s *session) error {
		if _, err := s.conn.Exec(ctx, ensureSchema); err != nil {
			return err
		}
		if err := s.newer(ctx); err != nil {
			if errors.Is(err, ErrTooOld) && Check(ctx, s.conn) == nil {
				return nil
			}
			return err
		}
		return s.steps(ctx, Latest())
	})
	return describe("migrate up", err)
}

// Down takes every trace of the schema away: triggers on users' tables, all that was logged, the roles. A role that
// another database still depends on stays; notice, if not nil, is told.
func Down(ctx context.Context, databaseURL string, notice func(string)) error {
	err := run(ctx, databaseURL, notice, func(s *session) error {
		if installed, err := s.installed(ctx); err != nil || !installed {
			return err
		}
		if err := s.newer(ctx); err != nil {
			return err
		}
		if err := s.steps(ctx, 0); err != nil {
			return err
		}
		_, err := s.conn.Exec(ctx, dropSchema)
		return err
	})
	return describe("migrate down", err)
}

// Version returns the database's version; 0 if the schema is not there.
func Version(ctx context.Context, databaseURL string) (version uint, err error) {
	err = run(ctx, databaseURL, nil, func(s *session) error {
		installed, err := s.installed(ctx)
		if err != nil || !installed {
			return err
		}
		version, err = s.version(ctx)
		return err
	})
	return version, describe("migrate version", err)
}

// Latest is the version that this program brings a database to.
func Latest() uint {
	entries, err := migrations.FS.ReadDir(".")
	if err != nil {
		return 0
	}
	var last uint
	for _, e := range entries {
		var n uint
		if _, err := fmt.Sscanf(e.Name(), "%06d_", &n); err == nil {
			last = max(last, n)
		}
	}
	return last
}

const (
	ensureSchema = `
do $$
begin
  if not exists (select from pg_namespace where nspname = 'notifyql') then
    create schema notifyql;
  end if;
end
$$`
	dropSchema = `
drop table notifyql.migrations;
drop schema notifyql`
	isInstalled = `
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'notifyql' and c.relname = 'migrations')`
	selectVersion = `select coalesce(max(version), 0) from notifyql.migrations`
	takeLock      = `select pg_advisory_lock(hashtextextended('notifyql migrate', 0))`
)

// session is one call's hold of a database.
type session struct {
	url  string
	conn *pgx.Conn // holds the advisory lock
}

// run calls do with a session that excludes all others in the database.
func run(ctx context.Context, databaseURL string, notice func(string), do func(*session) error) error {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	config.RuntimeParams["application_name"] = "notifyql migrate"
	if notice != nil {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			if n.SeverityUnlocalized == "WARNING" { // not how many objects a drop takes along
				notice(n.Message)
			}
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, takeLock); err != nil {
		return err
	}
	return do(&session{url: databaseURL, conn: conn})
}

func (s *session) installed(ctx context.Context) (yes bool, err error) {
	err = s.conn.QueryRow(ctx, isInstalled).Scan(&yes)
	return yes, err
}

// newer refuses a schema that this program does not know.
func (s *session) newer(ctx context.Context) error {
	if installed, err := s.installed(ctx); err != nil || !installed {
		return err
	}
	if v, err := s.version(ctx); err != nil || v <= Latest() {
		return err
	} else {
		return fmt.Errorf("%w: the schema has version %d, this program knows %d: use the newer program", ErrTooOld, v, Latest())
	}
}

func (s *session) version(ctx context.Context) (v uint, err error) {
	err = s.conn.QueryRow(ctx, selectVersion).Scan(&v)
	return v, err
}

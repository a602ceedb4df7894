package pg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// connectFit opens a session that is to live long, on a database that is fit for it, and looks up the secret channel.
func connectFit(ctx context.Context, config *pgx.ConnConfig) (conn *pgx.Conn, channel string, err error) {
	conn, err = connectLong(ctx, config)
	if err != nil {
		return nil, "", err
	}
	if channel, err = fit(ctx, conn, config); err != nil {
		closeConn(conn)
		return nil, "", err
	}
	return conn, channel, nil
}

// fit refuses what would lose changes in silence: a standby, a transaction pooler, a schema of another version. It returns
// the channel.
func fit(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig) (channel string, err error) {
	var pid uint32
	var version int
	var standby bool
	err = conn.QueryRow(ctx, `select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')::int, pg_catalog.pg_is_in_recovery()`).
		Scan(&pid, &version, &standby)
	switch {
	case err != nil:
		return "", err
	case version < MinServerVersion:
		return "", errServerVersion(version)
	case standby:
		return "", errStandby
	}
	if pid != conn.PgConn().PID() {
		// Somebody between us and the server made up the process id. That is fine if our session stays on one server.
		if err := probe(ctx, conn, config); err != nil {
			return "", err
		}
	}
	if err := migrate.Check(ctx, conn); err != nil {
		return "", err
	}
	if err := conn.QueryRow(ctx, `select channel from notifyql.secret`).Scan(&channel); err != nil {
		return "", fmt.Errorf("reading the notification channel: %w", err)
	}
	return channel, nil
}

// probe checks that a notification sent by another session reaches conn while it is idle.
func probe(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	name := fmt.Sprintf("notifyql_probe_%016x", rand.Uint64())
	channel := pgx.Identifier{name}.Sanitize()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	other, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(other)
	if _, err := other.Exec(ctx, "select pg_catalog.pg_notify($1, '')", name); err != nil {
		return err
	}
	if _, err := conn.WaitForNotification(ctx); err != nil {
		return errPooler
	}
	_, err = conn.Exec(ctx, "unlisten "+channel)
	return err
}

package pg

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The names by which an administrator finds our sessions in pg_stat_activity.
const (
	listenerName = "notifyql listener"
	leaderName   = "notifyql leader"
	poolName     = "notifyql"
)

// connectTimeout bounds an attempt to connect whose URL says nothing else.
const connectTimeout = 5 * time.Second

// dialer notices a dead host within about 15 seconds even where nothing is sent, and sooner where something is.
var dialer = net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3},
	Control:         limitUnacknowledged,
}

// unacknowledged is how long what we have sent may remain unacknowledged before the connection is given up.
const unacknowledged = 3 * time.Second

// directConfig is for a session that holds something: it leads to the database itself.
func directConfig(cfg Config, name string) (*pgx.ConnConfig, error) {
	var c *pgx.ConnConfig
	if cfg.DatabaseURL == "" && cfg.Pool != nil {
		c = cfg.Pool.Config().ConnConfig
		dial := c.DialFunc // it may lead where no other does
		prepareConn(c, name)
		c.DialFunc = dial
	} else {
		var err error
		if c, err = pgx.ParseConfig(cfg.DatabaseURL); err != nil {
			return nil, badURL("DATABASE_URL", err)
		}
		prepareConn(c, name)
	}
	// The few queries of such a session are cheap, and must not fail in a strange way on what turns out to be a pooler.
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return c, nil
}

// poolConfig makes the pool's configuration. What is given as a URL of its own may be a transaction pooler: there,
// prepared statements are not kept in the session, only their descriptions here.
func poolConfig(cfg Config) (*pgxpool.Config, error) {
	name, u := "NOTIFYQL_POOL_URL", cfg.PoolURL
	if u == "" {
		name, u = "DATABASE_URL", cfg.DatabaseURL
	}
	c, err := pgxpool.ParseConfig(u)
	if err != nil {
		return nil, badURL(name, err)
	}
	prepareConn(c.ConnConfig, poolName)
	if u != cfg.DatabaseURL && !strings.Contains(u, "default_query_exec_mode") {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	c.MaxConns = cfg.PoolSize
	c.MinConns, c.MinIdleConns = 0, 0
	c.PingTimeout = pingPatience // of a connection that was idle, before it is used
	return c, nil
}

func prepareConn(c *pgx.ConnConfig, name string) {
	c.RuntimeParams["application_name"] = name
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	c.DialFunc = dialer.DialContext
}

// badURL explains an unusable URL without repeating it: it may hold a password.
func badURL(name string, err error) error {
	why := err.Error()
	// pgx and net/url quote the whole URL in their errors.
	if i := strings.LastIndex(why, "`: "); i >= 0 {
		why = why[i+len("`: "):]
	}
	if _, parseErr := url.Parse(why); strings.Contains(why, "://") || parseErr != nil {
		why = "it can't be parsed"
	}
	return fmt.Errorf("%s is not a usable Postgres URL (%s): want something like postgres://user@host:5432/database", name, why)
}

// sessionSettings are applied to a long-lived session, those of them that the server's version has. A dead host frees the
// session's place within seconds, no time limit of the role or the database ends it, and it may write, in transactions that can't
// fail because of what others read.
const sessionSettings = `
	select count(pg_catalog.set_config(s.name, v.value, false))
	from (values ('lock_timeout', '0'), ('statement_timeout', '0'), ('idle_session_timeout', '0'), ('transaction_timeout', '0'),
	             ('idle_in_transaction_session_timeout', '0'),
	             ('default_transaction_isolation', 'read committed'), ('default_transaction_read_only', 'off'), ('tcp_user_timeout', '15000'),
	             ('tcp_keepalives_idle', '5'), ('tcp_keepalives_interval', '3'), ('tcp_keepalives_count', '3')) v (name, value)
	join pg_catalog.pg_settings s using (name)`

// connectLong opens a session that is to live long, on a connection of its own.
func connectLong(ctx context.Context, c *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, sessionSettings); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("setting up the session: %w", err)
	}
	return conn, nil
}

// closeConn closes a connection when there is no context left to wait in.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the connection is given up; there is nobody to tell
}

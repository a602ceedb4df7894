package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/notifyql/notifyql"
)

// settings are what the server is run with.
type settings struct {
	databaseURL, poolURL, addr, auth, bus, mode, origins, logLevel, logFormat string
	migrate, graphiql, federation, compression                                bool
	drain                                                                     time.Duration
	limits                                                                    notifyql.Limits
}

// setting is one flag and its environment variable.
type setting struct {
	name, env, fallback, help string
	value                     flag.Value
}

func (s *settings) list() []setting {
	text := func(p *string) flag.Value { return &value[string]{p, func(s string) (string, error) { return s, nil }} }
	yes := func(p *bool) flag.Value { return &boolean{value[bool]{p, strconv.ParseBool}} }
	count := func(p *int) flag.Value { return &value[int]{p, positive(strconv.Atoi)} }
	size := func(p *int64) flag.Value { return &value[int64]{p, positive(parseBytes)} }
	span := func(p *time.Duration) flag.Value { return &value[time.Duration]{p, positive(time.ParseDuration)} }
	l := &s.limits
	return []setting{
		{"database-url", "DATABASE_URL", "", "where Postgres is: the primary, directly, without a transaction pooler", text(&s.databaseURL)},
		{"pool-url", "NOTIFYQL_POOL_URL", "", "the same database for all but listening; may go through a pooler (default: the database URL)", text(&s.poolURL)},
		{"addr", "NOTIFYQL_ADDR", ":8000", "address to serve on", text(&s.addr)},
		{"auth", "NOTIFYQL_AUTH", "", "who clients are: trust believes the tenantId and userId of connection_init; without it all are refused", text(&s.auth)},
		{"bus", "NOTIFYQL_BUS", "postgres", "what carries changes: postgres, or memory (no database, published events only)", text(&s.bus)},
		{"mode", "NOTIFYQL_MODE", "auto", "how changes come from Postgres: quiet, in notifications; busy, by reading the log every few milliseconds, so that writers don't wait for each other; auto, as is better at the time", text(&s.mode)},
		{"migrate", "NOTIFYQL_MIGRATE", "false", "migrate the database first", yes(&s.migrate)},
		{"graphiql", "NOTIFYQL_GRAPHIQL", "true", "show GraphiQL to a browser that opens /graphql", yes(&s.graphiql)},
		{"federation", "NOTIFYQL_FEDERATION", "false", "be a subgraph that a gateway can compose with others (Apollo Federation 2)", yes(&s.federation)},
		{"compression", "NOTIFYQL_COMPRESSION", "false", "offer compression (permessage-deflate) to WebSockets: less to send, more CPU", yes(&s.compression)},
		{"origins", "NOTIFYQL_ORIGINS", "", "hosts, beside the server's own, whose pages may connect; separated by commas, such as app.example.com,*.example.org", text(&s.origins)},
		{"drain-timeout", "NOTIFYQL_DRAIN_TIMEOUT", "10s", "how long to wait for sockets to close when going down", span(&s.drain)},
		{"max-connections", "NOTIFYQL_MAX_CONNECTIONS", "10000", "sockets at once", count(&l.Connections)},
		{"max-subscriptions", "NOTIFYQL_MAX_SUBSCRIPTIONS", "100", "subscriptions of one socket at once", count(&l.Subscriptions)},
		{"max-message-bytes", "NOTIFYQL_MAX_MESSAGE_BYTES", "1MB", "size of a client's message", size(&l.MessageBytes)},
		{"messages-per-second", "NOTIFYQL_MESSAGES_PER_SECOND", "100", "messages taken from one socket", count(&l.MessagesPerSec)},
		{"init-timeout", "NOTIFYQL_INIT_TIMEOUT", "10s", "time until connection_init", span(&l.InitTimeout)},
		{"ping-interval", "NOTIFYQL_PING_INTERVAL", "20s", "time between keep-alive pings", span(&l.PingInterval)},
		{"pong-timeout", "NOTIFYQL_PONG_TIMEOUT", "15s", "time for the answer to a ping", span(&l.PongTimeout)},
		{"idle-timeout", "NOTIFYQL_IDLE_TIMEOUT", "", "how long a socket may be without a subscription (default: for ever)", span(&l.IdleTimeout)},
		{"tail-bytes", "NOTIFYQL_TAIL_BYTES", "64MB", "transactions kept in memory for subscribers", size(&l.TailBytes)},
		{"max-initial-rows", "NOTIFYQL_MAX_INITIAL_ROWS", "1000000", "rows that a subscription may begin with", count(&l.InitialRows)},
		{"log-level", "NOTIFYQL_LOG_LEVEL", "info", "debug, info, warn or error", text(&s.logLevel)},
		{"log-format", "NOTIFYQL_LOG_FORMAT", "text", "text or json", text(&s.logFormat)},
	}
}

// register makes flags of the named settings (none: of all), whose defaults are the environment's.
func (p *program) register(fs *flag.FlagSet, s *settings, names ...string) error {
	for _, st := range s.list() {
		if len(names) > 0 && !contains(names, st.name) {
			continue
		}
		def, from := st.fallback, "the default"
		if v := p.getenv(st.env); v != "" {
			def, from = v, st.env
		}
		if def != "" {
			if err := st.value.Set(def); err != nil {
				return fmt.Errorf("%s is %q: %w", from, def, err)
			}
		}
		fs.Var(st.value, st.name, st.help+" ["+st.env+"]")
		fs.Lookup(st.name).DefValue = st.fallback // for the help; what the environment says may be secret
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (p *program) config(_ context.Context, args []string) error {
	if _, err := p.parse(p.flags("config", ""), args, 0); err != nil {
		return err
	}
	writeTable(p.stdout)
	return nil
}

// writeTable writes the table of docs/configuration.md.
func writeTable(w io.Writer) {
	fmt.Fprint(w, "| flag | environment | default | what |\n|---|---|---|---|\n")
	for _, st := range (&settings{}).list() {
		def := st.fallback
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(w, "| `--%s` | `%s` | %s | %s |\n", st.name, st.env, def, st.help)
	}
}

// serverConfig checks the settings and makes a Config of them.
func (p *program) serverConfig(s *settings) (notifyql.Config, error) {
	log, err := p.logger(s)
	if err != nil {
		return notifyql.Config{}, err
	}
	c := notifyql.Config{DatabaseURL: s.databaseURL, PoolURL: s.poolURL, Mode: notifyql.Mode(s.mode), Limits: s.limits, DrainTimeout: s.drain, Logger: log}
	c.GraphiQL.Disabled, c.Federation, c.Compression = !s.graphiql, s.federation, s.compression
	for o := range strings.SplitSeq(s.origins, ",") {
		if o = strings.TrimSpace(o); o != "" {
			c.Origins = append(c.Origins, o)
		}
	}
	switch s.auth {
	case "trust":
		log.Warn("auth is trust: whoever reaches this server may name any tenant and read its rows; for trying out, or behind a backend that checks")
		c.Auth = notifyql.Trust()
	case "":
		log.Warn("no auth: every client is refused; set NOTIFYQL_AUTH")
	default:
		return c, fmt.Errorf("NOTIFYQL_AUTH is %q; it can be trust", s.auth)
	}
	switch s.bus {
	case "postgres":
		if s.databaseURL == "" {
			return c, errNoDatabase
		}
	case "memory":
		c.Bus = notifyql.MemoryBus()
	default:
		return c, fmt.Errorf("NOTIFYQL_BUS is %q; it can be postgres or memory", s.bus)
	}
	return c, nil
}

var errNoDatabase = errors.New("no database is named; set DATABASE_URL, such as postgres://user:password@localhost:5432/app")

func (p *program) logger(s *settings) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, fmt.Errorf("NOTIFYQL_LOG_LEVEL is %q; it can be debug, info, warn or error", s.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch s.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(p.stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(p.stderr, o)), nil
	}
	return nil, fmt.Errorf("NOTIFYQL_LOG_FORMAT is %q; it can be text or json", s.logFormat)
}

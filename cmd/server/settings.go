package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus"
)

// settings are what the server is run with.
type settings struct {
	databaseURL, poolURL, addr, bus, busStream, mode, logLevel, logFormat string
	tlsCert, tlsKey                                                       string // files
	traces                                                                string
	adminAddr, adminToken                                                 string
	origins, features                                                     []string
	trusted                                                               []netip.Prefix
	auth                                                                  authSettings
	migrate, graphiql, federation, compression, readOnly                  bool
	drain                                                                 time.Duration
	busBytes                                                              int64
	stream                                                                bus.Stream // nil: the bus has none
	limits                                                                notifyql.Limits
}

// setting is one flag and its environment variable.
type setting struct {
	name, env, fallback, help string
	value                     flag.Value
}

func (s *settings) list() []setting {
	text := func(p *string) flag.Value { return &value[string]{p, func(s string) (string, error) { return s, nil }} }
	list := func(p *[]string) flag.Value { return &value[[]string]{p, words} }
	yes := func(p *bool) flag.Value { return &boolean{value[bool]{p, parseBool}} }
	count := func(p *int) flag.Value { return &value[int]{p, positive(strconv.Atoi)} }
	size := func(p *int64) flag.Value { return &value[int64]{p, positive(parseBytes)} }
	span := func(p *time.Duration) flag.Value { return &value[time.Duration]{p, positive(time.ParseDuration)} }
	networks := func(p *[]netip.Prefix) flag.Value { return &value[[]netip.Prefix]{p, parseNetworks} }
	l, a := &s.limits, &s.auth
	return []setting{
		{"database-url", "DATABASE_URL", "", "where Postgres is: the primary, directly, without a transaction pooler", text(&s.databaseURL)},
		{"pool-url", "NOTIFYQL_POOL_URL", "", "the same database for all but listening; may go through a pooler (default: the database URL)", text(&s.poolURL)},
		{"addr", "NOTIFYQL_ADDR", ":8000", "address to serve on", text(&s.addr)},
		{"tls-cert", "NOTIFYQL_TLS_CERT", "", "a file of the server's certificate and those between it and a root, in PEM; with tls-key: serve HTTPS. Both may be replaced while the server runs", text(&s.tlsCert)},
		{"tls-key", "NOTIFYQL_TLS_KEY", "", "a file of the certificate's key", text(&s.tlsKey)},
		{"admin-addr", "NOTIFYQL_ADMIN_ADDR", "", "another address, for operators: who is connected, and ending it; /metrics and /errors are then there and not on addr. Such as 127.0.0.1:9000; one that other machines reach needs admin-token", text(&s.adminAddr)},
		{"admin-token", "NOTIFYQL_ADMIN_TOKEN", "", "what operators have to send as Authorization: Bearer …, of at least 16 bytes", text(&s.adminToken)},
		{"trusted-proxies", "NOTIFYQL_TRUSTED_PROXIES", "", "proxies in front of the server, such as 10.0.0.0/8,192.0.2.7, whose X-Forwarded-For, -Host and -Proto are believed; those of others are not", networks(&s.trusted)},
		{"auth", "NOTIFYQL_AUTH", "", "who clients are: jwt, by a signed token; hook, as an HTTP service of yours says; trust, as they themselves say in connection_init (tenantId, userId); without it all are refused", text(&a.kind)},
		{"auth-recheck", "NOTIFYQL_AUTH_RECHECK", "", "how often it is asked again who a connected client is, so that a right that was withdrawn ends (default: never)", span(&a.recheck)},
		{"jwt-secret", "NOTIFYQL_JWT_SECRET", "", "the secret that tokens are signed with, of at least 32 bytes; or one of the next two", text(&a.secret)},
		{"jwt-public-keys", "NOTIFYQL_JWT_PUBLIC_KEYS", "", "a file of the public keys, or certificates, that tokens are signed with, in PEM", text(&a.publicKeys)},
		{"jwt-jwks-url", "NOTIFYQL_JWT_JWKS_URL", "", "where the issuer publishes its keys (JWKS)", text(&a.jwt.JWKS)},
		{"jwt-algorithms", "NOTIFYQL_JWT_ALGORITHMS", "", "algorithms that are allowed, such as RS256,ES256 (default: those that the keys are for)", list(&a.algorithms)},
		{"jwt-issuer", "NOTIFYQL_JWT_ISSUER", "", "what a token's iss must be (default: anything)", text(&a.jwt.Issuer)},
		{"jwt-audience", "NOTIFYQL_JWT_AUDIENCE", "", "of which a token's aud must have one, separated by commas (default: anything)", list(&a.audience)},
		{"jwt-leeway", "NOTIFYQL_JWT_LEEWAY", "", "how far the issuer's clock may be off (default: not at all)", span(&a.jwt.Leeway)},
		{"jwt-require", "NOTIFYQL_JWT_REQUIRE", "exp", "claims that a token must have, separated by commas", list(&a.require)},
		{"jwt-tenant-claim", "NOTIFYQL_JWT_TENANT_CLAIM", "tenant_id", "the claim that has the tenant, or a list of them: its name, or a way such as org.id", text(&a.jwt.TenantClaim)},
		{"jwt-user-claim", "NOTIFYQL_JWT_USER_CLAIM", "sub", "the claim that has the user", text(&a.jwt.UserClaim)},
		{"jwt-roles-claim", "NOTIFYQL_JWT_ROLES_CLAIM", "roles", "the claim that has the roles, such as realm_access.roles", text(&a.jwt.RolesClaim)},
		{"jwt-cookie", "NOTIFYQL_JWT_COOKIE", "", "the name of a cookie that a token may come in (default: none)", text(&a.jwt.Cookie)},
		{"hook-url", "NOTIFYQL_HOOK_URL", "", "what auth=hook asks, by POST", text(&a.hook.URL)},
		{"hook-headers", "NOTIFYQL_HOOK_HEADERS", "Authorization,Cookie", "headers of the client's that are sent to the hook, separated by commas", list(&a.hook.Headers)},
		{"hook-timeout", "NOTIFYQL_HOOK_TIMEOUT", "3s", "how long a hook may take to answer", span(&a.hook.Timeout)},
		{"connect-hook-url", "NOTIFYQL_CONNECT_HOOK_URL", "", "what is asked, by POST, whether a client that is known may connect (default: nothing)", text(&a.hooks.OnConnect)},
		{"subscribe-hook-url", "NOTIFYQL_SUBSCRIBE_HOOK_URL", "", "what is asked whether it may subscribe, and to which rows", text(&a.hooks.OnSubscribe)},
		{"disconnect-hook-url", "NOTIFYQL_DISCONNECT_HOOK_URL", "", "what is told that it has gone", text(&a.hooks.OnDisconnect)},
		{"bus", "NOTIFYQL_BUS", "postgres", "what carries changes: postgres; redis://host:6379 or rediss://…, nats://host:4222 or tls://…, so that only one server reads the database; memory (no database, published events only)", text(&s.bus)},
		{"bus-stream", "NOTIFYQL_BUS_STREAM", "notifyql", "what the stream is called in Redis or NATS; one for each database", text(&s.busStream)},
		{"bus-bytes", "NOTIFYQL_BUS_BYTES", "64MB", "what Redis or NATS keeps of it for servers that are behind, at most", size(&s.busBytes)},
		{"mode", "NOTIFYQL_MODE", "auto", "how changes come from Postgres: quiet, in notifications; busy, by reading the log every few milliseconds, so that writers don't wait for each other; auto, as is better at the time", text(&s.mode)},
		{"migrate", "NOTIFYQL_MIGRATE", "false", "migrate the database first", yes(&s.migrate)},
		{"read-only", "NOTIFYQL_READ_ONLY", "false", "publish nothing, and refuse to migrate, watch and unwatch; subscriptions go on. Operators can switch it while the server runs", yes(&s.readOnly)},
		{"graphiql", "NOTIFYQL_GRAPHIQL", "true", "show GraphiQL to a browser that opens /graphql", yes(&s.graphiql)},
		{"federation", "NOTIFYQL_FEDERATION", "false", "be a subgraph that a gateway can compose with others (Apollo Federation 2)", yes(&s.federation)},
		{"compression", "NOTIFYQL_COMPRESSION", "false", "offer compression (permessage-deflate) to WebSockets: less to send, more CPU", yes(&s.compression)},
		{"features", "NOTIFYQL_FEATURES", "", "what else to switch on, or with a - before it off, separated by commas, such as -sse,-introspection; notifyql config lists them. It wins over the settings before", list(&s.features)},
		{"origins", "NOTIFYQL_ORIGINS", "", "hosts, beside the server's own, whose pages may connect; separated by commas, such as app.example.com,*.example.org", list(&s.origins)},
		{"drain-timeout", "NOTIFYQL_DRAIN_TIMEOUT", "10s", "how long to wait for sockets to close when going down", span(&s.drain)},
		{"max-connections", "NOTIFYQL_MAX_CONNECTIONS", "10000", "sockets and event streams at once", count(&l.Connections)},
		{"max-connections-per-user", "NOTIFYQL_MAX_CONNECTIONS_PER_USER", "100", "of them, those of one user", count(&l.ConnectionsPerUser)},
		{"max-connections-per-tenant", "NOTIFYQL_MAX_CONNECTIONS_PER_TENANT", "10000", "of them, those of one tenant", count(&l.ConnectionsPerTenant)},
		{"max-subscriptions", "NOTIFYQL_MAX_SUBSCRIPTIONS", "100", "subscriptions of one connection at once", count(&l.Subscriptions)},
		{"max-subscriptions-per-user", "NOTIFYQL_MAX_SUBSCRIPTIONS_PER_USER", "1000", "subscriptions of one user at once", count(&l.SubscriptionsPerUser)},
		{"max-subscriptions-per-tenant", "NOTIFYQL_MAX_SUBSCRIPTIONS_PER_TENANT", "100000", "subscriptions of one tenant at once", count(&l.SubscriptionsPerTenant)},
		{"connects-per-address", "NOTIFYQL_CONNECTS_PER_ADDRESS", "1000", "connections that one address may open a second, after ten times as many; behind a proxy, see trusted-proxies", count(&l.ConnectsPerAddress)},
		{"connects-per-user", "NOTIFYQL_CONNECTS_PER_USER", "10", "connections that one user may open a second, after ten times as many", count(&l.ConnectsPerUser)},
		{"subscribes-per-user", "NOTIFYQL_SUBSCRIBES_PER_USER", "100", "subscriptions that one user may begin a second, after ten times as many", count(&l.SubscribesPerUser)},
		{"subscribes-per-tenant", "NOTIFYQL_SUBSCRIBES_PER_TENANT", "10000", "subscriptions that one tenant may begin a second, after ten times as many", count(&l.SubscribesPerTenant)},
		{"max-message-bytes", "NOTIFYQL_MAX_MESSAGE_BYTES", "1MB", "size of a client's message", size(&l.MessageBytes)},
		{"messages-per-second", "NOTIFYQL_MESSAGES_PER_SECOND", "100", "messages taken from one socket", count(&l.MessagesPerSec)},
		{"init-timeout", "NOTIFYQL_INIT_TIMEOUT", "10s", "time until connection_init", span(&l.InitTimeout)},
		{"ping-interval", "NOTIFYQL_PING_INTERVAL", "20s", "time between keep-alive pings", span(&l.PingInterval)},
		{"pong-timeout", "NOTIFYQL_PONG_TIMEOUT", "15s", "time for the answer to a ping", span(&l.PongTimeout)},
		{"idle-timeout", "NOTIFYQL_IDLE_TIMEOUT", "", "how long a socket may be without a subscription (default: for ever)", span(&l.IdleTimeout)},
		{"tail-bytes", "NOTIFYQL_TAIL_BYTES", "64MB", "transactions kept in memory for subscribers", size(&l.TailBytes)},
		{"max-initial-rows", "NOTIFYQL_MAX_INITIAL_ROWS", "1000000", "rows that a subscription may begin with", count(&l.InitialRows)},
		{"traces", "NOTIFYQL_TRACES", "", "where traces go: an OTLP collector's address over HTTP, such as http://localhost:4318; OTEL_EXPORTER_OTLP_ENDPOINT and the other variables of OpenTelemetry count too (default: nowhere)", text(&s.traces)},
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
	fmt.Fprint(p.stdout, "\n`NOTIFYQL_FEATURES` switches these:\n\n| feature | default | what |\n|---|---|---|\n")
	for _, f := range notifyql.Features() {
		fmt.Fprintf(p.stdout, "| `%s` | %s | %s |\n", f.Name, map[bool]string{true: "on", false: "off"}[f.Default], f.Help)
	}
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
	c.Origins, c.TrustedProxies, c.Recheck = s.origins, s.trusted, s.auth.recheck
	c.ReadOnly, c.Features = s.readOnly, s.features
	if s.readOnly && s.migrate {
		return c, errReadOnly
	}
	if err := s.checkAdmin(); err != nil {
		return c, err
	}
	if c.Auth, err = s.authenticate(log); err != nil {
		return c, err
	}
	hooks := s.auth.hooks
	hooks.Timeout = s.auth.hook.Timeout
	if err := hooks.Apply(&c); err != nil {
		return c, err
	}
	if c.Bus, s.stream, err = s.carry(); err != nil {
		return c, err
	}
	if s.bus != "memory" && s.databaseURL == "" {
		return c, errNoDatabase
	}
	return c, nil
}

// errReadOnly is what is said where something would be written.
var errReadOnly = errors.New("NOTIFYQL_READ_ONLY is set, so nothing is migrated, watched or published; unset it to do that")

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

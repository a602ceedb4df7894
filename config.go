package notifyql

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/notifyql/notifyql/internal/pg"
)

// Version is the program's.
const Version = "0.1.0"

// version is what a build says that it is: -ldflags "-X github.com/notifyql/notifyql.version=0.1.1".
var version = Version

// Config is what a Server is made from. The zero value of each field has a sane default.
type Config struct {
	// DatabaseURL reaches Postgres directly, without a transaction pooler: the server listens on it. Without a Pool it opens
	// 14 connections at most, 16 behind a broker, those of PoolURL included.
	DatabaseURL string
	// PoolURL is for all else and may go through a pooler. Empty: DatabaseURL.
	PoolURL string
	// Pool takes the place of PoolURL, and without a DatabaseURL of that, too: the server then connects directly as the pool's configuration says,
	// BeforeConnect left out. The pool stays yours: close it after Run has returned. The server uses up to MaxConns of its
	// connections, of which it needs four, six behind a broker; what you take of them it waits for. A statement_timeout of theirs ends
	// reads of many rows, too.
	Pool *pgxpool.Pool

	// Bus is what carries changes to this server. The default listens to Postgres itself; MemoryBus needs no database
	// and carries published events of this process only.
	Bus Bus

	// Mode is how changes come from Postgres. The database can overrule it: see docs/operations.md. Default ModeAuto.
	Mode Mode

	// Auth says who a client is. Nil: every client is refused. See JWT, Hook and Trust.
	Auth Auth

	// Recheck is how often Auth is asked again about a client that is connected, with what the client gave: its socket is
	// closed if Auth refuses it now, or it is another user, or has other tenants or roles, or other claims that a policy asks for. Zero: never.
	Recheck time.Duration

	// OnConnect is called when Auth has accepted a client, before it is told. An error refuses it.
	OnConnect func(ctx context.Context, c *Connection) error

	// OnSubscribe is called before a subscription begins, again if the schema changes just then, and for rows that a
	// federation gateway looks up. An error refuses it: the client gets the errors of a *RequestError, and of any other only
	// that it is not allowed. where, in the form of the field's argument, narrows it: rows that it does not select are not
	// there for the subscriber. Nil selects all. The connection waits meanwhile; ctx ends with it.
	OnSubscribe func(ctx context.Context, sub *Subscription) (where map[string]any, err error)

	// OnDisconnect is called when a client that OnConnect was called for, and accepted, has gone and its subscriptions have
	// ended.
	OnDisconnect func(c *Connection)

	// ReadOnly begins read-only: see Server.SetReadOnly.
	ReadOnly bool

	// Fields are fields of your own: typed subscriptions over channels of published events, and relations of tables' rows.
	Fields []Field

	// Features switch what else a server does, by name: "sse" on, "-sse" off. They win over the fields of their own that some have. See
	// the function Features; New fails for a name that is not there.
	Features []string

	// Federation makes the schema a subgraph (Apollo Federation 2) that a gateway can compose with others.
	Federation bool

	Limits Limits

	// Compression offers permessage-deflate to WebSockets. It costs CPU for each message and each subscriber, and no memory
	// while a socket is idle.
	Compression bool

	// Upgrade accepts the WebSockets of Handler with a library of your choice: see docs/sockets.md. Nil: with coder/websocket.
	Upgrade Upgrade

	// Origins are the hosts, beside the server's own, whose pages may open a socket, such as "app.example.com",
	// "*.example.com", "localhost:3000" or "https://app.example.com", with nothing behind the host; "*" allows all.
	Origins []string

	// TrustedProxies are the networks of proxies in front of the handler. A request that comes from one of them has its
	// X-Forwarded-For (from the right, up to the first address that is not trusted), X-Forwarded-Host and X-Forwarded-Proto believed: for
	// RemoteAddr, the limits of an address and what is the server's own origin. Those of any other are not looked at.
	TrustedProxies []netip.Prefix

	// GraphiQL is the page for a browser's GET.
	GraphiQL GraphiQL

	// DrainTimeout is how long Run waits for sockets to close after its context ended. Default 10 s.
	DrainTimeout time.Duration

	// TracerProvider gets spans of what happens to subscriptions and transactions, as docs/operations.md lists them. Nil: nothing is
	// traced, and nothing is paid for it.
	TracerProvider trace.TracerProvider

	// Registerer gets the metrics that OpsHandler shows at /metrics, from New to the end of Run. Of several servers in one registry, each has a
	// label of its own by prometheus.WrapRegistererWith. Nil: only OpsHandler shows them.
	Registerer prometheus.Registerer

	// Logger gets the server's log. Nil: slog.Default. Secrets are taken out of what is logged.
	Logger *slog.Logger
}

// Mode is how changes come from Postgres to the servers. It makes a difference to writers, and to how soon a change arrives, not to
// what is promised.
type Mode string

// The modes.
const (
	// ModeAuto changes between the other two as is better for what is written at the time.
	ModeAuto Mode = "auto"
	// ModeQuiet has each change notified, which is soonest. But Postgres lets one notifying transaction commit at a time.
	ModeQuiet Mode = "quiet"
	// ModeBusy reads the change log every few milliseconds. Writers notify nothing, and can prepare transactions.
	ModeBusy Mode = "busy"
)

func (m Mode) parse() (pg.Mode, error) {
	if m == "" {
		return pg.Auto, nil
	}
	return pg.ParseMode(string(m))
}

// GraphiQL is the settings of the page that a browser's GET of the handler shows.
type GraphiQL struct {
	Disabled bool
	Query    string // what the page begins with
	Payload  string // connection_init's payload, a JSON object, that the page begins with
}

// Limits bound what clients can use. Zero means the default.
type Limits struct {
	Connections   int // sockets and event streams at once; default 10,000
	Subscriptions int // of one connection at once; default 100

	// Of one user, and of one tenant, at once. An identity of several tenants counts for each. Subscriptions in process count.
	ConnectionsPerUser     int // default 100
	ConnectionsPerTenant   int // default 10,000
	SubscriptionsPerUser   int // default 1,000
	SubscriptionsPerTenant int // default 100,000

	// That begin, a second; those of ten seconds may come at once. An address of IPv6 is its first 64 bits.
	ConnectsPerAddress  int // default 1,000
	ConnectsPerUser     int // default 10
	SubscribesPerUser   int // default 100
	SubscribesPerTenant int // default 10,000

	MessageBytes     int64         // of a client's message; default 1 MiB
	MessagesPerSec   int           // of one socket; default 100
	InitTimeout      time.Duration // until connection_init; default 10 s
	PingInterval     time.Duration // keep-alive; default 20 s
	PongTimeout      time.Duration // for the answer; default 15 s
	IdleTimeout      time.Duration // of a socket without a subscription; default none
	TailBytes        int64         // of transactions kept in memory for subscribers; default 64 MiB
	InitialRows      int           // that a subscription may begin with; default 1,000,000
	ResolverTimeout  time.Duration // of a call of a field's resolver; default 5 s
	ResolverBytes    int           // of a value of a field's resolver, as JSON; default 1 MiB. One result has at most 16 times as much of them
	HTTPRequestBytes int64         // of a POST; default 1 MiB
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		v *int
		d int
	}{
		{&l.Connections, 10_000},
		{&l.Subscriptions, 100},
		{&l.ConnectionsPerUser, 100},
		{&l.ConnectionsPerTenant, 10_000},
		{&l.SubscriptionsPerUser, 1000},
		{&l.SubscriptionsPerTenant, 100_000},
		{&l.ConnectsPerAddress, 1000},
		{&l.ConnectsPerUser, 10},
		{&l.SubscribesPerUser, 100},
		{&l.SubscribesPerTenant, 10_000},
		{&l.MessagesPerSec, 100},
		{&l.InitialRows, 1_000_000},
		{&l.ResolverBytes, 1 << 20},
	} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	for _, d := range []struct {
		v *int64
		d int64
	}{{&l.MessageBytes, 1 << 20}, {&l.TailBytes, 64 << 20}, {&l.HTTPRequestBytes, 1 << 20}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&l.InitTimeout, 10 * time.Second},
		{&l.PingInterval, 20 * time.Second},
		{&l.PongTimeout, 15 * time.Second},
		{&l.ResolverTimeout, 5 * time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	return l
}

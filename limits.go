package notifyql

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/sse"
	"github.com/notifyql/notifyql/internal/ws"
)

// bounds are what one user, tenant or address may use of the server, and how fast.
type bounds struct {
	userConnections, tenantConnections     *limit.Count
	userSubscriptions, tenantSubscriptions *limit.Count

	addressConnects, userConnects    *limit.Rate
	userSubscribes, tenantSubscribes *limit.Rate

	perConnection atomic.Int64 // subscriptions that were refused because their connection has enough
}

const (
	// atOnce is for how many seconds a rate lets come at once: after a restart all come back.
	atOnce = 10
	// rateKeys is how many users, tenants or addresses a rate tells apart at a time, of those that have come in the last seconds.
	rateKeys = 1 << 16
)

func newBounds(l *Limits) *bounds {
	rate := func(name string, perSecond int, text string) *limit.Rate {
		return limit.NewRate(name, perSecond, min(perSecond, 1<<40)*atOnce, rateKeys, text)
	}
	return &bounds{
		userConnections:     limit.NewCount("connectionsPerUser", l.ConnectionsPerUser, "the user has %d connections already"),
		tenantConnections:   limit.NewCount("connectionsPerTenant", l.ConnectionsPerTenant, "the tenant has %d connections already"),
		userSubscriptions:   limit.NewCount("subscriptionsPerUser", l.SubscriptionsPerUser, "the user has %d subscriptions already"),
		tenantSubscriptions: limit.NewCount("subscriptionsPerTenant", l.SubscriptionsPerTenant, "the tenant has %d subscriptions already"),
		addressConnects:     rate("connectsPerAddress", l.ConnectsPerAddress, "more than %d connections a second from one address"),
		userConnects:        rate("connectsPerUser", l.ConnectsPerUser, "more than %d connections a second of one user"),
		userSubscribes:      rate("subscribesPerUser", l.SubscribesPerUser, "more than %d new subscriptions a second of one user"),
		tenantSubscribes:    rate("subscribesPerTenant", l.SubscribesPerTenant, "more than %d new subscriptions a second of one tenant"),
	}
}

// party is whose use is counted: an identity's user and tenants, as they were when it came.
type party struct {
	user    []string // one, or none
	tenants []string // each once
}

func partyOf(id *Identity) party {
	var p party
	if id.UserID != "" {
		p.user = []string{id.UserID}
	}
	p.tenants = slices.DeleteFunc(slices.Clone(id.Tenants), func(t string) bool { return t == "" })
	slices.Sort(p.tenants)
	p.tenants = slices.Compact(p.tenants)
	return p
}

// enter counts for a party in both, or in neither.
func (p *party) enter(users, tenants *limit.Count) *limit.Exceeded {
	if no := users.Enter(p.user...); no != nil {
		return no
	}
	if no := tenants.Enter(p.tenants...); no != nil {
		users.Leave(p.user...)
		return no
	}
	return nil
}

func (p *party) leave(users, tenants *limit.Count) {
	users.Leave(p.user...)
	tenants.Leave(p.tenants...)
}

// arrive lets a request from an address open a connection, or says why not yet.
func (b *bounds) arrive(r *http.Request) *limit.Exceeded {
	return b.addressConnects.Take(time.Now(), addressKey(r.RemoteAddr))
}

// addressKey is the address of whoever may be one: of IPv6 the first 64 bits, since anybody has as many as the rest can tell
// apart.
func addressKey(remote string) string {
	addr, ok := parseAddr(remote)
	if !ok {
		return remote // not TCP
	}
	if addr.Is4() {
		return addr.String()
	}
	network, err := addr.Prefix(64)
	if err != nil {
		return remote
	}
	return network.String()
}

// parseAddr reads an address, with or without a port.
func parseAddr(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		with, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = with.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

// connect counts a connection, until disconnect, or says why there can't be one.
func (b *bounds) connect(p *party) *limit.Exceeded {
	if no := b.userConnects.Take(time.Now(), p.user...); no != nil {
		return no
	}
	return p.enter(b.userConnections, b.tenantConnections)
}

func (b *bounds) disconnect(p *party) { p.leave(b.userConnections, b.tenantConnections) }

// subscribe counts a subscription, until unsubscribe, or says why there can't be one.
func (b *bounds) subscribe(p *party) *limit.Exceeded {
	now := time.Now()
	if no := b.userSubscribes.Take(now, p.user...); no != nil {
		return no
	}
	if no := b.tenantSubscribes.Take(now, p.tenants...); no != nil {
		return no
	}
	return p.enter(b.userSubscriptions, b.tenantSubscriptions)
}

func (b *bounds) unsubscribe(p *party) { p.leave(b.userSubscriptions, b.tenantSubscriptions) }

// refused adds how often each limit has refused.
func (b *bounds) refused(to map[string]int64) {
	for _, c := range []*limit.Count{b.userConnections, b.tenantConnections, b.userSubscriptions, b.tenantSubscriptions} {
		to[c.Name()] = c.Refused()
	}
	for _, r := range []*limit.Rate{b.addressConnects, b.userConnects, b.userSubscribes, b.tenantSubscribes} {
		to[r.Name()] = r.Refused()
	}
	to["subscriptionsPerConnection"] = b.perConnection.Load()
}

// buckets is how many users, tenants and addresses are told apart, each as often as it is.
func (b *bounds) buckets() int {
	return b.addressConnects.Keys() + b.userConnects.Keys() + b.userSubscribes.Keys() + b.tenantSubscribes.Keys()
}

// begin is start within the bounds of a party. A query is not counted: it is over when it has begun.
func (s *Server) begin(ctx context.Context, op ws.Operation, c *Connection, p *party, wake func()) ws.Stream {
	r := gql.Request{Query: op.Query, OperationName: op.OperationName, Variables: op.Variables, Extensions: op.Extensions}
	if kind, refused := s.schema.Load().OperationKind(r, c.Identity.inner()); refused != nil {
		s.tracer.begins(ctx, op).over(errRefused)
		return &ended{errors: refused}
	} else if kind != ast.Subscription {
		return s.start(ctx, op, c, wake, nil)
	}
	b := s.tracer.begins(ctx, op)
	if no := s.bounds.subscribe(p); no != nil {
		b.over(errRefused)
		return &ended{errors: no.GraphQL(), exceeded: no}
	}
	st := counted{bounds: s.bounds, party: p}
	defer func() {
		if st.Stream == nil { // start panicked
			b.over(errRefused)
			s.bounds.unsubscribe(p)
		}
	}()
	st.Stream = s.start(ctx, op, c, wake, b)
	if e, ok := st.Stream.(*ended); ok {
		b.over(e.failed())
	}
	return &st
}

// counted is a stream that counts as one until it is closed.
type counted struct {
	ws.Stream
	bounds *bounds
	party  *party

	// For operators; of stays nil if it is of no connection, or has ended when it began.
	of    *session
	id    string // the client's
	since time.Time
	wake  func()
	place int // in its session's list; guarded by the session's lock
	ended atomic.Pointer[ws.OperationError]
}

// Next ends with what an operator wants.
func (c *counted) Next(dst [][]byte, limit int) ([][]byte, error) {
	if e := c.ended.Load(); e != nil {
		return dst, e
	}
	return c.Stream.Next(dst, limit)
}

// Taken implements ws.Traced.
func (c *counted) Taken() func(error) {
	if st, ok := c.Stream.(ws.Traced); ok {
		return st.Taken()
	}
	return nil
}

// EventID implements sse.Identified.
func (c *counted) EventID(result []byte) string {
	if st, ok := c.Stream.(sse.Identified); ok {
		return st.EventID(result)
	}
	return ""
}

// Written implements ws.Timed.
func (c *counted) Written(at time.Time) {
	if st, ok := c.Stream.(ws.Timed); ok {
		st.Written(at)
	}
}

func (c *counted) Close() {
	c.Stream.Close()
	c.bounds.unsubscribe(c.party)
	if c.of != nil {
		c.of.unlist(c)
	}
}

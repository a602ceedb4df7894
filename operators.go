package notifyql

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/ws"
)

// ConnectionInfo is a client that is connected now, by a socket or an event stream.
type ConnectionInfo struct {
	ID            string             `json:"id"`
	UserID        string             `json:"userId,omitempty"`
	Tenants       []string           `json:"tenants"`
	RemoteAddr    string             `json:"remoteAddr"`
	Protocol      string             `json:"protocol"` // graphql-transport-ws, graphql-ws or sse
	Since         time.Time          `json:"since"`
	Behind        int                `json:"behind"` // results in memory that its subscriptions have yet to take
	Subscriptions []SubscriptionInfo `json:"subscriptions"`
}

// SubscriptionInfo is one of a connection's.
type SubscriptionInfo struct {
	ID          string    `json:"id"` // the client's
	Field       string    `json:"field"`
	Table       string    `json:"table,omitempty"` // empty for a custom field
	Since       time.Time `json:"since"`
	Behind      int       `json:"behind"`      // results in memory that it has yet to take
	CatchingUp  bool      `json:"catchingUp"`  // it reads rows or the log; how much is before it is not known
	Comparisons int       `json:"comparisons"` // that each change of the table costs, at most
	Shared      int       `json:"shared"`      // subscriptions, itself included, for which that is done once
}

// ConnectionFilter selects the connections for which all that is set holds. The zero filter selects all.
type ConnectionFilter struct {
	ID, UserID, Tenant string
	Table              string // that one of its subscriptions is on, such as public.orders
}

// Page is a part of a list.
type Page struct {
	After string // the last ID of the page before
	Limit int    // default 100, at most 1,000
}

// End says how connections are ended.
type End struct {
	Reason  string // for the client to read; at most some 80 bytes of it on a socket
	ForGood bool   // standard clients stay away; otherwise they come back at once, and Auth is asked who they are
}

// roster is the sessions of the clients that are connected.
type roster struct {
	mu   sync.Mutex
	byID map[string]*session
}

func (r *roster) add(id string, v *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]*session{}
	}
	r.byID[id] = v
}

func (r *roster) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

// after is all sessions whose IDs are greater, in order; of one ID, if it is not empty, at most that one.
func (r *roster) after(greater, id string) []*session {
	r.mu.Lock()
	list := make([]*session, 0, len(r.byID))
	if id != "" {
		if v := r.byID[id]; v != nil && id > greater {
			list = append(list, v)
		}
	} else {
		for id, v := range r.byID {
			if id > greater {
				list = append(list, v)
			}
		}
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	return list
}

// Connections lists clients that are connected, in the order of their IDs, a page at a time: a page that is not full is the
// last. Subscriptions in process are of no connection.
func (s *Server) Connections(f ConnectionFilter, p Page) []ConnectionInfo {
	if p.Limit <= 0 {
		p.Limit = 100
	}
	limit := min(p.Limit, 1000)
	list := []ConnectionInfo{}
	for _, v := range s.roster.after(p.After, f.ID) {
		if len(list) == limit {
			break
		}
		if info := v.info(); f.selects(&info) {
			list = append(list, info)
		}
	}
	return list
}

func (f *ConnectionFilter) selects(c *ConnectionInfo) bool {
	return (f.ID == "" || f.ID == c.ID) && (f.UserID == "" || f.UserID == c.UserID) &&
		(f.Tenant == "" || slices.Contains(c.Tenants, f.Tenant)) &&
		(f.Table == "" || slices.ContainsFunc(c.Subscriptions, func(sub SubscriptionInfo) bool { return sub.Table == f.Table }))
}

// Disconnect ends connections, and says how many. What their subscriptions have not sent yet is not sent; a client that comes back
// resumes behind its last cursor. It forbids nothing: whether a client may come back is Auth's to say.
func (s *Server) Disconnect(f ConnectionFilter, e End) int {
	why := &ws.CloseError{Code: ws.CodeTryAgainLater, Reason: withReason("Disconnected by an operator", e.Reason)}
	if e.ForGood {
		why.Code = ws.CodePolicy
	}
	n := 0
	for _, v := range s.roster.after("", f.ID) {
		if info := v.info(); f.selects(&info) {
			v.end(why)
			n++
		}
	}
	s.log.Info("connections were ended by an operator", "connections", n, "reason", e.Reason, "for good", e.ForGood)
	return n
}

// EndSubscription ends one subscription of a connection with an error whose code is FORBIDDEN, and says whether there was one.
func (s *Server) EndSubscription(connection, id, reason string) bool {
	for _, v := range s.roster.after("", connection) {
		if connection != "" && v.endSubscription(id, reason) {
			s.log.Info("a subscription was ended by an operator", "connection", connection, "subscription", id, "reason", reason)
			return true
		}
	}
	return false
}

func withReason(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + strings.ToValidUTF8(reason, "?")
}

// list enters a subscription that has begun into the session's list, until it is closed.
func (v *session) list(c *counted, id string, wake func()) {
	if _, ok := c.Stream.(live); !ok {
		return // it has ended
	}
	c.of, c.id, c.wake, c.since = v, id, wake, time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	c.place = len(v.subscriptions)
	v.subscriptions = append(v.subscriptions, c)
}

func (v *session) unlist(c *counted) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := len(v.subscriptions) - 1
	v.subscriptions[c.place] = v.subscriptions[last]
	v.subscriptions[c.place].place = c.place
	v.subscriptions[last] = nil
	v.subscriptions = v.subscriptions[:last]
}

func (v *session) info() ConnectionInfo {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := &v.c.Identity
	info := ConnectionInfo{
		ID: v.id, UserID: id.UserID, Tenants: append([]string{}, id.Tenants...), RemoteAddr: v.c.RemoteAddr, Protocol: v.protocol, Since: v.since,
		Subscriptions: []SubscriptionInfo{},
	}
	for _, c := range v.subscriptions {
		sub := c.info()
		info.Behind += sub.Behind
		info.Subscriptions = append(info.Subscriptions, sub)
	}
	slices.SortFunc(info.Subscriptions, func(a, b SubscriptionInfo) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return info
}

func (c *counted) info() SubscriptionInfo {
	st := c.Stream.(live)
	p := st.Progress()
	return SubscriptionInfo{
		ID: c.id, Field: st.plan.Field(), Table: st.plan.Table(), Since: c.since,
		Behind: p.Behind, CatchingUp: p.CatchingUp, Comparisons: st.plan.Comparisons(), Shared: p.Shared,
	}
}

func (v *session) endSubscription(id, reason string) bool {
	v.mu.Lock()
	var found *counted
	for _, c := range v.subscriptions {
		if c.id == id {
			found = c
		}
	}
	v.mu.Unlock()
	if found == nil {
		return false
	}
	found.ended.Store(&ws.OperationError{Errors: failure("FORBIDDEN", withReason("the subscription was ended by an operator", reason))})
	found.wake()
	return true
}

package notifyql

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/ws"
)

// service is what one socket, or one request for events, is served with.
type service struct {
	s        *Server
	r        *http.Request // until Connect, which is called once
	protocol string
}

func (v *service) Connect(ctx context.Context, init []byte) (ws.Session, error) {
	r := v.r
	v.r = nil
	id, err := v.s.identify(ctx, init, r)
	if err != nil {
		return nil, err
	}
	c := &Connection{ID: rand.Text(), Identity: id, RemoteAddr: r.RemoteAddr}
	p := partyOf(&id)
	if no := v.s.bounds.connect(&p); no != nil {
		return nil, no
	}
	if err := v.s.connecting(ctx, c); err != nil {
		v.s.bounds.disconnect(&p)
		return nil, err
	}
	return newSession(v, c, p, init, r), nil
}

// identify asks Config.Auth. What it says of a refusal stays in our log: it is not the client's to read.
func (s *Server) identify(ctx context.Context, init []byte, r *http.Request) (id Identity, err error) {
	if s.cfg.Auth == nil {
		s.log.Error("a client was refused: there is no Auth; set Config.Auth, or NOTIFYQL_AUTH for the server")
		return Identity{}, errors.New("no auth")
	}
	err = s.guarded("Auth", func() error {
		id, err = s.cfg.Auth(ctx, init, r)
		return err
	})
	if err == nil && !id.ExpiresAt.IsZero() && !time.Now().Before(id.ExpiresAt) {
		err = auth.ErrExpired
	}
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		s.log.Warn("a client was refused, since it could not be found out who it is", "remote", r.RemoteAddr, "error", err)
	case err != nil:
		s.log.Info("a client was refused", "remote", r.RemoteAddr, "error", err)
	}
	return id, err
}

// session is a connected client and its right. It is over when the right expires, is withdrawn or becomes another one:
// what was begun under the old right ends with it, and a client that comes back begins under the new one.
//
// Refresh is called by the connection's goroutine, recheck and expire by timers; mu guards what they change. It is not
// held while Auth is asked.
type session struct {
	s        *Server
	id       string // the connection's
	protocol string
	since    time.Time
	party    party // for all of its identities, which are the same in that

	ctx context.Context // done when the session is over; the cause is a *ws.CloseError
	end context.CancelCauseFunc

	rechecks sync.WaitGroup // that run or are due

	mu            sync.Mutex
	subscriptions []*counted // that run

	c       *Connection     // replaced, never changed
	init    json.RawMessage // what Auth was asked with last
	r       *http.Request   // nil: Auth is not asked again
	renewed int             // counts Refreshes: what a recheck finds out of a right that was renewed meanwhile is void
	expiry  *time.Timer     // nil: the right does not end
	recheck *time.Timer     // nil: Auth is not asked again by itself
	closed  bool
}

func newSession(of *service, c *Connection, p party, init []byte, r *http.Request) *session {
	v := &session{s: of.s, id: c.ID, protocol: of.protocol, since: time.Now(), party: p, c: c}
	v.ctx, v.end = context.WithCancelCause(context.Background())
	if v.s.cfg.Recheck > 0 || !c.Identity.ExpiresAt.IsZero() { // or else Auth is not asked again
		v.init, v.r = slices.Clone(init), r.WithContext(context.WithoutCancel(r.Context()))
		v.r.Body = http.NoBody // the other holds the request's buffers
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watch()
	v.s.roster.add(v.id, v)
	return v
}

// The reasons for which a session is over.
const (
	reasonExpired = "Forbidden: the right has expired"
	reasonRefused = "Forbidden: the right was withdrawn"
	reasonChanged = "Forbidden: the identity has changed"
)

func forbidden(reason string) *ws.CloseError {
	return &ws.CloseError{Code: ws.CodeForbidden, Reason: reason}
}

// watch sets the timers for the present right. It needs the lock.
func (v *session) watch() {
	left := time.Duration(-1)
	if at := v.c.Identity.ExpiresAt; !at.IsZero() {
		left = max(time.Until(at), 0)
	}
	switch {
	case left < 0 && v.expiry != nil:
		v.expiry.Stop()
		v.expiry = nil
	case left >= 0 && v.expiry != nil:
		v.expiry.Reset(left)
	case left >= 0:
		v.expiry = time.AfterFunc(left, v.expire)
	}
	if v.s.cfg.Recheck <= 0 {
		return
	}
	wait := spread(v.s.cfg.Recheck)
	if left >= 0 {
		// Before the right ends, so that a hook can prolong it; with time enough for the answer.
		wait = min(wait, max(left-left/4, time.Second))
	}
	v.rechecks.Add(1)
	if v.recheck == nil {
		v.recheck = time.AfterFunc(wait, v.check)
	} else if v.recheck.Reset(wait) {
		v.rechecks.Done() // the call that it was set for before
	}
}

// spread takes up to an eighth off an interval, so that clients that came together are not asked about together.
func spread(d time.Duration) time.Duration {
	var b [1]byte
	_, _ = rand.Read(b[:]) // never fails
	return d - d/8*time.Duration(b[0])/256
}

// expire ends the session if its right has not been renewed meanwhile.
func (v *session) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.c.Identity.ExpiresAt
	if v.closed || at.IsZero() {
		return
	}
	if left := time.Until(at); left > 0 {
		v.expiry.Reset(left)
		return
	}
	v.end(forbidden(reasonExpired))
}

// check asks Auth again with what the client gave, and ends the session if the answer is another one.
func (v *session) check() {
	defer v.rechecks.Done()
	v.mu.Lock()
	init, r, renewed := v.init, v.r, v.renewed
	v.mu.Unlock()
	if v.ctx.Err() != nil {
		return
	}
	id, err := v.s.identify(v.ctx, init, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.closed || v.renewed != renewed:
		return // Refresh has set the timer
	case err != nil:
		v.end(forbidden(reasonRefused))
	case !v.s.same(&v.c.Identity, &id):
		v.end(forbidden(reasonChanged))
	default:
		v.become(id)
	}
}

// Refresh implements ws.Refresher: a ping whose payload has a token renews the right, for the same user, tenants and roles.
func (v *session) Refresh(ctx context.Context, payload []byte) (asked bool, err error) {
	v.mu.Lock()
	r := v.r
	v.mu.Unlock()
	if r == nil || !auth.CarriesToken(payload) {
		return false, nil
	}
	id, err := v.s.identify(ctx, payload, r)
	if err != nil {
		return true, forbidden("Forbidden")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.s.same(&v.c.Identity, &id) {
		return true, forbidden(reasonChanged)
	}
	v.init = slices.Clone(payload)
	v.renewed++
	v.become(id)
	return true, nil
}

// become gives the session a right like the one it has. It needs the lock.
func (v *session) become(id Identity) {
	c := *v.c
	c.Identity = id
	v.c = &c
	if !v.closed {
		v.watch()
	}
}

// same reports whether two identities may do and see the same. Claims that no policy asks for may differ, as they do from token to token.
func (s *Server) same(a, b *Identity) bool {
	equal := func(a, b []string) bool {
		a, b = slices.Clone(a), slices.Clone(b)
		slices.Sort(a)
		slices.Sort(b)
		return slices.Equal(slices.Compact(a), slices.Compact(b))
	}
	return a.UserID == b.UserID && equal(a.Tenants, b.Tenants) && equal(a.Roles, b.Roles) && s.schema.Load().SameRows(a.inner(), b.inner())
}

// Ended implements ws.Ender.
func (v *session) Ended() context.Context { return v.ctx }

func (v *session) connection() *Connection {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.c
}

// Subscribe implements ws.Session.
func (v *session) Subscribe(ctx context.Context, op ws.Operation, wake func()) ws.Stream {
	if v.ctx.Err() != nil {
		return &ended{errors: failure("FORBIDDEN", "the connection's right has ended")}
	}
	st := v.s.begin(ctx, op, v.connection(), &v.party, wake)
	if c, ok := st.(*counted); ok {
		v.list(c, op.ID, wake)
	}
	return st
}

// Close implements ws.Session.
func (v *session) Close() {
	v.mu.Lock()
	v.closed = true
	if v.expiry != nil {
		v.expiry.Stop()
	}
	if v.recheck != nil && v.recheck.Stop() {
		v.rechecks.Done()
	}
	v.mu.Unlock()
	v.end(nil) // Auth, if it is being asked, need not go on
	v.rechecks.Wait()
	v.s.roster.remove(v.id)
	v.s.bounds.disconnect(&v.party)
	v.s.disconnected(v.connection())
}

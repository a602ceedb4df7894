package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
)

// desk is an Auth that a test changes while clients are connected: it knows identities by the payload's authToken.
type desk struct {
	mu    sync.Mutex
	who   map[string]notifyql.Identity
	asked chan string // gets each token that is asked about; never full in these tests
}

func newDesk(who map[string]notifyql.Identity) *desk {
	return &desk{who: who, asked: make(chan string, 10_000)}
}

func (d *desk) set(token string, id notifyql.Identity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.who[token] = id
}

func (d *desk) forget(token string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.who, token)
}

func (d *desk) auth(_ context.Context, init json.RawMessage, r *http.Request) (notifyql.Identity, error) {
	var payload struct{ AuthToken string }
	if init == nil {
		payload.AuthToken = r.Header.Get("X-Token")
	} else if err := json.Unmarshal(init, &payload); err != nil {
		return notifyql.Identity{}, err
	}
	d.mu.Lock()
	id, ok := d.who[payload.AuthToken]
	d.mu.Unlock()
	d.asked <- payload.AuthToken
	if !ok {
		return notifyql.Identity{}, errors.New("not known")
	}
	return id, nil
}

// acme is a user of acme until then.
func acme(until time.Time) notifyql.Identity {
	return notifyql.Identity{UserID: "u", Tenants: []string{"acme", "b"}, Roles: []string{"r", "s"}, ExpiresAt: until}
}

const expired = "Forbidden: the right has expired"

// soon is time enough to connect, and little to wait for.
func soon() time.Time { return time.Now().Add(4 * time.Second) }

// A socket, and an event stream, end with the right that opened them; one whose right was renewed by a ping goes on.
func TestConnectionsEndWithTheirRight(t *testing.T) {
	t.Parallel()
	end := soon()
	d := newDesk(map[string]notifyql.Identity{"old": acme(end), "new": acme(end.Add(time.Hour)), "for ever": acme(time.Time{})})
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: d.auth})
	url := face(t, srv)
	ends, renewed, freed := connect(t, url, `{"authToken":"old"}`), connect(t, url, `{"authToken":"old"}`), connect(t, url, `{"authToken":"old"}`)
	stream := events(t, url, "X-Token", "old")
	for _, c := range []*client{ends, renewed, freed} {
		c.subscribed("1", "c")
	}
	// The pong means that it was renewed. It does not say the token again.
	renewed.send(`{"type":"ping","payload":{"authToken":"new"}}`)
	freed.send(`{"type":"ping","payload":{"headers":{"Authorization":"-"},"authToken":"for ever"}}`)
	for _, c := range []*client{renewed, freed} {
		c.want(`{"type":"pong"}`)
	}
	publish(t, srv, "acme", 1)
	ends.wantData("1", "1")
	ends.wantClose(4403, expired)
	stream.want(
		`event: next|data: {"data":{"channel":{"data":1}}}`,
		`event: next|data: {"errors":[{"message":"`+expired+`","extensions":{"code":"FORBIDDEN"}}]}`, `event: complete|data:`, ``,
	)
	if time.Now().Before(end) {
		t.Error("they ended too early")
	}
	publish(t, srv, "acme", 2)
	for _, c := range []*client{renewed, freed} {
		c.wantData("1", "1")
		c.wantData("1", "2")
	}
}

// A JWT's socket ends with the token's exp, unless a ping brings another.
func TestASocketEndsWithItsJWT(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: newJWT(t, notifyql.JWTOptions{Secret: []byte(jwtSecret), Leeway: time.Second})})
	url, short := face(t, srv), hs(t, map[string]any{"exp": time.Now().Unix() + 3})
	ends, renewed := connect(t, url, `{"authToken":"`+short+`"}`), connect(t, url, "", "Authorization", "Bearer "+short)
	renewed.send(`{"type":"ping","payload":{"Authorization":"Bearer ` + hs(t, map[string]any{"jti": "2"}) + `"}}`)
	renewed.want(`{"type":"pong"}`)
	ends.wantClose(4403, expired)
	renewed.settled()
	renewed.send(`{"type":"ping","payload":{"Authorization":"Bearer ` + hs(t, map[string]any{"sub": "v"}) + `"}}`)
	renewed.wantClose(4403, "Forbidden: the identity has changed")
}

// What was begun under other rights does not go on under new ones: the socket is closed, and its client begins anew.
func TestARightIsRenewedForTheSameIdentityOnly(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	was := acme(later)
	change := func(f func(*notifyql.Identity)) notifyql.Identity {
		id := acme(later)
		f(&id)
		return id
	}
	const changed = "Forbidden: the identity has changed"
	d := newDesk(map[string]notifyql.Identity{
		"was":           was,
		"other claims":  change(func(id *notifyql.Identity) { id.Claims = map[string]any{"jti": 2} }),
		"other order":   change(func(id *notifyql.Identity) { id.Tenants, id.Roles = []string{"b", "acme"}, []string{"s", "r"} }),
		"other user":    change(func(id *notifyql.Identity) { id.UserID = "v" }),
		"other tenant":  change(func(id *notifyql.Identity) { id.Tenants = []string{"acme", "c"} }),
		"fewer tenants": change(func(id *notifyql.Identity) { id.Tenants = []string{"acme"} }),
		"more tenants":  change(func(id *notifyql.Identity) { id.Tenants = []string{"acme", "b", "c"} }),
		"fewer roles":   change(func(id *notifyql.Identity) { id.Roles = []string{"r"} }),
		"more roles":    change(func(id *notifyql.Identity) { id.Roles = []string{"r", "s", "t"} }),
		"over":          acme(time.Now()),
	})
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: d.auth})
	url := face(t, srv)
	for token, reason := range map[string]string{
		"other claims": "", "other order": "", "other user": changed, "other tenant": changed, "fewer tenants": changed, "more tenants": changed,
		"fewer roles": changed, "more roles": changed, "over": "Forbidden", "unknown": "Forbidden",
	} {
		t.Log(token)
		c := connect(t, url, `{"authToken":"was"}`)
		c.subscribed("1", "c")
		c.send(`{"type":"ping","payload":{"authToken":"` + token + `"}}`)
		if reason != "" {
			c.wantClose(4403, reason)
			continue
		}
		c.want(`{"type":"pong"}`)
		publish(t, srv, "b", 1)
		c.wantData("1", "1")
	}
}

// A ping that brings no token is a ping; and so is any where there is nothing to renew.
func TestPingsThatRenewNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(map[string]notifyql.Identity{"ends": acme(time.Now().Add(time.Hour)), "never ends": acme(time.Time{})})
	url := face(t, run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: d.auth}))
	for token, payload := range map[string]string{"ends": `{"at":1,"token":"x"}`, "never ends": `{"authToken":"x"}`} {
		c := connect(t, url, `{"authToken":"`+token+`"}`)
		c.send(`{"type":"ping","payload":` + payload + `}`)
		c.want(`{"type":"pong","payload":` + payload + `}`)
	}
	if n := len(d.asked); n != 2 {
		t.Errorf("Auth was asked %d times", n)
	}
}

// Auth is asked again at an interval: a right that was withdrawn, or is another's now, ends its connections.
func TestRightsAreCheckedAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(map[string]notifyql.Identity{"stays": acme(time.Time{}), "goes": acme(time.Time{}), "changes": acme(time.Time{}), "streams": acme(time.Time{})})
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: d.auth, Recheck: 20 * time.Millisecond})
	url := face(t, srv)
	stays, goes, changes := connect(t, url, `{"authToken":"stays"}`), connect(t, url, `{"authToken":"goes"}`), connect(t, url, `{"authToken":"changes"}`)
	stream := events(t, url, "X-Token", "streams")
	for _, c := range []*client{stays, goes, changes} {
		c.subscribed("1", "c")
	}
	d.forget("goes")
	goes.wantClose(4403, "Forbidden: the right was withdrawn")
	other := acme(time.Time{})
	other.Roles = nil
	d.set("changes", other)
	changes.wantClose(4403, "Forbidden: the identity has changed")
	d.forget("streams")
	stream.want(`event: next|data: {"errors":[{"message":"Forbidden: the right was withdrawn","extensions":{"code":"FORBIDDEN"}}]}`, `event: complete|data:`, ``)
	for asked := 0; asked < 5; { // it is, again and again
		if <-d.asked == "stays" {
			asked++
		}
	}
	publish(t, srv, "acme", 1)
	stays.wantData("1", "1")
}

// A re-check before the end prolongs the right, if Auth says so; and never one that a ping has renewed.
func TestACheckProlongsTheRight(t *testing.T) {
	t.Parallel()
	end := soon()
	d := newDesk(map[string]notifyql.Identity{"prolonged": acme(end), "not prolonged": acme(end), "renewed": acme(time.Now().Add(time.Hour))})
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: d.auth, Recheck: time.Hour})
	url := face(t, srv)
	prolonged, not := connect(t, url, `{"authToken":"prolonged"}`), connect(t, url, `{"authToken":"not prolonged"}`)
	renewed := connect(t, url, `{"authToken":"not prolonged"}`)
	renewed.send(`{"type":"ping","payload":{"authToken":"renewed"}}`)
	renewed.want(`{"type":"pong"}`)
	d.set("prolonged", acme(end.Add(time.Hour)))
	not.wantClose(4403, expired)
	prolonged.settled()
	renewed.settled()
	var asked []string
	for len(d.asked) > 0 {
		asked = append(asked, <-d.asked)
	}
	if all := strings.Join(asked, ","); strings.Count(all, "renewed") != 1 || strings.Count(","+all, ",prolonged") != 2 {
		t.Errorf("Auth was asked about %s", all)
	}
}

// What a re-check finds out of a token that a ping has replaced meanwhile is void.
func TestACheckOfAnOldToken(t *testing.T) {
	t.Parallel()
	d := newDesk(map[string]notifyql.Identity{"old": acme(time.Time{}), "new": acme(time.Time{})})
	asking, answer := make(chan struct{}), make(chan struct{})
	var again atomic.Bool // "old" is asked about
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Recheck: 5 * time.Millisecond,
		Auth: func(ctx context.Context, init json.RawMessage, r *http.Request) (notifyql.Identity, error) {
			if strings.Contains(string(init), "old") && again.Swap(true) {
				asking <- struct{}{}
				<-answer
				return notifyql.Identity{}, errors.New("not known any more")
			}
			return d.auth(ctx, init, r)
		},
	})
	c := connect(t, face(t, srv), `{"authToken":"old"}`)
	<-asking
	c.send(`{"type":"ping","payload":{"authToken":"new"}}`)
	c.want(`{"type":"pong"}`)
	close(answer)
	for asked := 0; asked < 4; { // by then that is over
		if <-d.asked == "new" {
			asked++
		}
	}
	c.settled()
}

// An Auth that panics refuses, also when it is asked again, where no request would catch it.
func TestAnAuthThatPanics(t *testing.T) {
	t.Parallel()
	var again bool // Auth is asked by one goroutine after the other here
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Recheck: time.Millisecond, Auth: func(context.Context, json.RawMessage, *http.Request) (notifyql.Identity, error) {
		if again {
			panic("no such user")
		}
		again = true
		return notifyql.Identity{}, nil
	}})
	url := face(t, srv)
	c := dial(t, url)
	c.init("")
	c.want(`{"type":"connection_ack"}`)
	c.wantClose(4403, "Forbidden: the right was withdrawn")
	c = dial(t, url)
	c.init("")
	c.wantClose(4403, "Forbidden")
}

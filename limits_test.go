package notifyql_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

// byName is an Auth for which a client is who its payload or its headers say: a user, and tenants with spaces between.
func byName(_ context.Context, init json.RawMessage, r *http.Request) (notifyql.Identity, error) {
	p := struct{ User, Tenants string }{r.Header.Get("X-User"), r.Header.Get("X-Tenants")}
	if init != nil {
		if err := json.Unmarshal(init, &p); err != nil {
			return notifyql.Identity{}, err
		}
	}
	return notifyql.Identity{UserID: p.User, Tenants: strings.Fields(p.Tenants)}, nil
}

// limited runs a server with these limits, on a bus of its own.
func limited(t *testing.T, l notifyql.Limits) (srv *notifyql.Server, url string) {
	t.Helper()
	srv = run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: byName, Limits: l})
	return srv, face(t, srv)
}

// ask makes a request that accepts events, and gives the answer with its body, unless that is a stream.
func ask(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() }) //nolint:errcheck // a test
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		return answer, ""
	}
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(b)
}

// wantLimited checks an answer that refuses for a limit.
func wantLimited(t *testing.T, answer *http.Response, body string, status int, errs string) {
	t.Helper()
	var r struct {
		Errors []struct{ Extensions struct{ RetryAfter int } }
	}
	if answer.StatusCode != status || body != `{"errors":`+errs+`}` || json.Unmarshal([]byte(body), &r) != nil {
		t.Fatalf("got %s %s", answer.Status, body)
	}
	if after := r.Errors[0].Extensions.RetryAfter; after == 0 || answer.Header.Get("Retry-After") != strconv.Itoa(after) {
		t.Errorf("Retry-After is %q, and the error says %d", answer.Header.Get("Retry-After"), after)
	}
}

// metricsOf is what Prometheus is told.
func metricsOf(t *testing.T, srv *notifyql.Server) string {
	t.Helper()
	w := httptest.NewRecorder()
	srv.OpsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func limitError(text, limit string, max, after int) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return `[{"message":` + string(b) + `,"extensions":{"code":"LIMIT_EXCEEDED","limit":"` + limit + `","max":` + strconv.Itoa(max) + `,"retryAfter":` + strconv.Itoa(after) + `}}]`
}

const channelC = `{"query":"subscription { channel(name: \"c\") { data } }"}`

// A user, and a tenant, has so many connections at once, sockets and event streams together, and no more; one that is
// closed makes room, one that was refused takes none. Those who are neither are not counted.
func TestConnectionsOfAUserAndOfATenant(t *testing.T) {
	t.Parallel()
	srv, url := limited(t, notifyql.Limits{ConnectionsPerUser: 2, ConnectionsPerTenant: 3})
	refused := func(user, tenants, reason string) {
		t.Helper()
		c := dial(t, url)
		c.init(`{"user":"` + user + `","tenants":"` + tenants + `"}`)
		c.wantClose(1013, reason)
	}
	const users, tenants = "the user has 2 connections already; try again in 5 s", "the tenant has 3 connections already; try again in 5 s"
	first := connect(t, url, `{"user":"u","tenants":"a"}`)
	if answer, _ := ask(t, http.MethodPut, url, "", "X-User", "u", "X-Tenants", "a"); answer.StatusCode != http.StatusCreated {
		t.Fatal(answer.Status)
	}
	refused("u", "b", users)
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		answer, body := ask(t, method, url, channelC, "X-User", "u")
		wantLimited(t, answer, body, http.StatusTooManyRequests, limitError(users, "connectionsPerUser", 2, 5))
	}
	connect(t, url, `{"user":"v","tenants":"b a"}`)
	refused("w", "c a", tenants)
	refused("", "a", tenants)
	answer, body := ask(t, http.MethodPost, url, channelC, "X-User", "w", "X-Tenants", "a")
	wantLimited(t, answer, body, http.StatusTooManyRequests, limitError(tenants, "connectionsPerTenant", 3, 5))
	for range 5 {
		connect(t, url, `{}`)
	}
	connect(t, url, `{"user":"w","tenants":"c"}`) // the refusals have left nothing
	connect(t, url, `{"user":"w","tenants":"c"}`)
	eventually(t, "the refused ones to be gone", func() bool {
		s := srv.Stats()
		return s.Users == 3 && s.Tenants == 3 && s.Connections == 10
	})
	first.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // it is gone
	eventually(t, "the first to be gone", func() bool { return srv.Stats().Connections == 9 })
	connect(t, url, `{"user":"u","tenants":"a"}`)
	for _, want := range []string{
		`notifyql_refused_total{limit="connectionsPerUser"} 3`, `notifyql_refused_total{limit="connectionsPerTenant"} 3`,
		`notifyql_refused_total{limit="connections"} 0`, "notifyql_users 3", "notifyql_tenants 3",
	} {
		if got := metricsOf(t, srv); !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

// A user, and a tenant, has so many subscriptions at once, on sockets, event streams and in process together. One that
// ends, however it ends, makes room; queries, and what is refused for another reason, take none.
func TestSubscriptionsOfAUserAndOfATenant(t *testing.T) {
	t.Parallel()
	srv, url := limited(t, notifyql.Limits{SubscriptionsPerUser: 3, SubscriptionsPerTenant: 4, Subscriptions: 5})
	errs := limitError("the user has 3 subscriptions already; try again in 5 s", "subscriptionsPerUser", 3, 5)
	u := notifyql.Identity{UserID: "u", Tenants: []string{"a", "", "a"}}

	c := connect(t, url, `{"user":"u","tenants":"a"}`)
	c.subscribed("1", "c")
	stream := events(t, url, "X-User", "u", "X-Tenants", "a")
	inside, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything, Identity: u})
	if err != nil {
		t.Fatal(err)
	}
	c.subscribe("2", anything)
	c.want(`{"id":"2","type":"error","payload":` + errs + `}`)
	c.subscribe("2", `{ __typename }`)
	c.want(`{"id":"2","type":"next","payload":{"data":{"__typename":"Query"}}}`, `{"id":"2","type":"complete"}`)
	var over *notifyql.RequestError
	if _, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything, Identity: u}); !errors.As(err, &over) || string(over.Errors) != errs {
		t.Errorf("in process: %v", err)
	}
	answer, body := ask(t, http.MethodPost, url, channelC, "X-User", "u")
	wantLimited(t, answer, body, http.StatusTooManyRequests, errs)
	_, token := ask(t, http.MethodPut, url, "", "X-User", "u")
	answer, body = ask(t, http.MethodPost, url, strings.TrimSuffix(channelC, "}")+`,"extensions":{"operationId":"1"}}`, "X-GraphQL-Event-Stream-Token", token, "Accept", "application/json")
	wantLimited(t, answer, body, http.StatusTooManyRequests, errs)

	v := connect(t, url, `{"user":"v","tenants":"a b"}`)
	v.subscribed("1", "c")
	v.subscribe("2", anything)
	v.want(`{"id":"2","type":"error","payload":` + limitError("the tenant has 4 subscriptions already; try again in 5 s", "subscriptionsPerTenant", 4, 5) + `}`)

	// Each end makes room for one.
	var held []*notifyql.Stream
	next := func(what string) {
		t.Helper()
		eventually(t, what+" to make room", func() bool {
			st, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything, Identity: u})
			if err != nil {
				return false
			}
			held = append(held, st)
			return true
		})
		if _, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything, Identity: u}); err == nil {
			t.Errorf("%s makes room for two", what)
		}
	}
	c.send(`{"id":"1","type":"complete"}`)
	next("a complete")
	stream.close() //nolint:errcheck // it has served
	next("the end of an event stream")
	inside.Close() //nolint:errcheck // it has served
	next("Close")
	for _, st := range held[:2] {
		st.Close() //nolint:errcheck // it has served
	}
	again := connect(t, url, `{"user":"u","tenants":"a"}`)
	again.subscribed("1", "c")
	for range 5 {
		again.subscribe("x", `subscription { nothing }`)
		if got := again.read(); !strings.Contains(got, "GRAPHQL_VALIDATION_FAILED") {
			t.Fatal(got)
		}
		again.subscribe("x", `subscription { channel(name: "c", after: "nonsense") { data } }`)
		if got := again.read(); !strings.Contains(got, "CURSOR_INVALID") {
			t.Fatal(got)
		}
	}
	next("what was refused for another reason")
	again.CloseNow() //nolint:errcheck // it has served
	next("a connection's end")
	for _, st := range held {
		st.Close() //nolint:errcheck // it has served
	}
	if got := metricsOf(t, srv); !strings.Contains(got, `limit="subscriptionsPerTenant"} 1`) {
		t.Error(got)
	}
}

// The subscriptions of one connection are limited as everything is.
func TestSubscriptionsOfAConnection(t *testing.T) {
	t.Parallel()
	srv, url := limited(t, notifyql.Limits{Subscriptions: 1})
	const errs = `[{"message":"This connection has 1 subscriptions already; complete one, or use another connection","extensions":{"code":"LIMIT_EXCEEDED","limit":"subscriptionsPerConnection","max":1}}]`
	c := connect(t, url, "")
	c.subscribed("1", "c")
	c.subscribe("2", anything)
	c.want(`{"id":"2","type":"error","payload":` + errs + `}`)
	_, token := ask(t, http.MethodPut, url, "")
	for i, status := range []int{http.StatusAccepted, http.StatusTooManyRequests} {
		answer, body := ask(t, http.MethodPost, url, strings.TrimSuffix(channelC, "}")+`,"extensions":{"operationId":"`+strconv.Itoa(i)+`"}}`, "X-GraphQL-Event-Stream-Token", token, "Accept", "application/json")
		if answer.StatusCode != status || i == 1 && body != `{"errors":`+errs+`}` {
			t.Errorf("%s %s", answer.Status, body)
		}
	}
	if n := srv.Stats().Refused["subscriptionsPerConnection"]; n != 2 {
		t.Errorf("%d refusals", n)
	}
}

// Connections, and subscriptions, come only so fast: from one address, of one user, of one tenant. Others are not
// concerned.
func TestHowFastTheyCome(t *testing.T) {
	t.Parallel()
	const most = 100 // far more than the ten that may come at once
	try := func(t *testing.T, url, payload string) error {
		c := dial(t, url)
		_ = c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"connection_init","payload":`+payload+`}`)) // Read says why
		_, _, err := c.Read(t.Context())
		return err
	}
	tooFast := func(err error, reason string) bool {
		var closed websocket.CloseError
		return errors.As(err, &closed) && closed.Code == 1013 && strings.HasPrefix(closed.Reason, reason+"; try again in ")
	}
	t.Run("connections of a user", func(t *testing.T) {
		_, url := limited(t, notifyql.Limits{ConnectsPerUser: 1})
		var err error
		n := 0
		for ; err == nil && n < most; n++ {
			err = try(t, url, `{"user":"u"}`)
		}
		if n <= 10 || !tooFast(err, "more than 1 connections a second of one user") {
			t.Errorf("connection %d: %v", n, err)
		}
		if err := try(t, url, `{"user":"v"}`); err != nil {
			t.Errorf("another user: %v", err)
		}
	})
	t.Run("connections of an address", func(t *testing.T) {
		srv, url := limited(t, notifyql.Limits{ConnectsPerAddress: 1})
		var err error
		n := 0
		for ; err == nil && n < most; n++ {
			err = try(t, url, `{}`)
		}
		const text = "more than 1 connections a second from one address"
		if n <= 10 || !tooFast(err, text) || srv.Stats().Refused["connectsPerAddress"] != 1 {
			t.Errorf("connection %d: %v", n, err)
		}
		answer, body := ask(t, http.MethodPost, url, channelC)
		for n = 1; answer.StatusCode == http.StatusOK && n < most; n++ {
			answer, body = ask(t, http.MethodPost, url, channelC)
		}
		wantLimited(t, answer, body, http.StatusTooManyRequests, limitError(text+"; try again in 1 s", "connectsPerAddress", 1, 1))
	})
	t.Run("subscriptions", func(t *testing.T) {
		srv, _ := limited(t, notifyql.Limits{SubscribesPerUser: 2, SubscribesPerTenant: 3})
		flood := func(user, tenant string) (n int, errs string) {
			for n = 1; n < most; n++ {
				st, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything, Identity: notifyql.Identity{UserID: user, Tenants: []string{tenant}}})
				var over *notifyql.RequestError
				if errors.As(err, &over) {
					return n, string(over.Errors)
				}
				st.Close() //nolint:errcheck // it has served
			}
			return n, ""
		}
		if n, got := flood("u", "a"); n <= 20 || got != limitError("more than 2 new subscriptions a second of one user; try again in 1 s", "subscribesPerUser", 2, 1) {
			t.Errorf("subscription %d: %s", n, got)
		}
		if n, got := flood("v", "a"); n <= 10 || got != limitError("more than 3 new subscriptions a second of one tenant; try again in 1 s", "subscribesPerTenant", 3, 1) {
			t.Errorf("subscription %d: %s", n, got)
		}
		if n, _ := flood("w", "b"); n <= 20 {
			t.Errorf("subscription %d of others is refused", n)
		}
	})
}

// A server that has as many connections as it may says so, and so does one that is busy saying so.
func TestNoRoomForAConnection(t *testing.T) {
	t.Parallel()
	srv, url := limited(t, notifyql.Limits{Connections: 1})
	connect(t, url, "")
	const text = "the server has no room for another connection; try again in 1 s"
	c := dial(t, url)
	c.wantClose(1013, text)
	answer, body := ask(t, http.MethodPost, url, channelC)
	wantLimited(t, answer, body, http.StatusServiceUnavailable, limitError(text, "connections", 1, 1))
	for range 1000 {
		// Nobody reads: each takes a second to be refused.
		_, answer, err := tryDial(t, url)
		if err == nil {
			continue
		}
		if answer == nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "1" {
			t.Errorf("got %v, %v", answer, err)
		}
		if n := srv.Stats().Refused["connections"]; n < 3 {
			t.Errorf("%d refusals", n)
		}
		return
	}
	t.Error("any number of sockets is accepted only to be closed")
}

// The limits of an older client's protocol are told in its words.
func TestLimitsInTheOlderProtocol(t *testing.T) {
	t.Parallel()
	_, url := limited(t, notifyql.Limits{ConnectionsPerUser: 1, SubscriptionsPerUser: 1})
	old := func() *client {
		c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{Subprotocols: []string{"graphql-ws"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() }) //nolint:errcheck // it has served
		return &client{c, t}
	}
	c := old()
	c.init(`{"user":"u"}`)
	c.want(`{"type":"connection_ack"}`)
	start := func(id string) { c.send(`{"id":"` + id + `","type":"start","payload":` + channelC + `}`) }
	start("1")
	start("2")
	errs := limitError("the user has 1 subscriptions already; try again in 5 s", "subscriptionsPerUser", 1, 5)
	c.want(`{"id":"2","type":"error","payload":` + string(bytes.Trim([]byte(errs), "[]")) + `}`)
	c = old()
	c.init(`{"user":"u"}`)
	const text = "the user has 1 connections already; try again in 5 s"
	c.want(`{"type":"connection_error","payload":{"message":"` + text + `"}}`)
	c.wantClose(1013, text)
}

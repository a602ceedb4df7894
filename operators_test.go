package notifyql_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	urlpkg "net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// who is the users of a list, in order.
func who(list []notifyql.ConnectionInfo) string {
	var users []string
	for _, c := range list {
		users = append(users, c.UserID)
	}
	slices.Sort(users)
	return strings.Join(users, " ")
}

// Operators see who is connected and by what, what is subscribed to and what that costs, and nothing that is secret.
func TestConnectionsAreListed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Auth: byName})
	url := face(t, srv)
	a := connect(t, url, `{"user":"anna","tenants":"a b","authToken":"hunter2"}`)
	a.subscribe("1", `subscription { itemsChanged(where: {version: {gt: 1}, or: [{note: {eq: "hunter2"}}, {note: {isNull: true}}]}) { kind } }`)
	a.subscribed("2", "c")
	b := connect(t, url, `{"user":"berta","tenants":"b"}`)
	b.subscribed("1", "c")
	connect(t, url, `{"user":"carla","tenants":"b"}`).subscribed("x", "c")
	old, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{Subprotocols: []string{"graphql-ws"}})
	if err != nil {
		t.Fatal(err)
	}
	defer old.CloseNow() //nolint:errcheck // it has served
	(&client{old, t}).init(`{"user":"dora"}`)
	(&client{old, t}).want(`{"type":"connection_ack"}`)
	events(t, url, "X-User", "emma", "X-Tenants", "a", "Authorization", "hunter2")

	for _, test := range []struct {
		f    notifyql.ConnectionFilter
		want string
	}{
		{notifyql.ConnectionFilter{}, "anna berta carla dora emma"},
		{notifyql.ConnectionFilter{UserID: "anna"}, "anna"},
		{notifyql.ConnectionFilter{Tenant: "b"}, "anna berta carla"},
		{notifyql.ConnectionFilter{Tenant: "b", UserID: "emma"}, ""},
		{notifyql.ConnectionFilter{Table: "public.items"}, "anna"},
		{notifyql.ConnectionFilter{Table: "items"}, ""},
		{notifyql.ConnectionFilter{ID: "nobody"}, ""},
	} {
		if got := who(srv.Connections(test.f, notifyql.Page{})); got != test.want {
			t.Errorf("%+v: %q, want %q", test.f, got, test.want)
		}
	}
	var paged []notifyql.ConnectionInfo
	for page := (notifyql.Page{Limit: 2}); ; page.After = paged[len(paged)-1].ID {
		list := srv.Connections(notifyql.ConnectionFilter{}, page)
		paged = append(paged, list...)
		if len(list) < 2 {
			break
		}
	}
	if got := who(paged); got != "anna berta carla dora emma" || !slices.IsSortedFunc(paged, func(a, b notifyql.ConnectionInfo) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("in pages: %s", got)
	}
	protocols := map[string]string{}
	for _, c := range paged {
		protocols[c.UserID] = c.Protocol
		if c.Since.IsZero() || !strings.HasPrefix(c.RemoteAddr, "127.0.0.1:") {
			t.Errorf("%+v", c)
		}
	}
	if protocols["anna"] != "graphql-transport-ws" || protocols["dora"] != "graphql-ws" || protocols["emma"] != "sse" {
		t.Errorf("protocols %v", protocols)
	}
	subs := srv.Connections(notifyql.ConnectionFilter{UserID: "anna"}, notifyql.Page{})[0].Subscriptions
	if len(subs) != 2 || subs[0].ID != "1" || subs[0].Field != "itemsChanged" || subs[0].Table != "public.items" || subs[0].Comparisons != 3 || subs[0].Shared != 1 ||
		subs[1].ID != "2" || subs[1].Field != "channel" || subs[1].Table != "" || subs[1].Comparisons != 0 || subs[1].Since.Before(subs[0].Since) {
		t.Errorf("%+v", subs)
	}
	if subs := srv.Connections(notifyql.ConnectionFilter{UserID: "berta"}, notifyql.Page{})[0].Subscriptions; len(subs) != 1 || subs[0].Shared != 2 {
		t.Errorf("%+v", subs)
	}
	a.send(`{"id":"1","type":"complete"}`)
	a.settled()
	if got := who(srv.Connections(notifyql.ConnectionFilter{Table: "public.items"}, notifyql.Page{})); got != "" {
		t.Errorf("%s is still subscribed", got)
	}
	b.CloseNow() //nolint:errcheck // it has served
	eventually(t, "berta to be gone", func() bool {
		return who(srv.Connections(notifyql.ConnectionFilter{}, notifyql.Page{})) == "anna carla dora emma"
	})
	all, err := json.Marshal(srv.Connections(notifyql.ConnectionFilter{}, notifyql.Page{}))
	if err != nil || strings.Contains(string(all), "hunter2") {
		t.Errorf("secrets are listed: %s (%v)", all, err)
	}
}

// A client that does not read is seen to fall behind, and can be ended all the same.
func TestAClientThatFallsBehindIsSeen(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: byName})
	url := face(t, srv)
	slow, fast := connect(t, url, `{"user":"slow","tenants":"acme"}`), connect(t, url, `{"user":"fast","tenants":"acme"}`)
	slow.subscribed("1", "c")
	fast.subscribed("1", "c")
	fast.SetReadLimit(1 << 20)
	for range 50 {
		publish(t, srv, "acme", strings.Repeat("x", 200_000)) // in all more than what lies between the two
	}
	for range 50 {
		fast.read()
	}
	eventually(t, "the slow one to be behind, and nobody else", func() bool {
		behind := map[string]int{}
		for _, c := range srv.Connections(notifyql.ConnectionFilter{}, notifyql.Page{}) {
			behind[c.UserID] = c.Behind
			if c.Behind != c.Subscriptions[0].Behind || c.Subscriptions[0].CatchingUp {
				t.Fatalf("%+v", c)
			}
		}
		return behind["slow"] > 0 && behind["slow"] < 50 && behind["fast"] == 0
	})
	if n := srv.Disconnect(notifyql.ConnectionFilter{UserID: "slow"}, notifyql.End{}); n != 1 {
		t.Errorf("%d were ended", n)
	}
	slow.CloseNow() //nolint:errcheck // it would have to read all before
	eventually(t, "it to be gone", func() bool { return srv.Stats().Connections == 1 })
}

// Operators end a connection, those of a user or of a tenant, for now or for good, and single subscriptions. The others go on,
// and so does what the clients can do again.
func TestConnectionsAreEnded(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: byName})
	url := face(t, srv)
	id := func(user string) string {
		list := srv.Connections(notifyql.ConnectionFilter{UserID: user}, notifyql.Page{})
		if len(list) != 1 {
			t.Fatalf("%s has %d connections", user, len(list))
		}
		return list[0].ID
	}
	end := func(f notifyql.ConnectionFilter, e notifyql.End, want int) {
		t.Helper()
		if n := srv.Disconnect(f, e); n != want {
			t.Errorf("%+v: %d were ended, want %d", f, n, want)
		}
	}
	u1, u2 := connect(t, url, `{"user":"u","tenants":"a"}`), connect(t, url, `{"user":"u","tenants":"b"}`)
	v, w := connect(t, url, `{"user":"v","tenants":"acme"}`), connect(t, url, `{"user":"w","tenants":"b"}`)
	for _, c := range []*client{u1, u2, v, w} {
		c.subscribed("1", "c")
	}
	stream, final := events(t, url, "X-User", "stream", "X-Tenants", "acme"), events(t, url, "X-User", "final", "X-Tenants", "acme")
	publish(t, srv, "acme", 1)
	for _, s := range []*eventStream{stream, final} {
		s.want(`event: next|data: {"data":{"channel":{"data":1}}}`)
	}

	end(notifyql.ConnectionFilter{UserID: "nobody"}, notifyql.End{}, 0)
	end(notifyql.ConnectionFilter{UserID: "u"}, notifyql.End{Reason: "a new version"}, 2)
	u1.wantClose(1013, "Disconnected by an operator: a new version")
	u2.wantClose(1013, "Disconnected by an operator: a new version")
	connect(t, url, `{"user":"u"}`) // it may come back
	end(notifyql.ConnectionFilter{Tenant: "b"}, notifyql.End{ForGood: true, Reason: strings.Repeat("ä", 100) + "\xff"}, 1)
	_, _, err := w.Read(t.Context())
	if code := websocket.CloseStatus(err); code != 1008 {
		t.Errorf("got %v", err)
	}
	end(notifyql.ConnectionFilter{ID: id("stream")}, notifyql.End{}, 1)
	stream.want("") // without complete: clients come back
	end(notifyql.ConnectionFilter{ID: id("final")}, notifyql.End{ForGood: true}, 1)
	final.want(`event: next|data: {"errors":[{"message":"Disconnected by an operator","extensions":{"code":"FORBIDDEN"}}]}`, `event: complete|data:`, ``)

	v.wantData("1", "1")
	v.subscribed("2", "c")
	for _, test := range []struct {
		connection, id string
		want           bool
	}{{id("v"), "3", false}, {"nobody", "1", false}, {"", "1", false}, {id("v"), "1", true}} {
		if got := srv.EndSubscription(test.connection, test.id, "too dear"); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
	v.want(`{"id":"1","type":"error","payload":[{"extensions":{"code":"FORBIDDEN"},"message":"the subscription was ended by an operator: too dear"}]}`)
	publish(t, srv, "acme", 2)
	v.wantData("2", "2")
	v.subscribed("1", "c")
	publish(t, srv, "acme", 3)
	got := []string{v.read(), v.read()}
	slices.Sort(got)
	if !strings.HasPrefix(got[0], `{"id":"1","type":"next"`) || !strings.HasPrefix(got[1], `{"id":"2","type":"next"`) {
		t.Errorf("got %s", got)
	}
	eventually(t, "the others to be gone", func() bool {
		return who(srv.Connections(notifyql.ConnectionFilter{}, notifyql.Page{})) == "u v"
	})
}

// The same over HTTP, under any prefix; names are anything, and what makes no sense ends nobody.
func TestTheAdminHandler(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: byName})
	url := face(t, srv)
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", srv.AdminHandler()))
	admin := httptest.NewServer(mux)
	defer admin.Close()
	call := func(method, path string, header ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, admin.URL+"/ops"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, strings.TrimSpace(string(b))
	}
	want := func(method, path string, status int, body string, header ...string) {
		t.Helper()
		if got, said := call(method, path, header...); got != status || !strings.Contains(said, body) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, got, said, status, body)
		}
	}
	list := func(query string) (users, next string) {
		t.Helper()
		_, body := call(http.MethodGet, "/admin/connections"+query)
		var r struct {
			Connections []notifyql.ConnectionInfo
			Next        string
		}
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		return who(r.Connections), r.Next
	}
	const odd = "a/b c%2F?d#ü"
	clients := map[string]*client{}
	for _, user := range []string{"anna", "berta", odd, "carla"} {
		payload, err := json.Marshal(map[string]string{"user": user, "tenants": "t-" + strings.ReplaceAll(user, " ", "")})
		if err != nil {
			t.Fatal(err)
		}
		clients[user] = connect(t, url, string(payload))
		clients[user].subscribed("s/1", "c")
	}
	for path, body := range map[string]string{"/health": "ready", "/livez": "ok", "/metrics": "notifyql_connections 4", "/errors": "errors"} {
		want(http.MethodGet, path, http.StatusOK, body)
	}
	if users, next := list(""); users != odd+" anna berta carla" || next != "" {
		t.Errorf("all: %q, %q", users, next)
	}
	if users, _ := list("?tenant=t-anna"); users != "anna" {
		t.Errorf("of a tenant: %q", users)
	}
	seen, next := list("?limit=3")
	if rest, end := list("?limit=3&after=" + next); strings.Count(seen, " ") < 2 || rest == "" || end != "" {
		t.Errorf("in pages: %q and %q", seen, rest)
	}
	for _, bad := range []string{"0", "1001", "x", "-1"} {
		want(http.MethodGet, "/admin/connections?limit="+bad, http.StatusBadRequest, "limit")
	}

	// A page of another origin.
	want(http.MethodDelete, "/admin/users/anna", http.StatusForbidden, "", "Sec-Fetch-Site", "cross-site")
	want(http.MethodDelete, "/admin/users/anna", http.StatusForbidden, "", "Origin", "https://evil.example")
	want(http.MethodDelete, "/admin/users/anna?forGood=perhaps", http.StatusBadRequest, "forGood")
	want(http.MethodDelete, "/admin/users/nobody", http.StatusOK, `{"ended":0}`)
	for _, path := range []string{"/admin/connections/nobody", "/admin/connections/nobody/subscriptions/1", "/admin/connections//subscriptions/s%2F1"} {
		want(http.MethodDelete, path, http.StatusNotFound, "")
	}
	for _, path := range []string{"/admin/users/", "/admin/tenants/", "/admin/connections/", "/admin/connections"} {
		if status, body := call(http.MethodDelete, path); status < 400 && body != `{"ended":0}` {
			t.Errorf("DELETE %s: %d %s", path, status, body)
		}
	}
	if users, _ := list(""); users != odd+" anna berta carla" {
		t.Fatalf("somebody was ended: %q are left", users)
	}

	want(http.MethodDelete, "/admin/users/"+urlpkg.PathEscape(odd)+"?reason=moved", http.StatusOK, `{"ended":1}`)
	clients[odd].wantClose(1013, "Disconnected by an operator: moved")
	want(http.MethodDelete, "/admin/tenants/t-anna?forGood=true", http.StatusOK, `{"ended":1}`)
	clients["anna"].wantClose(1008, "Disconnected by an operator")
	berta := srv.Connections(notifyql.ConnectionFilter{UserID: "berta"}, notifyql.Page{})[0].ID
	want(http.MethodDelete, "/admin/connections/"+berta+"/subscriptions/s%2F1?reason=enough", http.StatusOK, `{"ended":1}`)
	if got := clients["berta"].read(); !strings.Contains(got, "ended by an operator: enough") {
		t.Error(got)
	}
	want(http.MethodDelete, "/admin/connections/"+berta, http.StatusOK, `{"ended":1}`)
	clients["berta"].wantClose(1013, "Disconnected by an operator")
	clients["carla"].settled()
}

// The operation of a reserved event stream ends alone.
func TestAnOperationOfAReservedStreamIsEnded(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: byName})
	url := face(t, srv)
	_, token := ask(t, http.MethodPut, url, "", "X-User", "u")
	for _, id := range []string{"1", "2"} {
		answer, _ := ask(t, http.MethodPost, url, strings.TrimSuffix(channelC, "}")+`,"extensions":{"operationId":"`+id+`"}}`, "X-GraphQL-Event-Stream-Token", token, "Accept", "application/json")
		if answer.StatusCode != http.StatusAccepted {
			t.Fatal(answer.Status)
		}
	}
	answer, _ := ask(t, http.MethodGet, url, "", "X-GraphQL-Event-Stream-Token", token)
	lines := bufio.NewScanner(answer.Body)
	lines.Scan()
	stream := &eventStream{t, lines, answer.Body.Close}
	list := srv.Connections(notifyql.ConnectionFilter{}, notifyql.Page{})
	if len(list) != 1 || len(list[0].Subscriptions) != 2 || !srv.EndSubscription(list[0].ID, "1", "") {
		t.Fatalf("%+v", list)
	}
	stream.want(`event: next|data: {"id":"1","payload":{"errors":[{"extensions":{"code":"FORBIDDEN"},"message":"the subscription was ended by an operator"}]}}`, `event: complete|data: {"id":"1"}`)
	if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Shared: true, Data: 1}); err != nil {
		t.Fatal(err)
	}
	stream.want(`event: next|data: {"id":"2","payload":{"data":{"channel":{"data":1}}}}`)
}

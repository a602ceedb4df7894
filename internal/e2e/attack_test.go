package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// secret is what only the tenant globex may see.
const secret = "GLOBEX-SECRET"

const attackTables = `
	create table docs (id bigint primary key generated always as identity, tenant_id text not null, body text, data jsonb);
	create table "we""ird'; drop table docs; --" ("a""b'; --" int primary key, tenant_id text, "__proto__" text, "kind" text);
	comment on table docs is E'""" } type Query { x: Int } """ \n # $1 %s';
	comment on column docs.body is E'"""\\u0000 <script>';
	insert into docs (tenant_id, body) values ('globex', '` + secret + `'), ('acme', 'mine');
	select notifyql.watch('docs'), notifyql.watch('"we""ird''; drop table docs; --"')`

const tokenKey = "a secret of at least thirty-two bytes"

// token signs claims, or does what an attacker would.
func token(t *testing.T, header, key string, claims map[string]any) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte(key))
	io.WriteString(mac, signed)
	return signed + "." + b64.EncodeToString(mac.Sum(nil))
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

func claimsOf(tenant string) map[string]any {
	return map[string]any{"sub": "mallory of " + tenant, "tenant_id": tenant, "exp": time.Now().Add(time.Hour).Unix()}
}

// attacker is a client that speaks any protocol it likes, and remembers all that it was sent.
type attacker struct {
	t    *testing.T
	conn *websocket.Conn
	got  *bytes.Buffer
}

// dialAs opens a socket with a path and headers of one's own.
func dialAs(t *testing.T, srv *server, got *bytes.Buffer, path string, header http.Header, protocol string) *attacker {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+srv.addr+path, &websocket.DialOptions{Subprotocols: []string{protocol}, HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 24)
	t.Cleanup(func() { conn.CloseNow() })
	return &attacker{t, conn, got}
}

func (a *attacker) send(message string) {
	a.t.Helper()
	if err := a.conn.Write(a.t.Context(), websocket.MessageText, []byte(message)); err != nil && !errors.As(err, new(websocket.CloseError)) {
		a.t.Logf("sending %.60q: %v", message, err) // thrown out; the answer tells
	}
}

func (a *attacker) subscribe(id, query string, variables any) {
	a.t.Helper()
	b, err := json.Marshal(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": query, "variables": variables}})
	if err != nil {
		a.t.Fatal(err)
	}
	a.send(string(b))
}

// answer is the next message, past the acknowledgement, or "close" and the code.
func (a *attacker) answer() string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	for {
		_, b, err := a.conn.Read(ctx)
		a.got.Write(b)
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed):
			a.got.WriteString(closed.Reason)
			return fmt.Sprintf("close %d", closed.Code)
		case err != nil:
			a.t.Fatal(err)
		case !strings.Contains(string(b), `"connection_ack"`):
			return string(b)
		}
	}
}

// TestAttacks does to the real server what a client of one tenant may try in order to see another's rows or to harm it. Each is refused with
// its code, nothing that belongs to the other is in what any of them got, and the other's client notices nothing.
func TestAttacks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, attackTables)
	addr := freeAddr(t)
	srv := &server{launch(t, "", []string{
		"DATABASE_URL=" + db.URL, "NOTIFYQL_ADDR=" + addr, "NOTIFYQL_AUTH=jwt", "NOTIFYQL_JWT_SECRET=" + tokenKey, "NOTIFYQL_INIT_TIMEOUT=500ms",
		"NOTIFYQL_COMPRESSION=true", "NOTIFYQL_LOG_LEVEL=debug",
	}, binary(t), "serve"), addr}
	srv.await(t, "to be ready", func(h health) bool { return h.Status == "ready" })
	before := srv.peak(t)

	good := token(t, hs256, tokenKey, claimsOf("acme"))
	initWith := func(token string) string { return `{"type":"connection_init","payload":{"authToken":"` + token + `"}}` }
	var got bytes.Buffer // all that attackers were sent
	plain := func(t *testing.T) *attacker { return dialAs(t, srv, &got, "/graphql", nil, "graphql-transport-ws") }
	in := func(t *testing.T) *attacker {
		a := plain(t)
		a.send(initWith(good))
		return a
	}

	// The one who must notice nothing, and a cursor of his for others to steal.
	victim := dialAs(t, srv, new(bytes.Buffer), "/graphql", nil, "graphql-transport-ws")
	victim.send(initWith(token(t, hs256, tokenKey, claimsOf("globex"))))
	victim.subscribe("1", `subscription { docsChanged(initial: true) { kind cursor new { body } } }`, nil)
	if row := victim.answer(); !strings.Contains(row, secret) {
		t.Fatal(row)
	}
	var synced struct {
		Payload struct {
			Data struct{ DocsChanged struct{ Cursor string } }
		}
	}
	if err := json.Unmarshal([]byte(victim.answer()), &synced); err != nil {
		t.Fatal(err)
	}
	cursor := synced.Payload.Data.DocsChanged.Cursor
	if cursor == "" {
		t.Fatal("no cursor")
	}
	db.Exec(t, `insert into docs (tenant_id, body) values ('globex', '`+secret+` 2')`) // behind the cursor
	if row := victim.answer(); !strings.Contains(row, secret+" 2") {
		t.Fatal(row)
	}

	// One who only waits.
	live := in(t)
	live.subscribe("1", `subscription { docsChanged { kind cause new { body } old { body } } }`, nil)
	live.subscribe("2", `subscription { docsBatch(initial: true) { changes { kind new { body } } } }`, nil)
	if rows := live.answer(); !strings.Contains(rows, "mine") {
		t.Fatal(rows)
	}
	if rows := live.answer(); !strings.Contains(rows, "SYNCED") && !strings.Contains(rows, `"changes":[]`) {
		t.Fatal(rows)
	}

	tried := 0
	refused := func(name, want string, attack func(t *testing.T) string) {
		t.Run(name, func(t *testing.T) {
			tried++
			if answer := attack(t); !strings.Contains(answer, want) {
				t.Errorf("the answer is %.300q, want %q", answer, want)
			}
		})
	}

	// Who one is.
	for name, token := range map[string]string{
		"no algorithm":    token(t, `{"alg":"none"}`, "", claimsOf("globex")),
		"another key":     token(t, hs256, "some other secret, also of thirty-two bytes", claimsOf("globex")),
		"another tenant":  strings.Join(slices.Replace(strings.Split(good, "."), 1, 2, strings.Split(token(t, hs256, "x", claimsOf("globex")), ".")[1]), "."),
		"not signed":      good[:strings.LastIndex(good, ".")+1],
		"cut off":         good[:len(good)/2],
		"tenants nested":  token(t, hs256, tokenKey, map[string]any{"sub": "x", "tenant_id": map[string]any{"x": "globex"}, "exp": time.Now().Add(time.Hour).Unix()}),
		"for ever":        token(t, hs256, tokenKey, map[string]any{"sub": "x", "tenant_id": "globex"}),
		"expired":         token(t, hs256, tokenKey, map[string]any{"sub": "x", "tenant_id": "globex", "exp": 1}),
		"a key of theirs": token(t, `{"alg":"HS256","jwk":{"kty":"oct","k":"eA"},"jku":"http://`+addr+`/"}`, "x", claimsOf("globex")),
		"nothing":         "",
	} {
		refused("token: "+name, "close 4403", func(t *testing.T) string {
			a := plain(t)
			a.send(initWith(token))
			return a.answer()
		})
	}
	for _, tenant := range []string{"", "*", "%", "globex' or '1'='1", "globex\x00", "{globex}", `globex","acme`, "GLOBEX", "globex "} {
		refused(fmt.Sprintf("tenant %q", tenant), `"kind":"SYNCED"`, func(t *testing.T) string {
			a := plain(t)
			a.send(initWith(token(t, hs256, tokenKey, claimsOf(tenant))))
			a.subscribe("1", `subscription { docsChanged(initial: true) { kind new { body } } }`, nil)
			answer := a.answer() // the first: there are no rows
			if strings.HasPrefix(answer, "close 4403") {
				return `"kind":"SYNCED"` // a tenant that is none is refused as well
			}
			return answer
		})
	}
	refused("tenant beside the token", `"body":"mine"`, func(t *testing.T) string {
		a := dialAs(t, srv, &got, "/graphql?tenantId=globex&tenant_id=globex&token="+good, http.Header{
			"X-Tenant-Id": {"globex"}, "X-Forwarded-User": {"globex"}, "Tenant_id": {"globex"},
		}, "graphql-transport-ws")
		a.send(`{"type":"connection_init","payload":{"tenantId":"globex","tenant_id":"globex","tenants":["globex"],"authToken":"` + good + `"}}`)
		a.subscribe("1", `subscription ($tenantId: String) { docsChanged(initial: true, where: {body: {ne: $tenantId}}) { kind new { body } } }`, map[string]any{"tenantId": "globex", "tenant_id": "globex"})
		return a.answer()
	})
	refused("another init after the acknowledgement", "close 4429", func(t *testing.T) string {
		a := in(t)
		a.send(`{"type":"connection_init","payload":{"tenantId":"globex"}}`)
		return a.answer()
	})
	refused("another tenant by ping", "close 4403", func(t *testing.T) string {
		a := in(t)
		a.send(`{"type":"ping","payload":{"authToken":"` + token(t, hs256, tokenKey, claimsOf("initech")) + `"}}`)
		return a.answer()
	})
	refused("the tenant's column", "GRAPHQL_VALIDATION_FAILED", func(t *testing.T) string {
		a := in(t)
		a.subscribe("1", `subscription { docsChanged(tenant: "globex") { kind } }`, nil)
		return a.answer()
	})
	refused("a filter for another tenant", `"kind":"SYNCED"`, func(t *testing.T) string {
		a := in(t)
		a.subscribe("1", `subscription { docsChanged(initial: true, where: {or: [{tenantId: {eq: "globex"}}, {not: {tenantId: {eq: "acme"}}}]}) { kind new { body } } }`, nil)
		return a.answer()
	})

	// Cursors grant nothing, whosever they are.
	refused("another's cursor", `"kind":"SYNCED"`, func(t *testing.T) string {
		a := in(t)
		a.subscribe("1", `subscription ($c: Cursor) { docsChanged(after: $c) { kind new { body } } }`, map[string]any{"c": cursor})
		return a.answer()
	})
	forged := []string{"", "A", strings.Repeat("A", 4000), cursor + cursor, cursor[1:], strings.ToUpper(cursor), "' or 1=1 --", "\x00", "../../etc/passwd"}
	for n := 1; n < len(cursor); n += 5 {
		forged = append(forged, cursor[:n])
	}
	for n := 0; n < len(cursor); n += 5 {
		b := []byte(cursor)
		b[n] ^= 1
		forged = append(forged, string(b))
	}
	refused("forged cursors", "refused", func(t *testing.T) string {
		a := in(t)
		for i, c := range forged {
			a.subscribe(fmt.Sprint(i), `subscription ($c: Cursor) { docsChanged(after: $c) { kind new { body } } }`, map[string]any{"c": c})
			if answer := a.answer(); !strings.Contains(answer, "CURSOR_INVALID") && !strings.Contains(answer, "CURSOR_EXPIRED") && !strings.Contains(answer, "BAD_USER_INPUT") {
				return fmt.Sprintf("%q: %s", c, answer)
			}
		}
		tried += len(forged) - 1
		return "refused"
	})

	// Words that another language would take for its own.
	hostile := []string{"'; drop table docs; --", `" or ""="`, "$$; select 1; $$", "\\", "%", "_", "\u202e", `{"$ne": null}`, "${jndi:ldap://x}", "' union select body from docs --", "\x00", strings.Repeat("'", 5000)}
	refused("filters of other languages", "nothing", func(t *testing.T) string {
		a := in(t)
		for i, s := range hostile {
			for j, where := range []string{`{body: {eq: $s}}`, `{body: {like: $s}}`, `{body: {in: [$s]}}`, `{data: {contains: $j}}`, `{data: {path: [$s], eq: $j}}`} {
				a.subscribe(fmt.Sprint(i, j), `subscription ($s: String!, $j: JSON) { docsChanged(initial: true, where: `+where+`) { kind new { body } } }`, map[string]any{"s": s, "j": map[string]any{s: s}})
				answer := a.answer()
				if strings.Contains(answer, "INTERNAL") || strings.Contains(answer, `"INITIAL"`) && s != "%" || strings.Contains(answer, "INITIAL_UNAVAILABLE") {
					return answer
				}
				if strings.Contains(answer, `"INITIAL"`) {
					a.answer() // SYNCED
				}
				a.send(fmt.Sprintf(`{"id":"%d %d","type":"complete"}`, i, j))
				tried++
			}
		}
		return "nothing"
	})
	refused("channels of other names", "nothing", func(t *testing.T) string {
		a := in(t)
		for i, s := range append(hostile, "docs", "notifyql", "", strings.Repeat("x", 100_000)) {
			a.subscribe(fmt.Sprint(i), `subscription ($s: String!) { channel(name: $s) { data } }`, map[string]any{"s": s})
			a.send(fmt.Sprintf(`{"id":"%d","type":"complete"}`, i))
			tried++
		}
		a.subscribe("last", `subscription { nothing }`, nil)
		if answer := a.answer(); !strings.Contains(answer, `"last"`) && !strings.Contains(answer, `"error"`) {
			return answer
		}
		return "nothing"
	})
	refused("ids of other languages", "nothing", func(t *testing.T) string {
		a := in(t)
		for _, s := range hostile[:10] {
			a.subscribe(s, `subscription { nothing }`, nil)
			var m struct{ ID string }
			if answer := a.answer(); json.Unmarshal([]byte(answer), &m) != nil || m.ID != s {
				return answer
			}
			tried++
		}
		return "nothing"
	})

	// Documents that cost more than they should.
	for name, q := range map[string]struct{ query, code string }{
		"depth":         {"subscription { docsChanged " + strings.Repeat("{ new ", 5000) + strings.Repeat("}", 5000) + "}", "LIMIT_EXCEEDED"},
		"lists":         {"subscription { docsChanged(where: {id: {in: [" + strings.Repeat("1,", 20000) + "]}}) { kind } }", "LIMIT_EXCEEDED"},
		"aliases":       {"subscription { docsChanged { " + aliases(3000) + " } }", "LIMIT_EXCEEDED"},
		"fragments":     {fragments(30), "LIMIT_EXCEEDED"},
		"a circle":      {"subscription { ...a } fragment a on Subscription { ...b } fragment b on Subscription { ...a }", "GRAPHQL_VALIDATION_FAILED"},
		"directives":    {"subscription { docsChanged " + strings.Repeat("@include(if: true) ", 5000) + "{ kind } }", "L"},
		"a long name":   {"subscription { " + strings.Repeat("x", 60000) + " }", "GRAPHQL_VALIDATION_FAILED"},
		"open brackets": {strings.Repeat("[", 60000), "LIMIT_EXCEEDED"},
		"open braces":   {strings.Repeat("{", 60000), ""},
		"two fields":    {"subscription { a: docsChanged { kind } b: docsChanged { kind } }", "GRAPHQL_VALIDATION_FAILED"},
		"a pattern":     {`subscription { docsChanged(where: {or: [` + strings.Repeat(`{body: {like: "%a%a%a%a%"}},`, 300) + `]}) { kind } }`, "LIMIT_EXCEEDED"},
		"introspection": {"{ __schema { types { " + strings.Repeat("fields { type { ", 10) + "name" + strings.Repeat(" } }", 10) + " } } }", "L"},
	} {
		refused("document: "+name, q.code, func(t *testing.T) string {
			a := in(t)
			a.subscribe("1", q.query, nil)
			answer := a.answer()
			if !strings.Contains(answer, `"type":"error"`) {
				return "not refused: " + answer
			}
			return answer
		})
	}

	// A protocol that is not kept.
	for name, m := range map[string]struct{ message, want string }{
		"no JSON":               {"x", "close 4400"},
		"a list":                {"[]", "close 4400"},
		"nested":                {strings.Repeat("[", 100_000), "close 4400"},
		"no id":                 {`{"type":"subscribe","payload":{"query":"{__typename}"}}`, "close 4400"},
		"a server's message":    {`{"type":"next","id":"1","payload":{}}`, "close 4400"},
		"an id that is too big": {`{"type":"subscribe","id":"` + strings.Repeat("x", 5000) + `","payload":{"query":"{__typename}"}}`, "close 4400"},
		"too big":               {`{"type":"ping","payload":{"x":"` + strings.Repeat("x", 2<<20) + `"}}`, "close 1009"},
	} {
		refused("message: "+name, m.want, func(t *testing.T) string {
			a := in(t)
			a.send(m.message)
			return a.answer()
		})
	}
	refused("a compressed bomb", "close 1009", func(t *testing.T) string {
		conn, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/graphql", &websocket.DialOptions{
			Subprotocols: []string{"graphql-transport-ws"}, CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		a := &attacker{t, conn, &got}
		a.send(initWith(good))
		a.send(`{"type":"ping","payload":{"x":"` + strings.Repeat("x", 16<<20) + `"}}`) // 16 KB on the wire
		return a.answer()
	})
	refused("before the acknowledgement", "close 4401", func(t *testing.T) string {
		a := plain(t)
		a.subscribe("1", `subscription { docsChanged(initial: true) { new { body } } }`, nil)
		return a.answer()
	})
	refused("never begins", "close 4408", func(t *testing.T) string { return plain(t).answer() })
	refused("an id twice", "close 4409", func(t *testing.T) string {
		a := in(t)
		a.subscribe("1", `subscription { docsChanged { kind } }`, nil)
		a.subscribe("1", `subscription { docsChanged { kind } }`, nil)
		return a.answer()
	})
	refused("another protocol", "close 4406", func(t *testing.T) string {
		return dialAs(t, srv, &got, "/graphql", nil, "soap").answer()
	})
	refused("a page of another origin", "403", func(t *testing.T) string {
		_, resp, err := websocket.Dial(t.Context(), "ws://"+addr+"/graphql", &websocket.DialOptions{
			Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}, "Cookie": {"token=" + good}},
		})
		if err == nil || resp == nil {
			return "it was let in"
		}
		return resp.Status
	})

	// Over HTTP, where there is no connection_init.
	for name, r := range map[string]struct{ method, path, body, want string }{
		"a query of nobody":     {"GET", "/graphql?query=" + url.QueryEscape("{__schema{types{name}}}"), "", "401"},
		"a mutation by GET":     {"GET", "/graphql?query=" + url.QueryEscape("mutation{x}"), "", "40"},
		"a body without end":    {"POST", "/graphql", `{"query":"` + strings.Repeat("x", 2<<20), "4"},
		"a subscription":        {"POST", "/graphql", `{"query":"subscription { docsChanged { new { body } } }"}`, "4"},
		"a path up":             {"GET", "/graphql/../../../etc/passwd", "", "404"},
		"a profile":             {"GET", "/debug/pprof/heap", "", "404"},
		"an admin's page":       {"GET", "/admin/connections", "", "404"},
		"a method of one's own": {"BREW", "/graphql", "", "405"},
	} {
		refused("http: "+name, r.want, func(t *testing.T) string {
			req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+addr+r.path, strings.NewReader(r.body))
			if err != nil {
				t.Fatal(err)
			}
			if r.body != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			got.Write(b)
			return resp.Status
		})
	}

	// Whoever waited gets what is its own and nothing else.
	db.Exec(t, `insert into docs (tenant_id, body) values ('globex', '`+secret+` 3')`)
	db.Exec(t, `update docs set body = body || '!'; update docs set tenant_id = 'globex', body = '`+secret+`' where tenant_id = 'acme'`)
	db.Exec(t, `insert into docs (tenant_id, body) values ('acme', 'the last')`)
	for last := 0; last < 2; {
		answer := live.answer()
		if strings.HasPrefix(answer, "close") {
			t.Fatal(answer)
		}
		last += strings.Count(answer, "the last")
	}

	// What was there for everybody to read meanwhile.
	for _, path := range []string{"/errors", "/metrics", "/health"} {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&got, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	for what, text := range map[string]string{"what attackers were sent": got.String(), "the log": srv.stderr()} {
		for _, never := range []string{secret, tokenKey, good, strings.Split(good, ".")[2]} {
			if strings.Contains(text, never) {
				t.Errorf("%q is in %s", never, what)
			}
		}
	}
	if strings.Contains(srv.stderr(), "panic") {
		t.Errorf("the server panicked: %s", srv.stderr())
	}

	// The other's client is still there and has missed nothing, and the hostile table is one like others.
	if row := victim.answer(); !strings.Contains(row, secret+" 3") {
		t.Errorf("the other's client got %s", row)
	}
	peak := srv.peak(t)
	t.Logf("%d attacks; the server's memory: %d MB before, %d MB at most", tried, before>>20, peak>>20)
	if peak > before+256<<20 {
		t.Error("that is too much")
	}
}

// aliases are as many fields under names of their own.
func aliases(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d: kind ", i)
	}
	return b.String()
}

// fragments spread one another twice, so that n of them are 2^n fields.
func fragments(n int) string {
	var b strings.Builder
	b.WriteString("subscription { docsChanged { ...f0 } }")
	for i := range n {
		fmt.Fprintf(&b, " fragment f%d on DocsChange { ...f%d ...f%d }", i, i+1, i+1)
	}
	fmt.Fprintf(&b, " fragment f%d on DocsChange { kind }", n)
	return b.String()
}

package notifyql_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	urlpkg "net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

func networks(list ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(list))
	for i, p := range list {
		ps[i] = netip.MustParsePrefix(p)
	}
	return ps
}

// Whom a request is from: who it comes from, or, if that is a trusted proxy, whom that names, and so on from the right. What
// anybody else says is not believed.
func TestWhoIsBehindAProxy(t *testing.T) {
	t.Parallel()
	const peer = "127.0.0.1"
	for name, c := range map[string]struct {
		trusted []netip.Prefix
		tests   map[string]string // what comes in X-Forwarded-For, its lines with bars between: whom it is from
	}{
		"trusted": {networks("127.0.0.0/8", "10.0.0.0/8", "fd00::/8"), map[string]string{
			"": peer, "203.0.113.7": "203.0.113.7", "203.0.113.7:4242": "203.0.113.7", "::ffff:203.0.113.7": "203.0.113.7",
			"1.2.3.4, 203.0.113.7": "203.0.113.7", "1.2.3.4,203.0.113.7 ,10.1.1.1": "203.0.113.7", "10.9.9.9, 203.0.113.7": "203.0.113.7",
			"[2001:db8::1]:80, fd00::1": "2001:db8::1", "2001:db8::1": "2001:db8::1", "10.0.0.9, 10.0.0.8": "10.0.0.9",
			"203.0.113.7, unknown, 10.0.0.8": "10.0.0.8", "203.0.113.7, , 10.0.0.8": "10.0.0.8", "unknown": peer, "1.2.3.4,": peer,
			"1.2.3.4|203.0.113.7|10.0.0.8": "203.0.113.7", "203.0.113.7|": peer,
		}},
		"others are":   {networks("10.0.0.0/8", "::/0"), map[string]string{"203.0.113.7": peer, "10.0.0.1": peer}},
		"nobody is":    {nil, map[string]string{"203.0.113.7": peer, "10.0.0.1, 127.0.0.1": peer}},
		"everybody is": {networks("0.0.0.0/0"), map[string]string{"1.2.3.4, 203.0.113.7": "1.2.3.4", "2001:db8::1, 203.0.113.7": "2001:db8::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := make(chan string, 1)
			srv := run(t, notifyql.Config{
				Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), TrustedProxies: c.trusted,
				OnConnect: func(_ context.Context, c *notifyql.Connection) error {
					from <- c.RemoteAddr
					return nil
				},
			})
			url := face(t, srv)
			for chain, want := range c.tests {
				o := &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: http.Header{"X-Forwarded-For": strings.Split(chain, "|")}}
				conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http"), o)
				if err != nil {
					t.Fatal(err)
				}
				(&client{conn, t}).init("")
				if at, err := netip.ParseAddrPort(<-from); err != nil || at.Addr().String() != want {
					t.Errorf("%q: from %v (%v), want %s", chain, at, err, want)
				}
				conn.CloseNow() //nolint:errcheck // it has served
			}
		})
	}
}

// The limit of an address is the client's behind a trusted proxy, and the peer's otherwise, whatever its headers say. Of IPv6 a
// whole network is one address.
func TestTheLimitOfAnAddressBehindAProxy(t *testing.T) {
	t.Parallel()
	const most = 100 // far more than the ten that may come at once
	flood := func(url string, address func(int) string) (n int) {
		for ; n < most; n++ {
			if answer, _ := ask(t, http.MethodPost, url, channelC, "X-Forwarded-For", address(n)); answer.StatusCode == http.StatusTooManyRequests {
				return n
			}
		}
		return n
	}
	many := func(format string) func(int) string {
		return func(i int) string { return fmt.Sprintf(format, i+1) }
	}
	serve := func(trusted []netip.Prefix) string {
		return face(t, run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), TrustedProxies: trusted, Limits: notifyql.Limits{ConnectsPerAddress: 1}}))
	}
	url := serve(networks("127.0.0.1/32"))
	for _, test := range []struct {
		name    string
		address func(int) string
		limited bool
	}{
		{"one address", many("%d.2.3.4, 203.0.113.1"), true},
		{"another", many("%d.2.3.4, 203.0.113.2"), true},
		{"addresses", many("192.0.2.%d"), false},
		{"one network", many("2001:db8:0:1::%d"), true},
		{"another network", many("2001:db8:0:2::%d"), true},
		{"networks", many("2001:db8:1:%d::1"), false},
	} {
		if n := flood(url, test.address); test.limited != (n < most) || n < 10 {
			t.Errorf("%s: %d got through", test.name, n)
		}
	}
	if n := flood(serve(networks("10.0.0.0/8")), many("192.0.2.%d")); n == most {
		t.Error("who names another address each time is not limited")
	}
}

// front is a reverse proxy before the server, which asks it under a name of its own, and says, or not, which the client used.
func front(t *testing.T, backend string, say bool) string {
	t.Helper()
	to, err := urlpkg.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = "internal"
		if say {
			r.SetXForwarded()
			r.Out.Header.Set("X-Forwarded-Proto", "https") // as if it had taken off the encryption
		}
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// A page of another origin opens no socket with its visitor's cookie, through whatever proxy; and a page of the server's own
// origin does, where the proxy says which that is and is trusted. Nobody else has a say in it.
func TestCookiesAndOriginsBehindProxies(t *testing.T) {
	t.Parallel()
	serve := func(trusted ...string) string {
		auth := newJWT(t, notifyql.JWTOptions{Secret: []byte(jwtSecret), Cookie: "session"})
		return face(t, run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: auth, TrustedProxies: networks(trusted...)}))
	}
	cookie := "session=" + hs(t, nil)
	trusting, other := serve("127.0.0.0/8", "::1/128"), serve("10.0.0.0/8")
	for _, test := range []struct {
		name, url, origin string
		forged            []string // headers of the client's
		ok                bool
	}{
		{"own, trusted proxy", front(t, trusting, true), "https://app.example.com", nil, true},
		{"own, but unencrypted, trusted proxy", front(t, trusting, true), "http://app.example.com", nil, false},
		{"another, trusted proxy", front(t, trusting, true), "https://evil.example", nil, false},
		{"another, forged before a trusted proxy", front(t, trusting, true), "https://evil.example", []string{"X-Forwarded-Host", "evil.example"}, false},
		{"the proxy's name, trusted proxy", front(t, trusting, true), "https://internal", nil, false},
		{"own, a proxy that says nothing", front(t, trusting, false), "https://app.example.com", nil, false},
		{"own, a proxy that is not trusted", front(t, other, true), "https://app.example.com", nil, false},
		{"another, a proxy that is not trusted", front(t, other, true), "https://evil.example", nil, false},
		{"of several, the last", trusting, "https://live.example", []string{"X-Forwarded-Host", "evil.example, live.example", "X-Forwarded-Proto", "http, https"}, true},
		{"of several, the first", trusting, "https://evil.example", []string{"X-Forwarded-Host", "evil.example, live.example"}, false},
		{"of several, the last unencrypted", trusting, "http://live.example", []string{"X-Forwarded-Host", "live.example", "X-Forwarded-Proto", "http, https"}, false},
		{"own, no proxy", other, "https://app.example.com", nil, true},
		{"another, no proxy", other, "https://evil.example", nil, false},
		{"another, forged", other, "https://evil.example", []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-For", "10.0.0.1"}, false},
		{"own, with a forged word on encryption", other, "http://app.example.com", []string{"X-Forwarded-Proto", "https"}, true},
	} {
		o := &websocket.DialOptions{
			Subprotocols: []string{"graphql-transport-ws"}, Host: "app.example.com", HTTPHeader: http.Header{"Origin": {test.origin}, "Cookie": {cookie}},
		}
		for i := 0; i < len(test.forged); i += 2 {
			o.HTTPHeader.Set(test.forged[i], test.forged[i+1])
		}
		c, answer, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(test.url, "http"), o)
		switch {
		case (err == nil) != test.ok:
			t.Errorf("%s: %v", test.name, err)
		case err != nil && (answer == nil || answer.StatusCode != http.StatusForbidden):
			t.Errorf("%s: %v", test.name, answer)
		case err == nil:
			(&client{c, t}).init("")
			(&client{c, t}).want(`{"type":"connection_ack"}`)
			c.CloseNow() //nolint:errcheck // it has served
		}
	}
}

// Where the server itself encrypts, a page of its host that came unencrypted is of another origin, unless it is listed.
func TestAnUnencryptedPageOfAnEncryptedServer(t *testing.T) {
	t.Parallel()
	for _, origins := range [][]string{nil, {"http://127.0.0.1:*"}} {
		srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Origins: origins})
		h := httptest.NewTLSServer(srv.Handler())
		defer h.Close()
		for origin, ok := range map[string]bool{h.URL: true, strings.Replace(h.URL, "https", "http", 1): origins != nil} {
			c, answer, err := websocket.Dial(t.Context(), "wss"+strings.TrimPrefix(h.URL, "https"), &websocket.DialOptions{
				Subprotocols: []string{"graphql-transport-ws"}, HTTPClient: h.Client(), HTTPHeader: http.Header{"Origin": {origin}},
			})
			if (err == nil) != ok || err != nil && (answer == nil || answer.StatusCode != http.StatusForbidden) {
				t.Errorf("%s, with %q listed: %v", origin, origins, err)
			}
			if err == nil {
				c.CloseNow() //nolint:errcheck // it has served
			}
		}
	}
}

func TestATrustedProxyIsANetwork(t *testing.T) {
	t.Parallel()
	if _, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus(), TrustedProxies: []netip.Prefix{{}}}); err == nil || !strings.Contains(err.Error(), "TrustedProxies[0]") {
		t.Errorf("got %v", err)
	}
}

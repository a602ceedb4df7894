package notifyql_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/notifyql/notifyql"
)

const jwtSecret = "a secret that is long enough, and no more"

// token signs claims, beside which it has a user, an end and a tenant.
func token(t *testing.T, alg jose.SignatureAlgorithm, key any, more map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"sub": "u", "tenant_id": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	for name, v := range more {
		claims[name] = v
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func hs(t *testing.T, more map[string]any) string {
	t.Helper()
	return token(t, jose.HS256, []byte(jwtSecret), more)
}

func newJWT(t *testing.T, o notifyql.JWTOptions) notifyql.Auth {
	t.Helper()
	a, err := notifyql.JWT(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A token is taken wherever it may come from, over sockets, event streams and plain requests.
func TestAJWTComesInEveryWay(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: newJWT(t, notifyql.JWTOptions{Secret: []byte(jwtSecret), Cookie: "session"})})
	url, good := face(t, srv), hs(t, nil)
	var sockets []*client
	for _, payload := range []string{
		`{"Authorization":"Bearer ` + good + `"}`, `{"authorization":"` + good + `"}`, `{"authToken":"` + good + `"}`, `{"headers":{"Authorization":"Bearer ` + good + `"}}`,
	} {
		sockets = append(sockets, connect(t, url, payload))
	}
	sockets = append(sockets, connect(t, url, "", "Authorization", "Bearer "+good), connect(t, url, "{}", "Cookie", "session="+good))
	for _, c := range sockets {
		c.subscribed("1", "c")
	}
	stream := events(t, url, "Cookie", "session="+good)
	publish(t, srv, "other", 1)
	publish(t, srv, "acme", 2)
	for _, c := range sockets {
		c.wantData("1", "2")
	}
	stream.want(`event: next|data: {"data":{"channel":{"data":2}}}`)

	for header, want := range map[string]int{"Bearer " + good: http.StatusOK, "Bearer x": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"query":"{ __typename }"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", header)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body) //nolint:errcheck // a test
		answer.Body.Close()              //nolint:errcheck // a test
		if answer.StatusCode != want {
			t.Errorf("a POST with %.10q got %s", header, answer.Status)
		}
	}
}

// Who has no token, or one that is none, is closed with 4403 and told nothing more.
func TestTokensThatOpenNoSocket(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	keys := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	auth := newJWT(t, notifyql.JWTOptions{PublicKeys: keys, Issuer: "us", Audience: []string{"live"}})
	url := face(t, run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: auth}))
	with := func(name string, v any) string {
		return token(t, jose.EdDSA, private, map[string]any{"iss": "us", "aud": "live", name: v})
	}
	part := base64.RawURLEncoding.EncodeToString
	claims := part([]byte(`{"sub":"u","tenant_id":"acme","exp":9999999999,"iss":"us","aud":"live"}`))
	connect(t, url, `{"authToken":"`+with("x", 1)+`"}`)
	for name, tok := range map[string]string{
		"none":                   "",
		"alg none":               part([]byte(`{"alg":"none"}`)) + "." + claims + ".",
		"unsigned":               part([]byte(`{"alg":"EdDSA"}`)) + "." + claims + ".",
		"the public key as HMAC": token(t, jose.HS256, keys, map[string]any{"iss": "us", "aud": "live"}),
		"expired":                with("exp", time.Now().Unix()-1),
		"not yet valid":          with("nbf", time.Now().Unix()+1000),
		"another issuer":         with("iss", "them"),
		"another audience":       with("aud", "dead"),
	} {
		c := dial(t, url)
		if tok == "" {
			c.init("")
		} else {
			c.init(`{"authToken":"` + tok + `"}`)
		}
		t.Log(name)
		c.wantClose(4403, "Forbidden")
	}
}

// The issuer's keys are found at its address.
func TestAnIssuersKeys(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "1", Use: "sig"}}}) //nolint:errcheck // a test
	}))
	t.Cleanup(issuer.Close)
	auth := newJWT(t, notifyql.JWTOptions{JWKS: issuer.URL, RolesClaim: "realm_access.roles", TenantClaim: "https://a.example/tenants"})
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: auth})
	url := face(t, srv)
	signed := func(kid string) string {
		return `{"authToken":"` + token(t, jose.EdDSA, jose.JSONWebKey{Key: private, KeyID: kid}, map[string]any{"https://a.example/tenants": []string{"acme", "b"}}) + `"}`
	}
	c := connect(t, url, signed("1"))
	c.subscribed("1", "c")
	publish(t, srv, "b", 1)
	c.wantData("1", "1")
	other := dial(t, url)
	other.init(signed("2"))
	other.wantClose(4403, "Forbidden")
}

// A page of another origin, whose visitor's browser sends the cookie along, opens no socket with it.
func TestACookieIsNoUseToAnotherOrigin(t *testing.T) {
	t.Parallel()
	auth := newJWT(t, notifyql.JWTOptions{Secret: []byte(jwtSecret), Cookie: "session"})
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: auth, Origins: []string{"app.example.com", "*.example.org"}})
	url, cookie := face(t, srv), "session="+hs(t, nil)
	for origin, ok := range map[string]bool{
		url: true, "https://app.example.com": true, "https://a.example.org": true,
		"https://evil.example": false, "https://example.org": false, "https://app.example.com.evil.example": false, "https://evil.example/app.example.com": false,
		"null": false, "http://127.0.0.1:1": false,
	} {
		c, resp, err := tryDial(t, url, "Cookie", cookie, "Origin", origin)
		switch {
		case (err == nil) != ok:
			t.Errorf("%s: %v", origin, err)
		case err != nil && (resp == nil || resp.StatusCode != http.StatusForbidden):
			t.Errorf("%s: %v", origin, resp)
		case err == nil:
			c.init("")
			c.want(`{"type":"connection_ack"}`)
		}
	}
	// Nor can its page read what a request with the cookie is answered.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"?query={__typename}", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	r.Header.Set("Origin", "https://evil.example")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close() //nolint:errcheck // a test
	if allowed := answer.Header.Values("Access-Control-Allow-Origin"); answer.StatusCode != http.StatusOK || len(allowed) > 0 {
		t.Errorf("%s, for %v to read", answer.Status, allowed)
	}
	if st := srv.Stats(); st.Connections != 3 {
		t.Errorf("%d sockets are open", st.Connections)
	}
}

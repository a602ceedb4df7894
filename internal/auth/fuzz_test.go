package auth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// FuzzToken: a token that is found is one that the client wrote, bounded and not empty; and any text is refused unless it
// was signed.
func FuzzToken(f *testing.F) {
	j := newJWT(f, JWTOptions{Secret: []byte(longSecret)})
	good := sign(f, jose.HS256, []byte(longSecret), "", claimsWith(nil))
	f.Add(`{"Authorization":"Bearer `+good+`"}`, "", "")
	f.Add(`{"headers":{"authorization":"x.y.z"}}`, "Bearer a.b.c", "d.e.f")
	f.Add(`{"authToken":7}`, "Basic dTpw", "")
	f.Add("null", "bearer  "+good+" ", good)
	f.Add("[", "\x00", "\xff")
	f.Add(``, "Bearer "+rawToken(`{"alg":"none"}`, `{"exp":9e9}`, ``), "")
	f.Add(``, "", rawToken(`{"alg":"HS256","crit":["b64"],"b64":false}`, `{}`, ``))
	f.Fuzz(func(t *testing.T, init, header, cookie string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		r.Header.Set("Cookie", "session="+cookie)
		token, err := Token([]byte(init), r, "session")
		if err != nil {
			if token != "" {
				t.Fatalf("%q with %v", token, err)
			}
			return
		}
		if token == "" || len(token) > maxToken || strings.TrimSpace(token) != token {
			t.Fatalf("found %q", token)
		}
		plain := json.Valid([]byte(init)) && !strings.Contains(init, `\`) && utf8.ValidString(init)
		if plain && !strings.Contains(init+header+cookie, token) {
			t.Fatalf("found %q in %q, %q, %q", token, init, header, cookie)
		}
		if CarriesToken([]byte(init)) && !json.Valid([]byte(init)) {
			t.Fatalf("%q carries a token", init)
		}
		// Whitespace and the padding bits of base64 can be written in several ways.
		if id, err := j.verify(t.Context(), token); err == nil && id.UserID != "u1" {
			t.Fatalf("%q is %+v", token, id)
		}
	})
}

// FuzzClaims: signed claims, whatever they are, make an identity whose parts stand in them, or none.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{"exp":1900000060,"sub":"u","tenant_id":"a","roles":["r"]}`, `{"exp":1900000060.5,"tenant_id":[1,"b"],"roles":"x y"}`,
		`{"exp":1e400}`, `{"exp":-1}`, `{"exp":null}`, `{"exp":1900000060,"tenant_id":{"a":1}}`, `{"exp":1900000060,"exp":1}`,
		"{\"exp\":1900000060,\"tenant_id\":\"\xff\"}", `{"exp":1900000060,"aud":[1]}`, `[]`, `null`, `{"exp":1900000060,"tenant_id":"\ud800"}`,
	} {
		f.Add(seed)
	}
	j := newJWT(f, JWTOptions{Secret: []byte(longSecret)})
	f.Fuzz(func(t *testing.T, claims string) {
		id, err := j.verify(t.Context(), sign(t, jose.HS256, []byte(longSecret), "", claims))
		if err != nil {
			return
		}
		if !id.ExpiresAt.After(now) {
			t.Fatalf("%s is over at %v", claims, id.ExpiresAt)
		}
		if strings.Contains(claims, `\`) {
			return // written otherwise than it is
		}
		for _, part := range slices.Concat(id.Tenants, id.Roles, []string{id.UserID}) {
			if !strings.Contains(claims, part) {
				t.Fatalf("%q is not in %s", part, claims)
			}
		}
	})
}

// FuzzAnswer: whatever the hook answers, it is an identity that says so itself, or none.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"userId":"u","tenants":["a"],"roles":["r"],"expiresAt":"2030-01-01T00:00:00Z","claims":{"a":[1]}}`,
		`{"userId":1,"tenants":2}`, `{"tenants":[]}`, `{"userId":null,"tenants":null}`, `{"userId":"u","expiresAt":1e9}`, `{"userId":"u","expiresAt":-1}`,
		`{"USERID":"u"}`, `{}`, `[]`, `{"userId":"u"}x`, "{\"userId\":\"\xff\"}", `{"userId":"u","claims":7}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		id, err := parseAnswer([]byte(answer))
		if err != nil {
			if id.UserID != "" || id.Tenants != nil || id.Roles != nil || id.Claims != nil {
				t.Fatalf("%+v with %v", id, err)
			}
			return
		}
		if !json.Valid([]byte(answer)) || !utf8.ValidString(answer) || !strings.HasPrefix(strings.TrimLeft(answer, " \t\r\n"), "{") {
			t.Fatalf("%q is %+v", answer, id)
		}
		if strings.Contains(answer, `\`) {
			return
		}
		for _, part := range slices.Concat(id.Tenants, id.Roles, []string{id.UserID}) {
			if !strings.Contains(answer, part) {
				t.Fatalf("%q is not in %s", part, answer)
			}
		}
	})
}

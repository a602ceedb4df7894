package auth

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Each algorithm with a key that is right for it.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	rs, ed := rsaPair(t), edPair(t)
	p256, p384, p521 := ecPair(t, elliptic.P256()), ecPair(t, elliptic.P384()), ecPair(t, elliptic.P521())
	secret := pair{private: []byte(longSecret)}
	for alg, p := range map[jose.SignatureAlgorithm]pair{
		jose.HS256: secret, jose.HS384: secret, jose.HS512: secret,
		jose.RS256: rs, jose.RS384: rs, jose.RS512: rs, jose.PS256: rs, jose.PS384: rs, jose.PS512: rs,
		jose.ES256: p256, jose.ES384: p384, jose.ES512: p521, jose.EdDSA: ed,
	} {
		o := JWTOptions{PublicKeys: []byte(p.pem)}
		if p.pem == "" {
			o = JWTOptions{Secret: []byte(longSecret)}
		}
		token := sign(t, alg, p.private, "", claimsWith(nil))
		id, err := newJWT(t, o).verify(t.Context(), token)
		if err != nil || id.UserID != "u1" || !reflect.DeepEqual(id.Tenants, []string{"acme"}) || !reflect.DeepEqual(id.Roles, []string{"admin"}) || !id.ExpiresAt.Equal(now.Add(time.Minute)) {
			t.Errorf("%s: %+v, %v", alg, id, err)
		}
		// The same signature with one bit changed.
		at := strings.LastIndexByte(token, '.') + 1
		forged := token[:at] + string(token[at]^1) + token[at+1:]
		if _, err := newJWT(t, o).verify(t.Context(), forged); err == nil {
			t.Errorf("%s: a forged signature was taken", alg)
		}
		// Only another algorithm is allowed.
		for _, other := range algorithms {
			o.Algorithms = []string{string(other)}
			if j, err := NewJWT(o); err == nil && other != alg {
				j.now = func() time.Time { return now }
				if _, err := j.verify(t.Context(), token); err == nil {
					t.Errorf("%s was taken where %s is allowed", alg, other)
				}
			}
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	rs, stranger := rsaPair(t), ecPair(t, elliptic.P256())
	good := claimsWith(nil)
	with := func(name string, v any) string {
		return sign(t, jose.HS256, []byte(longSecret), "", claimsWith(map[string]any{name: v}))
	}
	const payload = `{"sub":"u1","tenant_id":"acme","exp":1900000060,"iss":"https://issuer","aud":"live"}`
	hs := JWTOptions{Secret: []byte(longSecret), Issuer: "https://issuer", Audience: []string{"other", "live"}}
	public := JWTOptions{PublicKeys: []byte(rs.pem)}
	if _, err := newJWT(t, hs).verify(t.Context(), sign(t, jose.HS256, []byte(longSecret), "", good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o     JWTOptions
		token string
		want  string
	}{
		"alg none":                      {hs, rawToken(`{"alg":"none"}`, payload, ""), "not allowed"},
		"alg None":                      {hs, rawToken(`{"alg":"None"}`, payload, ""), "not allowed"},
		"no alg":                        {hs, rawToken(`{}`, payload, ""), "not allowed"},
		"unsigned, with an alg":         {hs, rawToken(`{"alg":"HS256"}`, payload, ""), "no key"},
		"two parts":                     {hs, rawToken(`{"alg":"HS256"}`, payload), "no JWT"},
		"words":                         {hs, "open sesame", "no JWT"},
		"dots":                          {hs, "..", "not allowed"},
		"encrypted":                     {hs, "a.b.c.d.e", "no JWT"},
		"JSON serialization":            {hs, `{"payload":"e30","signatures":[]}`, "no JWT"},
		"another secret":                {hs, sign(t, jose.HS256, []byte(strings.ToUpper(longSecret)), "", good), "no key"},
		"HS with the public key":        {public, sign(t, jose.HS256, []byte(rs.pem), "", good), "not allowed"},
		"HS with it, HS being allowed":  {hs, sign(t, jose.HS256, []byte(rs.pem), "", good), "no key"},
		"a stranger's key":              {public, sign(t, jose.ES256, stranger.private, "", good), "not allowed"},
		"expired":                       {hs, with("exp", now.Unix()-1), "expired"},
		"expired now":                   {hs, with("exp", now.Unix()), "expired"},
		"not yet valid":                 {hs, with("nbf", now.Unix()+1), "not valid yet"},
		"issued in the future":          {hs, with("iat", now.Unix()+1), "in the future"},
		"another issuer":                {hs, with("iss", "https://issuer.evil"), "another issuer"},
		"no issuer":                     {hs, with("iss", nil), "another issuer"},
		"another audience":              {hs, with("aud", []string{"dead"}), "another audience"},
		"no audience":                   {hs, with("aud", nil), "another audience"},
		"no expiry":                     {hs, with("exp", nil), "lacks the claim exp"},
		"expiry as text":                {hs, with("exp", "tomorrow"), "malformed"},
		"expiry beyond time":            {hs, with("exp", 1e300), "malformed"},
		"a tenant that is an object":    {hs, with("tenant_id", map[string]any{"a": 1}), "tenant_id"},
		"a tenant that is a fraction":   {hs, with("tenant_id", 1.5), "tenant_id"},
		"tenants with one that is none": {hs, with("tenant_id", []any{"a", true}), "tenant_id"},
		"a user that is a list":         {hs, with("sub", []string{"u"}), "malformed"},
		"a role that is a number list":  {hs, with("roles", []any{map[string]any{}}), "roles"},
		"claims twice":                  {hs, sign(t, jose.HS256, []byte(longSecret), "", payload[:len(payload)-1]+`,"tenant_id":"b"}`), "malformed"},
		"claims that are a list":        {hs, sign(t, jose.HS256, []byte(longSecret), "", `[]`), "malformed"},
		"claims that are text":          {hs, sign(t, jose.HS256, []byte(longSecret), "", `x`), "malformed"},
	} {
		id, err := newJWT(t, c.o).verify(t.Context(), c.token)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v, want an error with %q", name, id, err, c.want)
		}
	}
}

func TestLeewayAndRequiredClaims(t *testing.T) {
	t.Parallel()
	o := JWTOptions{Secret: []byte(longSecret), Leeway: 30 * time.Second}
	for _, c := range []struct {
		claim string
		at    int64
		ok    bool
	}{{"exp", -29, true}, {"exp", -30, false}, {"nbf", 30, true}, {"nbf", 31, false}, {"iat", 30, true}, {"iat", 31, false}} {
		token := sign(t, jose.HS256, []byte(longSecret), "", claimsWith(map[string]any{c.claim: now.Unix() + c.at}))
		id, err := newJWT(t, o).verify(t.Context(), token)
		if (err == nil) != c.ok {
			t.Errorf("%s at %+ds: %v", c.claim, c.at, err)
		}
		if c.ok && !id.ExpiresAt.After(now) {
			t.Errorf("%s at %+ds was taken, and is over at %v", c.claim, c.at, id.ExpiresAt)
		}
	}
	o.Require = []string{"org.id", "https://a.example/b"}
	for _, c := range []struct {
		change map[string]any
		ok     bool
	}{
		{map[string]any{"org": map[string]any{"id": 1}, "https://a.example/b": false, "exp": nil}, true},
		{map[string]any{"org": map[string]any{"id": nil}, "https://a.example/b": 1}, false},
		{map[string]any{"org": 1, "https://a.example/b": 1}, false},
		{nil, false},
	} {
		id, err := newJWT(t, o).verify(t.Context(), sign(t, jose.HS256, []byte(longSecret), "", claimsWith(c.change)))
		if (err == nil) != c.ok || c.ok && !id.ExpiresAt.IsZero() {
			t.Errorf("%v: %+v, %v", c.change, id, err)
		}
	}
}

// What is wrong with the options is said when they are given, without a word of the key.
func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	rs := rsaPair(t)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(rs.private)
	if err != nil {
		t.Fatal(err)
	}
	const planted = "hunter2-hunter2-hunter2-hunter2-hunter2"
	for name, c := range map[string]struct {
		o    JWTOptions
		want string
	}{
		"nothing":                    {JWTOptions{}, "one only"},
		"two":                        {JWTOptions{Secret: []byte(planted), JWKS: "https://a"}, "one only"},
		"a short secret":             {JWTOptions{Secret: []byte("hunter2")}, "shorter than 32 bytes"},
		"a public key as the secret": {JWTOptions{Secret: []byte(rs.pem)}, "a PEM file"},
		"a private key":              {JWTOptions{PublicKeys: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}, "the public one"},
		"a short RSA key":            {JWTOptions{PublicKeys: []byte(newPair(t, short, short.Public()).pem)}, "1024 bits"},
		"P-224":                      {JWTOptions{PublicKeys: []byte(ecPair(t, elliptic.P224()).pem)}, "curve"},
		"no PEM":                     {JWTOptions{PublicKeys: []byte(planted)}, "no public key"},
		"PEM of nothing":             {JWTOptions{PublicKeys: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(planted)})}, "no public key"},
		"an algorithm for others":    {JWTOptions{PublicKeys: []byte(rs.pem), Algorithms: []string{"HS256"}}, "not right"},
		"a secret that is too short": {JWTOptions{Secret: []byte(planted), Algorithms: []string{"HS512"}}, "not right"},
		"none":                       {JWTOptions{Secret: []byte(planted), Algorithms: []string{"none"}}, "not right"},
		"HS by JWKS":                 {JWTOptions{JWKS: "https://a", Algorithms: []string{"HS256"}}, "not right"},
		"an address that is none":    {JWTOptions{JWKS: "ftp://hunter2@a"}, "no http or https URL"},
		"half an address":            {JWTOptions{JWKS: "https:///hunter2"}, "no http or https URL"},
		"a negative leeway":          {JWTOptions{Secret: []byte(planted), Leeway: -1}, "negative"},
	} {
		if _, err := NewJWT(c.o); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestSeveralKeysInPEM(t *testing.T) {
	t.Parallel()
	a, b := edPair(t), edPair(t)
	j := newJWT(t, JWTOptions{PublicKeys: []byte(a.pem + "\n" + b.pem)})
	for _, p := range []pair{a, b} {
		if _, err := j.verify(t.Context(), sign(t, jose.EdDSA, p.private, "any name", claimsWith(nil))); err != nil {
			t.Error(err)
		}
	}
}

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const publicKey = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
`

// readSettings makes settings of an environment.
func readSettings(t *testing.T, env map[string]string, args ...string) *settings {
	t.Helper()
	p, _, _ := world(env)
	var s settings
	fs := p.flags("serve", "")
	if err := p.register(fs, &s); err != nil {
		t.Fatal(err)
	}
	if _, err := p.parse(fs, args, 0); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestWaysToKnowClients(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(keys, []byte(publicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	const planted = "hunter2-hunter2-hunter2-hunter2-hunter2"
	for name, c := range map[string]struct {
		env  map[string]string
		want string // an error with this; empty: fine
	}{
		"a secret":            {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": planted}, ""},
		"keys in a file":      {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_PUBLIC_KEYS": keys}, ""},
		"an issuer's keys":    {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_JWKS_URL": "https://hunter2@a/keys"}, ""},
		"a hook":              {map[string]string{"NOTIFYQL_AUTH": "hook", "NOTIFYQL_HOOK_URL": "https://u:hunter2@a/who"}, ""},
		"a cookie":            {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": planted, "NOTIFYQL_JWT_COOKIE": "s", "NOTIFYQL_ORIGINS": "a.example"}, ""},
		"nothing":             {nil, ""},
		"no key":              {map[string]string{"NOTIFYQL_AUTH": "jwt"}, "NOTIFYQL_JWT_PUBLIC_KEYS and NOTIFYQL_JWT_JWKS_URL"},
		"two keys":            {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": planted, "NOTIFYQL_JWT_PUBLIC_KEYS": keys}, "one only"},
		"a short secret":      {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": "hunter2"}, "shorter than 32 bytes"},
		"no such file":        {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_PUBLIC_KEYS": keys + "2"}, "NOTIFYQL_JWT_PUBLIC_KEYS"},
		"a bad algorithm":     {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": planted, "NOTIFYQL_JWT_ALGORITHMS": "HS256, none"}, `"none"`},
		"no address":          {map[string]string{"NOTIFYQL_AUTH": "hook"}, "URL"},
		"a bad address":       {map[string]string{"NOTIFYQL_AUTH": "hook", "NOTIFYQL_HOOK_URL": "hunter2"}, "URL"},
		"a bad header":        {map[string]string{"NOTIFYQL_AUTH": "hook", "NOTIFYQL_HOOK_URL": "https://a", "NOTIFYQL_HOOK_HEADERS": "Cookie,Host"}, "Host"},
		"keys, but trust":     {map[string]string{"NOTIFYQL_AUTH": "trust", "NOTIFYQL_JWT_SECRET": planted}, "set it to jwt"},
		"keys, but nothing":   {map[string]string{"NOTIFYQL_JWT_JWKS_URL": "https://hunter2@a"}, "set it to jwt"},
		"a hook, but jwt":     {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": planted, "NOTIFYQL_HOOK_URL": "https://hunter2@a"}, "set it to hook"},
		"a cookie for anyone": {map[string]string{"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": planted, "NOTIFYQL_JWT_COOKIE": "s", "NOTIFYQL_ORIGINS": "*"}, "name the origins"},
	} {
		auth, err := readSettings(t, c.env).authenticate(slog.New(slog.DiscardHandler))
		switch {
		case c.want == "" && (err != nil || (auth == nil) != (name == "nothing")):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

// Each of the settings arrives where it is meant for.
func TestAuthSettings(t *testing.T) {
	s := readSettings(t, map[string]string{"NOTIFYQL_JWT_AUDIENCE": "a, b,", "NOTIFYQL_AUTH_RECHECK": "1m", "NOTIFYQL_JWT_REQUIRE": "sub"},
		"--jwt-issuer", "i", "--jwt-leeway", "5s", "--jwt-tenant-claim", "org.id", "--jwt-user-claim", "u", "--jwt-roles-claim", "r", "--jwt-cookie", "c",
		"--jwt-algorithms", "ES256", "--hook-timeout", "2s", "--hook-headers", "X-A")
	a := s.auth
	if a.recheck != time.Minute || a.jwt.Issuer != "i" || a.jwt.Leeway != 5*time.Second || a.jwt.TenantClaim != "org.id" || a.jwt.UserClaim != "u" ||
		a.jwt.RolesClaim != "r" || a.jwt.Cookie != "c" || strings.Join(a.audience, "|") != "a|b" || strings.Join(a.require, "|") != "sub" ||
		strings.Join(a.algorithms, "|") != "ES256" || a.hook.Timeout != 2*time.Second || strings.Join(a.hook.Headers, "|") != "X-A" {
		t.Errorf("%+v", a)
	}
	if d := readSettings(t, nil).auth; strings.Join(d.require, "|") != "exp" || strings.Join(d.hook.Headers, "|") != "Authorization|Cookie" {
		t.Errorf("by default %+v", d)
	}
}

// No key and no address in the environment is printed, whatever is asked or goes wrong.
func TestAuthSettingsAreNotPrinted(t *testing.T) {
	env := map[string]string{
		"NOTIFYQL_AUTH": "jwt", "NOTIFYQL_BUS": "memory", "NOTIFYQL_ADDR": "256.0.0.1:1",
		"NOTIFYQL_JWT_SECRET": "hunter2-hunter2-hunter2-hunter2-hunter2", "NOTIFYQL_JWT_JWKS_URL": "https://hunter2@a", "NOTIFYQL_HOOK_URL": "https://hunter2@a",
	}
	for _, kind := range []string{"jwt", "hook", "trust", ""} {
		env["NOTIFYQL_AUTH"] = kind
		for _, args := range [][]string{{"serve"}, {"serve", "-h"}, {"serve", "--no-such-flag"}, {"config"}} {
			p, out, errs := world(env)
			p.main(t.Context(), args)
			if said := out.String() + errs.String(); said == "" || strings.Contains(said, "hunter2") {
				t.Errorf("%s %v: said %s", kind, args, said)
			}
		}
	}
}

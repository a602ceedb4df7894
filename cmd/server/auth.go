package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/notifyql/notifyql"
)

// authSettings are those of the ways to know clients.
type authSettings struct {
	kind    string
	recheck time.Duration

	jwt        notifyql.JWTOptions
	secret     string
	publicKeys string // a file
	algorithms []string
	audience   []string
	require    []string

	hook  notifyql.HookOptions
	hooks notifyql.HTTPHooks
}

// authenticate makes the Auth that the settings name. No key, and no address, is in its errors.
func (s *settings) authenticate(log *slog.Logger) (notifyql.Auth, error) {
	a := &s.auth
	if a.kind != "jwt" && (a.secret != "" || a.publicKeys != "" || a.jwt.JWKS != "") {
		return nil, errors.New("there are keys for tokens, which NOTIFYQL_AUTH does not ask for; set it to jwt")
	}
	if a.kind != "hook" && a.hook.URL != "" {
		return nil, errors.New("there is NOTIFYQL_HOOK_URL, which NOTIFYQL_AUTH does not ask for; set it to hook")
	}
	switch a.kind {
	case "jwt":
		return s.jwt()
	case "hook":
		if a.hook.URL == "" {
			return nil, errors.New("NOTIFYQL_AUTH is hook, and NOTIFYQL_HOOK_URL does not say whom to ask")
		}
		auth, err := notifyql.Hook(a.hook)
		if err != nil {
			return nil, fmt.Errorf("NOTIFYQL_HOOK_URL and what belongs to it: %s", without(err))
		}
		return auth, nil
	case "trust":
		log.Warn("auth is trust: whoever reaches this server may name any tenant and read its rows; for trying out, or behind a backend that checks")
		return notifyql.Trust(), nil
	case "":
		log.Warn("no auth: every client is refused; set NOTIFYQL_AUTH")
		return nil, nil
	}
	return nil, fmt.Errorf("NOTIFYQL_AUTH is %q; it can be jwt, hook or trust", a.kind)
}

func (s *settings) jwt() (notifyql.Auth, error) {
	a := &s.auth
	o := a.jwt
	o.Secret, o.Algorithms, o.Audience, o.Require = []byte(a.secret), a.algorithms, a.audience, a.require
	if a.publicKeys != "" {
		keys, err := os.ReadFile(a.publicKeys)
		if err != nil {
			return nil, fmt.Errorf("NOTIFYQL_JWT_PUBLIC_KEYS: %w", err)
		}
		o.PublicKeys = keys
	}
	if o.Cookie != "" && slices.Contains(s.origins, "*") {
		return nil, errors.New("NOTIFYQL_JWT_COOKIE with NOTIFYQL_ORIGINS=* would let every page use its visitors' cookies; name the origins")
	}
	ways := 0
	for _, way := range []string{a.secret, a.publicKeys, o.JWKS} {
		if way != "" {
			ways++
		}
	}
	if ways != 1 {
		return nil, errors.New("NOTIFYQL_AUTH is jwt, which needs one of NOTIFYQL_JWT_SECRET, NOTIFYQL_JWT_PUBLIC_KEYS and NOTIFYQL_JWT_JWKS_URL, and one only")
	}
	auth, err := notifyql.JWT(o)
	if err != nil {
		return nil, fmt.Errorf("the settings NOTIFYQL_JWT_…: %s", without(err))
	}
	return auth, nil
}

// without is an error of the package's, without its name in front.
func without(err error) string { return strings.TrimPrefix(err.Error(), "notifyql: ") }

// words are separated by commas.
func words(s string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list, nil
}

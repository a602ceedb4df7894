package auth

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer serves keys. Its clock is the key set's.
type issuer struct {
	*httptest.Server
	jwt *JWT

	mu    sync.Mutex
	now   time.Time
	body  string
	asked int
	serve http.HandlerFunc // instead of the body
}

func newIssuer(t *testing.T, keys ...jose.JSONWebKey) *issuer {
	t.Helper()
	i := &issuer{now: now}
	i.publish(t, keys...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.asked++
		body, serve := i.body, i.serve
		i.mu.Unlock()
		if serve != nil {
			serve(w, r)
			return
		}
		io.WriteString(w, body) //nolint:errcheck // a test
	}))
	j, err := NewJWT(JWTOptions{JWKS: i.URL + "/keys?secret=hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	set := j.keys.(*keySet)
	set.now = func() time.Time {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.now
	}
	j.now = func() time.Time { return now }
	i.jwt = j
	t.Cleanup(func() {
		set.client.CloseIdleConnections()
		i.Close()
	})
	return i
}

func (i *issuer) publish(t *testing.T, keys ...jose.JSONWebKey) {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body, i.serve = string(b), nil
}

func (i *issuer) later(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
}

func (i *issuer) answer(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serve = h
}

func (i *issuer) times() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func (i *issuer) check(ctx context.Context, token string) error {
	_, err := i.jwt.verify(ctx, token)
	return err
}

// Keys are asked for once, again when one is unknown, but not more often than the pause allows, and when they are old.
func TestKeysAreCachedAndRotated(t *testing.T) {
	t.Parallel()
	first, second := edPair(t), edPair(t)
	i := newIssuer(t, jose.JSONWebKey{Key: first.public, KeyID: "1"})
	token := func(p pair, kid string) string { return sign(t, jose.EdDSA, p.private, kid, claimsWith(nil)) }
	step := func(what, tok string, ok bool, asked int) {
		t.Helper()
		if err := i.check(t.Context(), tok); (err == nil) != ok {
			t.Errorf("%s: %v", what, err)
		}
		if got := i.times(); got != asked {
			t.Errorf("%s: asked %d times, want %d", what, got, asked)
		}
	}
	step("the first token", token(first, "1"), true, 1)
	step("the next", token(first, "1"), true, 1)
	step("a token that names no key", token(first, ""), true, 1)
	i.publish(t, jose.JSONWebKey{Key: second.public, KeyID: "2"})
	step("an unknown key, at once", token(second, "2"), false, 1)
	i.later(jwksPause)
	step("an unknown key, after the pause", token(second, "2"), true, 2)
	step("the old key", token(first, "1"), false, 2)
	step("any number of unknown keys", token(first, "no such"), false, 2)
	i.later(jwksFresh)
	step("old keys", token(second, "2"), true, 3)
	step("a known name with another's key", token(first, "2"), false, 3)

	// The issuer is gone for a while, then for long.
	i.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	i.later(jwksFresh)
	step("without an answer", token(second, "2"), true, 4)
	i.later(jwksStale)
	step("without an answer for long", token(second, "2"), false, 5)
	if err := i.check(t.Context(), token(second, "2")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("then: %v", err)
	}
}

// Many that need the keys at once ask once; who goes away meanwhile does not take the answer from the others.
func TestKeysAreAskedForOnce(t *testing.T) {
	t.Parallel()
	p := edPair(t)
	i := newIssuer(t, jose.JSONWebKey{Key: p.public, KeyID: "1"})
	arrived, answer := make(chan struct{}), make(chan struct{})
	body := i.body
	i.answer(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-answer
		io.WriteString(w, body) //nolint:errcheck // a test
	})
	token := sign(t, jose.EdDSA, p.private, "1", claimsWith(nil))
	done := make(chan error, 10)
	leaving, leave := context.WithCancel(t.Context())
	go func() { done <- i.check(leaving, token) }()
	<-arrived
	leave()
	for range cap(done) - 1 {
		go func() { done <- i.check(t.Context(), token) }()
	}
	close(answer)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := i.times(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// Whatever the address answers but a set of keys lets nobody in, and its secrets stay out of what is said.
func TestAnswersThatAreNoKeys(t *testing.T) {
	t.Parallel()
	p, ec := edPair(t), ecPair(t, elliptic.P256())
	token := sign(t, jose.EdDSA, p.private, "1", claimsWith(nil))
	set := func(keys ...jose.JSONWebKey) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys}) //nolint:errcheck // a test
		}
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) } //nolint:errcheck // a test
	}
	for name, c := range map[string]struct {
		serve       http.HandlerFunc
		unavailable bool
	}{
		"an error":             {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2", 500) }, true},
		"a page":               {text("<html>hunter2"), true},
		"an object":            {text(`{"hunter2":1}`), true},
		"no keys":              {text(`{"keys":[]}`), true},
		"keys of no kind":      {text(`{"keys":[{"kty":"hunter2"},7]}`), true},
		"too much":             {text(strings.Repeat("hunter2 ", jwksBytes/4)), true},
		"elsewhere":            {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/hunter2", http.StatusFound) }, true},
		"cut off":              {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true},
		"a key to encrypt":     {set(jose.JSONWebKey{Key: p.public, KeyID: "1", Use: "enc"}), true},
		"a shared secret":      {set(jose.JSONWebKey{Key: []byte(longSecret), KeyID: "1"}), true},
		"another name":         {set(jose.JSONWebKey{Key: p.public, KeyID: "2"}), false},
		"another algorithm":    {set(jose.JSONWebKey{Key: p.public, KeyID: "1", Algorithm: "RS256"}), true},
		"a stranger's key":     {set(jose.JSONWebKey{Key: edPair(t).public, KeyID: "1"}), false},
		"a key of other curve": {set(jose.JSONWebKey{Key: ec.public, KeyID: "1"}), false},
	} {
		i := newIssuer(t)
		i.answer(c.serve)
		err := i.check(t.Context(), token)
		if err == nil || errors.Is(err, ErrUnavailable) != c.unavailable || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), i.URL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	i := newIssuer(t)
	i.Close()
	if err := i.check(t.Context(), token); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
	// A private key that was published by mistake is still a key.
	i = newIssuer(t)
	i.answer(set(jose.JSONWebKey{Key: p.private, KeyID: "1"}))
	if err := i.check(t.Context(), token); err != nil {
		t.Error(err)
	}
}

// A key that says which algorithm it is for is for no other, even if it could be.
func TestAKeyIsForItsAlgorithm(t *testing.T) {
	t.Parallel()
	p := rsaPair(t)
	i := newIssuer(t, jose.JSONWebKey{Key: p.public, KeyID: "1", Algorithm: "RS256"})
	for alg, ok := range map[jose.SignatureAlgorithm]bool{jose.RS256: true, jose.RS512: false, jose.PS256: false} {
		if err := i.check(t.Context(), sign(t, alg, p.private, "1", claimsWith(nil))); (err == nil) != ok {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

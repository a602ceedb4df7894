package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	jwksTimeout = 5 * time.Second
	jwksBytes   = 512 << 10
	// jwksKeys bounds how many signatures are tried for a token that names no key.
	jwksKeys = 64
	// jwksFresh is how long keys are used before they are asked for again.
	jwksFresh = 10 * time.Minute
	// jwksPause is the least time between two questions, however many tokens name keys that nobody knows.
	jwksPause = 10 * time.Second
	// jwksStale is how long keys are used whose address answers no more.
	jwksStale = time.Hour
)

// keySet is the keys at an address (RFC 7517). They are asked for when they are needed: at first, when they are old, and
// when a token names one that is not among them, as after a rotation. One goroutine asks at a time, one that needs the
// answer; who can do with the keys that are there does not wait for it.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu     sync.Mutex
	keys   fixed
	got    time.Time     // when keys were
	asked  time.Time     // when they were asked for last
	asking chan struct{} // closed when the answer is there; nil: nobody asks
	failed error         // of the last question
}

func newKeySet(url string) *keySet {
	return &keySet{url: url, client: newClient(), now: time.Now}
}

// find implements keys. Its error wraps ErrUnavailable: there are no keys that could be trusted.
func (s *keySet) find(ctx context.Context, id string, alg jose.SignatureAlgorithm) ([]key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		age := s.now().Sub(s.got)
		fit := s.keys.match(id, alg)
		usable := len(fit) > 0 && age < jwksStale
		due := (!usable || age >= jwksFresh) && s.now().Sub(s.asked) >= jwksPause
		switch {
		case s.asking != nil && !usable:
			asking := s.asking
			s.mu.Unlock()
			err := wait(ctx, asking)
			s.mu.Lock()
			if err != nil {
				return nil, err
			}
		case s.asking == nil && due:
			s.ask(ctx)
		case usable:
			return fit, nil
		case s.failed == nil:
			return nil, nil // no such key
		default:
			return nil, s.failed
		}
	}
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask gets the keys anew. It needs the lock, and gives it away meanwhile. That the client goes away does not end it: others
// may wait for the answer.
func (s *keySet) ask(ctx context.Context) {
	s.asking = make(chan struct{})
	s.asked = s.now()
	s.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), jwksTimeout, errors.New("no answer in time"))
	keys, err := s.fetch(ctx)
	cancel()
	s.mu.Lock()
	if err != nil {
		s.failed = unavailable("the keys (JWKS): %v", err)
	} else {
		s.keys, s.got, s.failed = keys, s.now(), nil
	}
	close(s.asking)
	s.asking = nil
}

func (s *keySet) fetch(ctx context.Context) (fixed, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, errors.New("the address is none")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	status, body, err := do(s.client, r, jwksBytes)
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, fmt.Errorf("the answer is %d", status)
	}
	return parseKeySet(body)
}

// parseKeySet takes the public keys that are for signatures. What else is there, and keys of kinds that are not known, is
// passed over, as the standard has it; a shared secret that is published is none.
func parseKeySet(text []byte) (fixed, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is no set of keys")
	}
	var all fixed
	for _, raw := range set.Keys {
		var web jose.JSONWebKey
		if web.UnmarshalJSON(raw) != nil || web.Use != "" && web.Use != "sig" {
			continue
		}
		if k, err := newKey(web.KeyID, web.Public().Key); err == nil && k.restrict(web.Algorithm) {
			all = append(all, k)
		}
		if len(all) == jwksKeys {
			break
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the answer has no key that tokens can be signed with")
	}
	return all, nil
}

// restrict leaves of a key's algorithms the one that it says it is for. It reports whether there is one.
func (k *key) restrict(alg string) bool {
	if alg == "" {
		return true
	}
	for _, one := range k.algs {
		if string(one) == alg {
			k.algs = []jose.SignatureAlgorithm{one}
			return true
		}
	}
	return false
}

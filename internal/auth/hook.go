package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"time"
)

// HookOptions say whom to ask.
type HookOptions struct {
	// URL is asked by POST. Its answer of 200 has the identity as JSON; 401 and 403 refuse the client.
	URL string
	// Headers names the headers of the client's request that are sent along; no others are. Nil: Authorization and Cookie.
	Headers []string
	// Timeout is how long an answer may take: 3 s.
	Timeout time.Duration
}

const (
	hookTimeout = 3 * time.Second
	hookBytes   = 64 << 10
	// hookAtOnce is how many questions wait for an answer: ten thousand clients that come back at once take turns.
	hookAtOnce = 64
)

// ErrRefused says that the hook does not want the client.
var ErrRefused = errors.New("the hook refused the client")

// asker asks one address of an operator's, a bounded number of questions at a time.
type asker struct {
	url     string
	timeout time.Duration
	client  *http.Client
	turns   chan struct{} // holds one for each question that is asked
}

// newAsker checks the options. Its errors do not have the address in them.
func newAsker(url string, timeout time.Duration) (asker, error) {
	if timeout <= 0 {
		timeout = hookTimeout
	}
	return asker{url: url, timeout: timeout, client: newClient(), turns: make(chan struct{}, hookAtOnce)}, checkURL(url)
}

// Hook asks a program of the user's who a client is.
type Hook struct {
	asker
	headers []string
}

// own are headers of one connection, or of the request's own body: they are not the client's to choose.
var own = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// NewHook checks the options. Its errors do not have the address in them.
func NewHook(o HookOptions) (*Hook, error) {
	ask, err := newAsker(o.URL, o.Timeout)
	h := &Hook{ask, []string{"Authorization", "Cookie"}}
	if o.Headers != nil {
		h.headers = nil
		for _, name := range o.Headers {
			if name = textproto.CanonicalMIMEHeaderKey(name); slices.Contains(own, name) {
				return nil, fmt.Errorf("the header %s cannot be sent along", name)
			}
			h.headers = append(h.headers, name)
		}
	}
	return h, err
}

// Identify is an Auth of the root package. Its error is ErrRefused if the hook said so, and wraps ErrUnavailable if it
// said anything unexpected, or nothing in time. It names neither the address nor what was sent.
func (h *Hook) Identify(ctx context.Context, init json.RawMessage, r *http.Request) (Identity, error) {
	text, err := payload(init)
	if err != nil {
		return Identity{}, err
	}
	status, body, err := h.ask(ctx, text, func(ask http.Header) {
		if r == nil {
			return
		}
		for _, name := range h.headers {
			if values := r.Header.Values(name); len(values) > 0 {
				ask[name] = slices.Clone(values)
			}
		}
	})
	switch {
	case err != nil:
		return Identity{}, err
	case status != http.StatusOK:
		return Identity{}, unavailable("the hook: the answer is %d", status)
	}
	id, err := parseAnswer(body)
	if err != nil {
		return Identity{}, unavailable("the hook: %v", err)
	}
	if !id.ExpiresAt.IsZero() && !time.Now().Before(id.ExpiresAt) {
		return Identity{}, ErrExpired
	}
	return id, nil
}

func payload(init json.RawMessage) ([]byte, error) {
	if len(init) == 0 {
		init = json.RawMessage("null")
	}
	body, err := json.Marshal(map[string]json.RawMessage{"payload": init})
	if err != nil {
		return nil, errors.New("the payload is not JSON")
	}
	return body, nil
}

// ask posts a body of JSON when it is its turn. The error is ErrRefused for an answer of 401 or 403, wraps ErrUnavailable if there was none in
// time, and is ctx's if that has ended. headers, which may be nil, adds to those of the request.
func (a *asker) ask(ctx context.Context, text []byte, headers func(http.Header)) (status int, body []byte, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, a.timeout, errors.New("no answer in time"))
	defer cancel()
	r, err := http.NewRequestWithContext(bounded, http.MethodPost, a.url, bytes.NewReader(text))
	if err != nil {
		return 0, nil, unavailable("the hook: the address is none")
	}
	if headers != nil {
		headers(r.Header)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "notifyql")
	}
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	case <-bounded.Done():
		err = errors.New("no turn to ask in time")
	}
	if err == nil {
		status, body, err = do(a.client, r, hookBytes)
	}
	switch {
	case ctx.Err() != nil: // the client has gone, which is no failure of the hook
		return 0, nil, ctx.Err()
	case err != nil:
		return 0, nil, unavailable("the hook: %v", err)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return 0, nil, ErrRefused
	}
	return status, body, nil
}

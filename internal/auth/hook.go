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

// Hook asks a program of the user's who a client is.
type Hook struct {
	url     string
	headers []string
	timeout time.Duration
	client  *http.Client
	turns   chan struct{} // holds one for each question that is asked
}

// own are headers of one connection, or of the request's own body: they are not the client's to choose.
var own = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// NewHook checks the options. Its errors do not have the address in them.
func NewHook(o HookOptions) (*Hook, error) {
	h := &Hook{url: o.URL, headers: []string{"Authorization", "Cookie"}, timeout: hookTimeout, client: newClient(), turns: make(chan struct{}, hookAtOnce)}
	if o.Timeout > 0 {
		h.timeout = o.Timeout
	}
	if o.Headers != nil {
		h.headers = nil
		for _, name := range o.Headers {
			if name = textproto.CanonicalMIMEHeaderKey(name); slices.Contains(own, name) {
				return nil, fmt.Errorf("the header %s cannot be sent along", name)
			}
			h.headers = append(h.headers, name)
		}
	}
	return h, checkURL(o.URL)
}

// Identify is an Auth of the root package. Its error is ErrRefused if the hook said so, and wraps ErrUnavailable if it
// said anything unexpected, or nothing in time. It names neither the address nor what was sent.
func (h *Hook) Identify(ctx context.Context, init json.RawMessage, r *http.Request) (Identity, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, h.timeout, errors.New("no answer in time"))
	defer cancel()
	ask, err := h.request(bounded, init, r)
	if err != nil {
		return Identity{}, err
	}
	status, body, err := h.post(ask)
	switch {
	case ctx.Err() != nil: // the client has gone, which is no failure of the hook
		return Identity{}, ctx.Err()
	case err != nil:
		return Identity{}, unavailable("the hook: %v", err)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Identity{}, ErrRefused
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

// post asks when it is its turn.
func (h *Hook) post(ask *http.Request) (status int, body []byte, err error) {
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ask.Context().Done():
		return 0, nil, errors.New("no turn to ask in time")
	}
	return do(h.client, ask, hookBytes)
}

func (h *Hook) request(ctx context.Context, init json.RawMessage, r *http.Request) (*http.Request, error) {
	if len(init) == 0 {
		init = json.RawMessage("null")
	}
	body, err := json.Marshal(map[string]json.RawMessage{"payload": init})
	if err != nil {
		return nil, errors.New("the payload is not JSON")
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return nil, unavailable("the hook: the address is none")
	}
	if r != nil {
		for _, name := range h.headers {
			if values := r.Header.Values(name); len(values) > 0 {
				ask.Header[name] = slices.Clone(values)
			}
		}
	}
	ask.Header.Set("Content-Type", "application/json")
	ask.Header.Set("Accept", "application/json")
	if ask.Header.Get("User-Agent") == "" {
		ask.Header.Set("User-Agent", "notifyql")
	}
	return ask, nil
}

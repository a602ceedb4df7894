package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newHook makes one that asks h.
func newHook(t *testing.T, h http.HandlerFunc, o HookOptions) *Hook {
	t.Helper()
	server := httptest.NewServer(h)
	o.URL = server.URL + "/who?key=hunter2"
	hook, err := NewHook(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hook.client.CloseIdleConnections()
		server.Close()
	})
	return hook
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // a test
	}
}

func TestTheHooksAnswer(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	for body, want := range map[string]Identity{
		`{"userId":"u"}`:           {UserID: "u"},
		`{"tenants":[]}`:           {},
		`{"tenants":["a","b"]}`:    {Tenants: []string{"a", "b"}},
		`{"userId":7,"tenants":8}`: {UserID: "7", Tenants: []string{"8"}},
		`{"userId":"u","roles":["r"],"claims":{"plan":"gold"},"more":{}}`:              {UserID: "u", Roles: []string{"r"}, Claims: map[string]any{"plan": "gold"}},
		fmt.Sprintf(`{"userId":"u","expiresAt":%d}`, later.Unix()):                     {UserID: "u", ExpiresAt: later},
		fmt.Sprintf(`{"userId":"u","expiresAt":%q}`, later.UTC().Format(time.RFC3339)): {UserID: "u", ExpiresAt: later},
	} {
		id, err := newHook(t, says(200, body), HookOptions{}).Identify(t.Context(), nil, nil)
		if !id.ExpiresAt.Equal(want.ExpiresAt) {
			t.Errorf("%s: ends at %v", body, id.ExpiresAt)
		}
		id.ExpiresAt = want.ExpiresAt
		if err != nil || !reflect.DeepEqual(id, want) {
			t.Errorf("%s: %+v, %v", body, id, err)
		}
	}
}

// All that is not an identity lets nobody in. What is not a refusal is for an operator to see, without secrets.
func TestTheHookFailsClosed(t *testing.T) {
	t.Parallel()
	const fine = `{"userId":"u","tenants":["a"]}`
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want error
	}{
		"401":                    {says(401, fine), ErrRefused},
		"403":                    {says(403, fine), ErrRefused},
		"404":                    {says(404, fine), ErrUnavailable},
		"500":                    {says(500, fine), ErrUnavailable},
		"204":                    {says(204, ""), ErrUnavailable},
		"201":                    {says(201, fine), ErrUnavailable},
		"nothing":                {says(200, ""), ErrUnavailable},
		"a page":                 {says(200, "<html>hunter2"), ErrUnavailable},
		"null":                   {says(200, "null"), ErrUnavailable},
		"a list":                 {says(200, "["+fine+"]"), ErrUnavailable},
		"true":                   {says(200, "true"), ErrUnavailable},
		"an object of others":    {says(200, `{"ok":true,"UserId":"u","TENANTS":["a"]}`), ErrUnavailable},
		"two objects":            {says(200, fine+fine), ErrUnavailable},
		"a user that is a list":  {says(200, `{"userId":["hunter2"]}`), ErrUnavailable},
		"tenants of no kind":     {says(200, `{"tenants":{"hunter2":1}}`), ErrUnavailable},
		"roles of no kind":       {says(200, `{"userId":"u","roles":[{}]}`), ErrUnavailable},
		"claims of no kind":      {says(200, `{"userId":"u","claims":"hunter2"}`), ErrUnavailable},
		"an end that is no time": {says(200, `{"userId":"u","expiresAt":"hunter2"}`), ErrUnavailable},
		"an end in milliseconds": {says(200, `{"userId":"u","expiresAt":1900000000000}`), ErrUnavailable},
		"an end that is past":    {says(200, `{"userId":"u","expiresAt":1}`), ErrExpired},
		"too much":               {says(200, `{"userId":"u","pad":"`+strings.Repeat("x", hookBytes)+`"}`), ErrUnavailable},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/hunter2", http.StatusTemporaryRedirect)
		}, ErrUnavailable},
		"cut off":                 {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrUnavailable},
		"cut off within the body": {cutOff, ErrUnavailable},
	} {
		var asked atomic.Int32
		hook := newHook(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			c.h(w, r)
		}, HookOptions{})
		id, err := hook.Identify(t.Context(), nil, nil)
		if !errors.Is(err, c.want) || !reflect.DeepEqual(id, Identity{}) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
		if asked.Load() != 1 {
			t.Errorf("%s: asked %d times", name, asked.Load())
		}
	}
}

func cutOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	io.WriteString(w, `{"userId":"u"}`) //nolint:errcheck // a test
}

func TestTheHookThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	ask := func(ctx context.Context, timeout time.Duration) error {
		hook := newHook(t, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) //nolint:errcheck // so that the server sees the client go
			<-r.Context().Done()
		}, HookOptions{Timeout: timeout})
		_, err := hook.Identify(ctx, nil, nil)
		return err
	}
	if err := ask(t.Context(), time.Millisecond); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := ask(gone, time.Minute); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("a client that has gone: %v", err)
	}
	hook, err := NewHook(HookOptions{URL: "http://user:hunter2@127.0.0.1:1/?key=hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hook.Identify(t.Context(), nil, nil); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
}

// An answer that has no end is given up once it is too long.
func TestAnAnswerWithoutEnd(t *testing.T) {
	t.Parallel()
	hook := newHook(t, func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 4096))
		}
	}, HookOptions{Timeout: time.Minute})
	if _, err := hook.Identify(t.Context(), nil, nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("got %v", err)
	}
}

// Not more are asked about at once than there are turns; who gets none in time is not let in.
func TestTheHookIsAskedInTurns(t *testing.T) {
	t.Parallel()
	var at atomic.Int32
	arrived, answer := make(chan struct{}, 10), make(chan struct{})
	hook := newHook(t, func(w http.ResponseWriter, _ *http.Request) {
		if n := at.Add(1); n > 2 {
			t.Errorf("%d are asked at once", n)
		}
		arrived <- struct{}{}
		<-answer
		at.Add(-1)
		io.WriteString(w, `{"userId":"u"}`) //nolint:errcheck // a test
	}, HookOptions{Timeout: time.Minute})
	hook.turns = make(chan struct{}, 2)
	done := make(chan error, 10)
	for range cap(done) {
		go func() {
			_, err := hook.Identify(t.Context(), nil, nil)
			done <- err
		}()
	}
	<-arrived
	<-arrived
	impatient := *hook
	impatient.timeout = time.Millisecond
	if _, err := impatient.Identify(t.Context(), nil, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a turn: %v", err)
	}
	close(answer)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The hook is sent the payload and the headers that were chosen, and nothing else of the client's.
func TestWhatTheHookIsSent(t *testing.T) {
	t.Parallel()
	client := httptest.NewRequest(http.MethodGet, "/graphql?secret=1", nil)
	for name, value := range map[string]string{
		"Authorization": "Bearer t", "Cookie": "a=1; b=2", "X-Tenant": "acme", "X-Forwarded-For": "10.0.0.1", "User-Agent": "browser", "Accept-Encoding": "br",
	} {
		client.Header.Set(name, value)
	}
	client.Header.Add("X-Tenant", "other")
	for _, c := range []struct {
		headers []string
		init    string
		body    string
		want    map[string][]string
	}{
		{nil, `{"a":1}`, `{"payload":{"a":1}}`, map[string][]string{"Authorization": {"Bearer t"}, "Cookie": {"a=1; b=2"}}},
		{[]string{}, ``, `{"payload":null}`, nil},
		{[]string{"x-tenant", "user-agent"}, `null`, `{"payload":null}`, map[string][]string{"X-Tenant": {"acme", "other"}, "User-Agent": {"browser"}}},
	} {
		var got http.Header
		var body []byte
		var method string
		hook := newHook(t, func(w http.ResponseWriter, r *http.Request) {
			got, method = r.Header, r.Method
			body, _ = io.ReadAll(r.Body)
			io.WriteString(w, `{"userId":"u"}`) //nolint:errcheck // a test
		}, HookOptions{Headers: c.headers})
		if _, err := hook.Identify(t.Context(), json.RawMessage(c.init), client); err != nil {
			t.Fatal(err)
		}
		if method != http.MethodPost || string(body) != c.body || got.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s", method, got.Get("Content-Type"), body)
		}
		for name := range got {
			ours := []string{"Accept", "Accept-Encoding", "Content-Length", "Content-Type", "User-Agent"}
			if c.want[name] == nil && !slices.Contains(ours, name) {
				t.Errorf("%v: sent %s: %v", c.headers, name, got[name])
			}
		}
		for name, values := range c.want {
			if !slices.Equal(got[name], values) {
				t.Errorf("%v: %s is %q, want %q", c.headers, name, got[name], values)
			}
		}
		if got.Get("Accept-Encoding") == "br" {
			t.Error("the client's encodings were sent")
		}
	}
}

func TestHookOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []HookOptions{
		{},
		{URL: "hunter2"},
		{URL: "http://"},
		{URL: "file:///hunter2"},
		{URL: "http://hunter2:%zz"},
		{URL: "http://a", Headers: []string{"content-length"}},
		{URL: "http://a", Headers: []string{"Host"}},
	} {
		if _, err := NewHook(o); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

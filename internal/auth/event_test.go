package auth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func newEventHook(t *testing.T, h http.HandlerFunc, timeout time.Duration) *EventHook {
	t.Helper()
	server := httptest.NewServer(h)
	hook, err := NewEventHook(server.URL+"/told?key=hunter2", timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hook.client.CloseIdleConnections()
		server.Close()
	})
	return hook
}

// An answer allows, narrows or refuses. Whatever is none of the three refuses too, a filter under another name above all.
func TestTheAnswerToAnEvent(t *testing.T) {
	t.Parallel()
	one := map[string]any{"owner": map[string]any{"eq": json.Number("12345678901234567890")}}
	for name, c := range map[string]struct {
		status int
		body   string
		where  map[string]any
		err    error
	}{
		"204":               {204, "", nil, nil},
		"a filter":          {200, `{"where":{"owner":{"eq":12345678901234567890}}}`, one, nil},
		"no filter":         {200, `{"where":null}`, nil, nil},
		"401":               {401, `{"where":null}`, nil, ErrRefused},
		"403":               {403, "", nil, ErrRefused},
		"500":               {500, `{"where":null}`, nil, ErrUnavailable},
		"201":               {201, `{"where":null}`, nil, ErrUnavailable},
		"nothing":           {200, "", nil, ErrUnavailable},
		"an empty object":   {200, `{}`, nil, ErrUnavailable},
		"misspelled":        {200, `{"were":{}}`, nil, ErrUnavailable},
		"something more":    {200, `{"where":null,"filter":{"hunter2":1}}`, nil, ErrUnavailable},
		"of another type":   {200, `{"where":["hunter2"]}`, nil, ErrUnavailable},
		"null":              {200, `null`, nil, ErrUnavailable},
		"a filter, a list":  {200, `[{"where":null}]`, nil, ErrUnavailable},
		"too much":          {200, `{"where":{"x":"` + strings.Repeat("x", hookBytes) + `"}}`, nil, ErrUnavailable},
		"a filter twice":    {200, `{"where":null}{"where":null}`, nil, ErrUnavailable},
		"somewhere else":    {302, "", nil, ErrUnavailable},
		"nothing but hints": {100 + 99, "", nil, ErrUnavailable},
	} {
		hook := newEventHook(t, says(c.status, c.body), 0)
		where, err := hook.Tell(t.Context(), map[string]any{"event": "subscribe"})
		if !errors.Is(err, c.err) || !reflect.DeepEqual(where, c.where) {
			t.Errorf("%s: %v, %v", name, where, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheEventThatNobodyTakes(t *testing.T) {
	t.Parallel()
	hook := newEventHook(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // so that the server sees the client go
		<-r.Context().Done()
	}, time.Millisecond)
	if _, err := hook.Tell(t.Context(), 1); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := hook.Tell(gone, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that has gone: %v", err)
	}
	if _, err := hook.Tell(t.Context(), func() {}); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("what is no JSON: %v", err)
	}
	if _, err := NewEventHook("ftp://user:hunter2@x", 0); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an address that is none: %v", err)
	}
}

// Whatever an answer is, it is a filter or an error.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{`{"where":null}`, `{"where":{}}`, `{"where":{"a":{"eq":1}}}`, `{"where":1}`, `{}`, `[`, ``, `{"where":{},"where":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		where, err := parseFilter(text)
		if err != nil && where != nil {
			t.Errorf("%v and %v", where, err)
		}
		if err == nil && !json.Valid(text) {
			t.Errorf("%q is no JSON", text)
		}
	})
}

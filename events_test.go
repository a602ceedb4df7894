package notifyql_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
)

// Server-Sent Events on the same plans and identities as sockets, under any mount.
func TestServerSentEvents(t *testing.T) {
	const tick = "extend type Subscription { tick: Tick } type Tick { n: Int! }"
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(),
		Fields: []notifyql.Field{{SDL: tick, Channel: "ticks"}},
	})
	face := httptest.NewServer(http.StripPrefix("/live", srv.Handler()))
	defer face.Close()
	query := url.Values{
		"query":      {"subscription { tick { n } }"},
		"extensions": {`{"connectionParams":{"tenantId":"acme"}}`},
	}
	for _, path := range []string{"/live/", "/live/subscriptions"} {
		ctx, leave := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, face.URL+path+"?"+query.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		events := bufio.NewScanner(answer.Body)
		if !events.Scan() || events.Text() != ":" { // the subscription is there
			t.Fatalf("%s %q", answer.Status, events.Text())
		}
		for tenant, n := range map[string]int{"acme": 1, "other": 2} {
			if err := srv.Publish(t.Context(), notifyql.Event{Channel: "ticks", Tenant: tenant, Data: map[string]int{"n": n}}); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for len(got) < 2 && events.Scan() {
			if line := events.Text(); line != "" {
				got = append(got, line)
			}
		}
		if want := `event: next|data: {"data":{"tick":{"n":1}}}`; strings.Join(got, "|") != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
		leave()
		answer.Body.Close()
	}
}

// eventStream is what an event stream brings, each event as its lines with a bar between.
type eventStream struct {
	t     *testing.T
	lines *bufio.Scanner
	close func() error
}

// events opens an event stream of the channel c; header has names and values. It returns when nothing more is missed.
func events(t *testing.T, url string, header ...string) *eventStream {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(`{"query":"subscription { channel(name: \"c\") { data } }"}`)).WithContext(t.Context())
	r.RequestURI = ""
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() }) //nolint:errcheck // it has served
	lines := bufio.NewScanner(answer.Body)
	if !lines.Scan() || lines.Text() != ":" {
		t.Fatalf("%s %s", answer.Status, lines.Text())
	}
	return &eventStream{t, lines, answer.Body.Close}
}

// want waits for events; an empty one is the end.
func (s *eventStream) want(events ...string) {
	s.t.Helper()
	for _, want := range events {
		var got []string
		for s.lines.Scan() {
			line := s.lines.Text()
			if line == "" && len(got) > 0 {
				break
			}
			if line != "" && line != ":" {
				got = append(got, line)
			}
		}
		if text := strings.Join(got, "|"); text != want {
			s.t.Fatalf("got  %s\nwant %s", text, want)
		}
	}
}

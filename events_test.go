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

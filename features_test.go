package notifyql_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Each feature does what it says, on and off.
func TestFeatures(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	get := func(url, accept string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
			return answer, ""
		}
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(b)
	}
	accepted := func(t *testing.T, srv *notifyql.Server, query string) bool {
		t.Helper()
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: query, Identity: notifyql.Identity{Tenants: []string{"a"}}})
		if err == nil {
			stream.Close() //nolint:errcheck // it has begun
		}
		return err == nil
	}
	is := map[string]func(t *testing.T, srv *notifyql.Server, url string) bool{
		"batches": func(t *testing.T, srv *notifyql.Server, _ string) bool {
			has := strings.Contains(srv.SDL(), "Batch")
			if accepted(t, srv, `subscription { itemsBatch { changes { kind } } }`) != has || !accepted(t, srv, `subscription { itemsChanged { kind } }`) {
				t.Error("the schema says another thing")
			}
			return has
		},
		"compression": func(t *testing.T, _ *notifyql.Server, url string) bool {
			c, answer, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{
				Subprotocols: []string{"graphql-transport-ws"}, CompressionMode: websocket.CompressionNoContextTakeover,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow() //nolint:errcheck // it has served
			return answer.Header.Get("Sec-WebSocket-Extensions") != ""
		},
		"federation": func(_ *testing.T, srv *notifyql.Server, _ string) bool {
			return strings.Contains(srv.SDL(), "_service")
		},
		"graphiql": func(_ *testing.T, _ *notifyql.Server, url string) bool {
			answer, body := get(url, "text/html")
			return answer.StatusCode == http.StatusOK && strings.Contains(body, "GraphiQL")
		},
		"graphql-ws": func(t *testing.T, _ *notifyql.Server, url string) bool {
			c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{Subprotocols: []string{"graphql-ws"}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow() //nolint:errcheck // it has served
			if c.Subprotocol() != "" {
				(&client{c, t}).init(`{"tenantId":"a"}`)
				(&client{c, t}).want(`{"type":"connection_ack"}`)
				return true
			}
			(&client{c, t}).wantClose(4406, "Subprotocol not acceptable")
			return false
		},
		"initial": func(t *testing.T, srv *notifyql.Server, _ string) bool {
			if !accepted(t, srv, `subscription { itemsChanged(where: {id: {eq: 1}}) { kind } }`) {
				t.Error("what needs no rows is refused")
			}
			return accepted(t, srv, `subscription { itemsChanged(initial: true, limit: 5) { kind } }`)
		},
		"introspection": func(t *testing.T, _ *notifyql.Server, url string) bool {
			if _, body := post(t, url, `{"query":"{ __typename serverInfo { version __typename } }"}`); !strings.Contains(body, `"__typename":"Query"`) {
				t.Error(body)
			}
			for _, query := range []string{`{ __schema { types { name } } }`, `{ ...f } fragment f on Query { ... on Query { __type(name: \"Items\") { name } } }`} {
				_, body := post(t, url, `{"query":"`+query+`"}`)
				if on := strings.Contains(body, `"name":"Items"`); !on {
					if !strings.Contains(body, "Introspection is switched off") {
						t.Error(body)
					}
					return false
				}
			}
			return true
		},
		"sse": func(_ *testing.T, _ *notifyql.Server, url string) bool {
			query := `?query=subscription+%7B+itemsChanged+%7B+kind+%7D+%7D`
			answer, body := get(url+query, "text/event-stream")
			if answer.StatusCode == http.StatusNotAcceptable && strings.Contains(body, "switched off") {
				return false
			}
			return answer.StatusCode == http.StatusOK
		},
	}
	for _, flip := range []bool{false, true} {
		var words, on []string
		for _, f := range notifyql.Features() {
			word := f.Name
			if f.Default {
				word = "-" + word
			}
			words = append(words, word)
			if f.Default != flip {
				on = append(on, f.Name)
			}
		}
		if !flip {
			words = nil
		}
		srv := run(t, notifyql.Config{DatabaseURL: db.URL, Auth: notifyql.Trust(), Features: words})
		url := face(t, srv)
		if got := srv.Health().Features; !slices.Equal(got, on) {
			t.Errorf("/health says %v, want %v", got, on)
		}
		for _, f := range notifyql.Features() {
			if got := is[f.Name](t, srv, url); got != (f.Default != flip) {
				t.Errorf("%s is %v, with the features %v", f.Name, got, words)
			}
		}
		schema, err := notifyql.ReadSchema(t.Context(), notifyql.Config{DatabaseURL: db.URL, Features: words})
		if err != nil || schema.SDL != srv.SDL() {
			t.Errorf("the schema is another one: %v", err)
		}
	}
}

// A name that is not there is said, with those that are. What has a field of its own in Config is overruled.
func TestFeaturesAreChecked(t *testing.T) {
	for _, word := range []string{"ssse", "-", "", "--sse"} {
		_, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus(), Features: []string{word}})
		if err == nil || !strings.Contains(err.Error(), "there are batches, compression,") {
			t.Errorf("%q: %v", word, err)
		}
	}
	for _, c := range []struct {
		config notifyql.Config
		want   bool
	}{
		{notifyql.Config{}, false},
		{notifyql.Config{Compression: true}, true},
		{notifyql.Config{Compression: true, Features: []string{"-compression"}}, false},
		{notifyql.Config{Features: []string{"-compression", "compression"}}, true},
	} {
		c.config.Bus = notifyql.MemoryBus()
		srv := run(t, c.config)
		if got := slices.Contains(srv.Health().Features, "compression"); got != c.want {
			t.Errorf("%+v: %v", c.config.Features, got)
		}
	}
}

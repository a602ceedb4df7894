package notifyql_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/notifyql/notifyql"
)

// The handler works wherever people mount it.
func TestTheHandlerUnderAnyMount(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust()})
	deep := chi.NewRouter()
	deep.Use(middleware.Recoverer, middleware.Timeout(time.Minute), middleware.Compress(5))
	deep.Get("/other", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "other") }) //nolint:errcheck // a test
	deep.Mount("/api/v1/live", srv.Handler())
	mux := http.NewServeMux()
	mux.Handle("/live/", http.StripPrefix("/live", srv.Handler()))
	mux.Handle("/graphql", srv.Handler())
	mux.Handle("/graphql/", srv.Handler())
	for name, c := range map[string]struct {
		h     http.Handler
		roots []string
	}{
		"as it is":              {srv.Handler(), []string{"/", "/graphql"}},
		"chi, below middleware": {deep, []string{"/api/v1/live", "/api/v1/live/"}},
		"net/http":              {mux, []string{"/live/", "/graphql"}},
	} {
		t.Run(name, func(t *testing.T) {
			face := httptest.NewServer(c.h)
			defer face.Close()
			for _, root := range c.roots {
				for _, path := range []string{root, strings.TrimSuffix(root, "/") + "/subscriptions"} {
					c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(face.URL, "http")+path, &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
					if err != nil {
						t.Fatalf("%s: %v", path, err)
					}
					if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"connection_init"}`)); err != nil {
						t.Fatal(err)
					}
					if _, b, err := c.Read(t.Context()); err != nil || !strings.Contains(string(b), "connection_ack") {
						t.Errorf("%s: got %s (%v)", path, b, err)
					}
					c.CloseNow() //nolint:errcheck // it has served
				}
				if status, body := post(t, face.URL+root, `{"query":"{ __schema { subscriptionType { name } } }"}`); status != 200 || body != `{"data":{"__schema":{"subscriptionType":{"name":"Subscription"}}}}` {
					t.Errorf("POST %s: %d %s", root, status, body)
				}
				resp, err := http.Get(face.URL + root)
				if err != nil {
					t.Fatal(err)
				}
				page, err := io.ReadAll(resp.Body)
				resp.Body.Close() //nolint:errcheck // a test
				if err != nil || resp.StatusCode != 200 || !strings.Contains(string(page), "GraphiQL") {
					t.Errorf("GET %s: %d, %d bytes (%v)", root, resp.StatusCode, len(page), err)
				}
			}
		})
	}
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestWhatAPostCannotDo(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Limits: notifyql.Limits{HTTPRequestBytes: 1000}})
	face := httptest.NewServer(srv.Handler())
	defer face.Close()
	for name, body := range map[string]string{
		"no JSON":        `{"query":`,
		"too large":      `{"query":"` + strings.Repeat(" ", 2000) + `{ __typename }"}`,
		"no such field":  `{"query":"{ nothing }"}`,
		"a subscription": `{"query":"subscription { channel(name: \"x\") { data } }"}`,
		"no query":       `{}`,
	} {
		status, answer := post(t, face.URL, body)
		var r struct {
			Errors []struct{ Message string }
		}
		if err := json.Unmarshal([]byte(answer), &r); err != nil || len(r.Errors) == 0 || r.Errors[0].Message == "" || status < 200 || status > 499 {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

// Without an Auth nobody gets in.
func TestWhoIsRefused(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus()})
	face := httptest.NewServer(srv.Handler())
	defer face.Close()
	if status, body := post(t, face.URL, `{"query":"{ __typename }"}`); status != http.StatusUnauthorized {
		t.Errorf("a POST got %d %s", status, body)
	}
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(face.URL, "http"), &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow() //nolint:errcheck // it is closed
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"connection_init","payload":{"tenantId":"acme"}}`)); err != nil {
		t.Fatal(err)
	}
	var closed websocket.CloseError
	if _, _, err := c.Read(t.Context()); !errors.As(err, &closed) || closed.Code != 4403 || closed.Reason != "Forbidden" {
		t.Errorf("a socket got %v", err)
	}
}

func TestTrust(t *testing.T) {
	auth := notifyql.Trust()
	for payload, want := range map[string]struct {
		user   string
		tenant string
		bad    bool
	}{
		``:                                  {},
		`null`:                              {},
		`{}`:                                {},
		`{"tenantId":"a","userId":"u"}`:     {"u", "a", false},
		`{"tenant_id":7,"user_id":12}`:      {"12", "7", false},
		`{"tenantId":null,"tenant_id":"b"}`: {"", "b", false},
		`{"tenantId":{"a":1}}`:              {bad: true},
		`{"tenantId":["a"]}`:                {bad: true},
		`[]`:                                {bad: true},
	} {
		id, err := auth(t.Context(), json.RawMessage(payload), nil)
		if (err != nil) != want.bad {
			t.Errorf("%s: %v", payload, err)
		}
		if !want.bad && (id.UserID != want.user || strings.Join(id.Tenants, ",") != want.tenant) {
			t.Errorf("%s: %+v", payload, id)
		}
	}
}

// The program in README is the one in examples/chi, and short.
func TestTheExampleInTheReadme(t *testing.T) {
	program, err := os.ReadFile("examples/chi/main.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(program)+"```") {
		t.Error("README does not show examples/chi/main.go")
	}
	if n := strings.Count(string(program), "\n"); n >= 25 {
		t.Errorf("it has %d lines", n)
	}
}

func TestOperators(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust()})
	face := httptest.NewServer(srv.OpsHandler())
	defer face.Close()
	for path, want := range map[string]string{
		"/health": `"status":"ready"`, "/livez": `"status":"ok"`, "/metrics": "notifyql_ready 1", "/errors": `"errors":[`,
	} {
		resp, err := http.Get(face.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close() //nolint:errcheck // a test
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s (%v)", path, resp.StatusCode, body, err)
		}
	}
}

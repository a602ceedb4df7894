package gqlhttp

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/test/npm"
)

func handler(t *testing.T) *Handler {
	t.Helper()
	schema, _, err := gql.Options{Version: "1"}.Build(catalog.Catalog{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{
		Schema: func() *gql.Schema { return schema },
		Identify: func(r *http.Request) (*auth.Identity, error) {
			if r.Header.Get("Authorization") == "bad" {
				return nil, errors.New("secret reason")
			}
			return &auth.Identity{}, nil
		},
		MaxBytes: 1000,
	})
}

// TestAudits runs the audits of graphql-http: whatever the specification says a server must, should or may.
func TestAudits(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(handler(t))
	defer srv.Close()
	cmd := exec.CommandContext(t.Context(), "node", "audit.mjs", srv.URL)
	cmd.Dir = npm.Dir(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var audits []struct{ ID, Name, Status, Reason string }
	if err := json.Unmarshal(out, &audits); err != nil {
		t.Fatal(err)
	}
	for _, a := range audits {
		if a.Status != "ok" {
			t.Errorf("%s %s: %s: %s", a.ID, a.Name, a.Status, a.Reason)
		}
	}
	if len(audits) < 50 {
		t.Errorf("only %d audits", len(audits))
	}
	t.Logf("%d audits", len(audits))
}

func TestRequests(t *testing.T) {
	t.Parallel()
	h := handler(t)
	const query = `{"query":"{ serverInfo { version } }"}`
	const result = `{"data":{"serverInfo":{"version":"1"}}}`
	for _, c := range []struct {
		name    string
		method  string
		target  string
		body    string
		headers map[string]string
		status  int
		media   string
		want    string // in the body
	}{
		{"post", "POST", "/", query, nil, 200, plainJSON, result},
		{"get", "GET", "/?query=" + url.QueryEscape("query A { serverInfo { version } } query B { __typename }") + "&operationName=A", "", nil, 200, plainJSON, result},
		{"get with variables", "GET", "/?query=" + url.QueryEscape("query ($n: String!) { __type(name: $n) { kind } }") + `&variables={"n":"Query"}`, "", nil, 200, plainJSON, `{"data":{"__type":{"kind":"OBJECT"}}}`},
		{"get with bad variables", "GET", "/?query={__typename}&variables=[1]", "", nil, 400, plainJSON, "variables must be a JSON object"},
		{"get without a query", "GET", "/", "", nil, 400, plainJSON, "query is missing"},
		{"the better type", "POST", "/", query, map[string]string{"Accept": "application/json;q=0.5, application/graphql-response+json"}, 200, graphqlResponse, result},
		{"the first of two", "POST", "/", query, map[string]string{"Accept": "application/graphql-response+json, application/json"}, 200, graphqlResponse, result},
		{"anything", "POST", "/", query, map[string]string{"Accept": "text/html, */*;q=0.1"}, 200, plainJSON, result},
		{"nothing of ours", "POST", "/", query, map[string]string{"Accept": "text/html"}, 406, plainJSON, "NOT_ACCEPTABLE"},
		{"refused by quality", "POST", "/", query, map[string]string{"Accept": "application/json;q=0"}, 406, plainJSON, "NOT_ACCEPTABLE"},
		{"put", "PUT", "/", query, nil, 405, plainJSON, "METHOD_NOT_ALLOWED"},
		{"not json", "POST", "/", query, map[string]string{"Content-Type": "text/plain"}, 415, plainJSON, "UNSUPPORTED_MEDIA_TYPE"},
		{"not utf-8", "POST", "/", query, map[string]string{"Content-Type": "application/json; charset=latin1"}, 415, plainJSON, "UTF-8"},
		{"too large", "POST", "/", `{"query":"` + strings.Repeat(" ", 1000) + `"}`, nil, 413, plainJSON, "more than 1000 bytes"},
		{"null", "POST", "/", "null", nil, 400, plainJSON, "no JSON object"},
		{"a batch", "POST", "/", "[" + query + "]", nil, 400, plainJSON, "no JSON object"},
		{"nobody", "POST", "/", query, map[string]string{"Authorization": "bad"}, 401, plainJSON, "not authorized"},
		{"a wrong document", "POST", "/", `{"query":"{ x }"}`, nil, 200, plainJSON, "Cannot query field"},
		{"a wrong document, by status", "POST", "/", `{"query":"{ x }"}`, map[string]string{"Accept": graphqlResponse}, 400, graphqlResponse, "Cannot query field"},
		{"a subscription", "POST", "/", `{"query":"subscription { channel(name: \"x\") { data } }"}`, map[string]string{"Accept": graphqlResponse}, 400, graphqlResponse, "OPERATION_NOT_SUPPORTED"},
		{"a mutation by get", "GET", "/?query=mutation{x}", "", map[string]string{"Accept": graphqlResponse}, 400, graphqlResponse, "OPERATION_NOT_SUPPORTED"},
	} {
		r := httptest.NewRequest(c.method, c.target, strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		for k, v := range c.headers {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Body)
		if media := strings.TrimSuffix(w.Header().Get("Content-Type"), "; charset=utf-8"); w.Code != c.status || media != c.media || !strings.Contains(string(body), c.want) {
			t.Errorf("%s: %d %s %s", c.name, w.Code, media, body)
		}
		if !json.Valid(body) || strings.Contains(string(body), "secret") {
			t.Errorf("%s: %s", c.name, body)
		}
	}
}

func TestStarting(t *testing.T) {
	t.Parallel()
	h := New(Options{Schema: func() *gql.Schema { return nil }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/?query={__typename}", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

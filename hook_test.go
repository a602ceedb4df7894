package notifyql_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
)

// An HTTP hook lets clients in by what they say or by their cookie, and ends their connections when it says no.
func TestAHTTPHook(t *testing.T) {
	t.Parallel()
	var banned atomic.Bool
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Payload struct{ Key string }
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if r.Header.Get("X-Private") != "" || r.Header.Get("Sec-Websocket-Key") != "" {
			t.Errorf("the hook was sent %v", r.Header)
		}
		session, err := r.Cookie("session")
		switch {
		case err == nil && session.Value == "s":
			io.WriteString(w, `{"userId":"by cookie","tenants":["acme"]}`) //nolint:errcheck // a test
		case asked.Payload.Key == "k" && !banned.Load():
			fmt.Fprintf(w, `{"userId":7,"tenants":"acme","expiresAt":%d}`, time.Now().Add(time.Hour).Unix())
		case asked.Payload.Key == "broken":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(hook.Close)
	auth, err := notifyql.Hook(notifyql.HookOptions{URL: hook.URL})
	if err != nil {
		t.Fatal(err)
	}
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Auth: auth, Recheck: 20 * time.Millisecond})
	url := face(t, srv)
	for _, payload := range []string{``, `{"key":"x"}`, `{"key":"broken"}`} {
		c := dial(t, url)
		c.init(payload)
		c.wantClose(4403, "Forbidden")
	}
	byKey := connect(t, url, `{"key":"k"}`, "X-Private", "1")
	byCookie := connect(t, url, ``, "Cookie", "session=s", "X-Private", "1")
	for _, c := range []*client{byKey, byCookie} {
		c.subscribed("1", "c")
	}
	publish(t, srv, "acme", 1)
	byKey.wantData("1", "1")
	byCookie.wantData("1", "1")
	banned.Store(true)
	byKey.wantClose(4403, "Forbidden: the right was withdrawn")
	byCookie.settled()
	_, problems := get(t, opsOf(t, srv)+"/errors")
	var list struct {
		Errors []struct{ Kind, Detail string }
	}
	if err := json.Unmarshal([]byte(problems), &list); err != nil || len(list.Errors) != 1 || list.Errors[0].Detail != "unavailable: the hook: the answer is 500" {
		t.Errorf("operators see %s", problems)
	}
}

// opsOf serves a server's pages for operators until the test ends.
func opsOf(t *testing.T, srv *notifyql.Server) string {
	t.Helper()
	ops := httptest.NewServer(srv.OpsHandler())
	t.Cleanup(ops.Close)
	return ops.URL
}

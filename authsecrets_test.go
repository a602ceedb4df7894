package notifyql_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

// Tokens, cookies, keys, the addresses of hook and keys, and what those answer: none is in the log, in what operators see,
// or in what a client is told, whether the client is let in or not.
func TestAuthKeepsSecrets(t *testing.T) {
	t.Parallel()
	// A hook and an issuer's keys that go wrong, saying a secret.
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/who" {
			io.WriteString(w, `{"userId":["hunter2"]}`) //nolint:errcheck // a test
			return
		}
		http.Error(w, "hunter2", http.StatusInternalServerError)
	}))
	t.Cleanup(bad.Close)
	hook := func(url string) notifyql.Auth {
		a, err := notifyql.Hook(notifyql.HookOptions{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	secret := strings.Repeat("hunter2", 8)
	good := token(t, "HS256", []byte(secret), map[string]any{"hunter2": "hunter2"})
	over := token(t, "HS256", []byte(secret), map[string]any{"exp": time.Now().Unix() - 1, "sub": "hunter2"})
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	unknown := token(t, "EdDSA", stranger, map[string]any{"sub": "hunter2"})
	host := strings.TrimPrefix(bad.URL, "http://")
	d := newDesk(map[string]notifyql.Identity{"hunter2": acme(time.Now().Add(time.Hour))})
	for name, auth := range map[string]notifyql.Auth{
		"a secret":           newJWT(t, notifyql.JWTOptions{Secret: []byte(secret), Cookie: "session"}),
		"keys":               newJWT(t, notifyql.JWTOptions{JWKS: "http://u:hunter2@" + host + "/keys?k=hunter2", Cookie: "session"}),
		"keys that are not":  newJWT(t, notifyql.JWTOptions{JWKS: "http://u:hunter2@127.0.0.1:1/keys?k=hunter2", Cookie: "session"}),
		"a hook":             hook("http://u:hunter2@" + host + "/who?k=hunter2"),
		"a hook that breaks": hook("http://u:hunter2@" + host + "/?k=hunter2"),
		"a hook that is not": hook("http://u:hunter2@127.0.0.1:1/?k=hunter2"),
		"a desk":             d.auth,
	} {
		var log locked
		srv := run(t, notifyql.Config{
			Bus: notifyql.MemoryBus(), Auth: auth, Recheck: time.Hour,
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		url := face(t, srv)
		var told strings.Builder
		for _, secret := range []string{"hunter2", "hunter2.hunter2.hunter2", good, over, unknown, "Bearer " + good} {
			payload, err := json.Marshal(map[string]any{"authToken": secret, "password": "hunter2"})
			if err != nil {
				t.Fatal(err)
			}
			told.WriteString(converse(t, url, string(payload)))
			told.WriteString(converse(t, url, "", "Authorization", "Bearer "+secret))
			told.WriteString(converse(t, url, "{}", "Cookie", "session="+secret))
			for _, accept := range []string{"application/json", "text/event-stream"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"query":"{ __typename }","extensions":{"connectionParams":`+string(payload)+`}}`))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Accept", accept)
				r.Header.Set("Authorization", "Bearer "+secret)
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close() //nolint:errcheck // a test
				if err != nil {
					t.Fatal(err)
				}
				told.Write(body)
			}
		}
		ops := httptest.NewServer(srv.OpsHandler())
		for _, path := range []string{"/health", "/errors", "/metrics"} {
			_, body := get(t, ops.URL+path)
			told.WriteString(body)
		}
		ops.Close()
		told.WriteString(log.String())
		all := told.String()
		for _, planted := range []string{"hunter2", good, over, unknown} {
			if at := strings.Index(all, planted); at >= 0 {
				t.Errorf("%s: said …%s…", name, all[max(0, at-200):min(len(all), at+200)])
			}
		}
		if !strings.Contains(all, "a client was refused") || name != "a secret" && name != "a desk" && !strings.Contains(all, "could not be found out who it is") {
			t.Errorf("%s: the log does not say what is wrong: %s", name, log.String())
		}
	}
}

// converse is what a socket is told that tries to come in, subscribe, and renew its right.
func converse(t *testing.T, url, payload string, header ...string) string {
	t.Helper()
	c := dial(t, url, header...)
	defer c.CloseNow() //nolint:errcheck // it has served
	var told strings.Builder
	c.init(payload)
	for _, next := range []string{
		`{"id":"1","type":"subscribe","payload":{"query":"subscription { nothing }"}}`,
		`{"type":"ping","payload":{"Authorization":"hunter2.hunter2.hunter2"}}`,
		``,
	} {
		_, b, err := c.Read(t.Context())
		told.Write(b)
		if err != nil {
			told.WriteString(err.Error())
			return told.String()
		}
		if next != "" {
			_ = c.Write(t.Context(), websocket.MessageText, []byte(next)) // the next Read says if it is closed
		}
	}
	return told.String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

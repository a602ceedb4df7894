package notifyql_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql"
)

// locked is a buffer that many write to.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A database that can't be reached is explained to operators, and its password is not.
func TestNoPasswordIsShown(t *testing.T) {
	for _, bad := range []string{"postgres://bob:hunter2@a b/x", "postgres://bob:hunter2@h:none/x", "password=hunter2 port=none"} {
		if _, err := notifyql.New(notifyql.Config{DatabaseURL: bad}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New said %v", err)
		}
	}
	var log locked
	srv := start(t, notifyql.Config{
		DatabaseURL: "postgres://bob:hunter2@127.0.0.1:1/x",
		Logger:      slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	face := httptest.NewServer(srv.OpsHandler())
	defer face.Close()
	get := func(path string) (int, string) {
		resp, err := http.Get(face.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	eventually(t, "the reason to be said", func() bool {
		_, health := get("/health")
		_, problems := get("/errors")
		return strings.Contains(health, "is Postgres running there") && strings.Contains(problems, "is Postgres running there")
	})
	if status, _ := get("/livez"); status != http.StatusOK {
		t.Errorf("/livez is %d", status)
	}
	for _, path := range []string{"/health", "/errors", "/metrics"} {
		status, body := get(path)
		if strings.Contains(body, "hunter2") || path == "/health" && status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("logged %s", log.String())
	}
}

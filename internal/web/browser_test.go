//go:build browser

// The page in a real Chromium. It needs one at /usr/bin/chromium or where CHROMIUM says:
//
//	go test -tags browser ./internal/web

package web_test

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/web"
	"github.com/notifyql/notifyql/internal/ws"
	"github.com/notifyql/notifyql/test/npm"
)

//go:embed testdata/introspection.json
var introspection []byte

// shop answers introspection, and gives one order's payment to every subscription.
type shop struct{ inits chan string }

func (s shop) Connect(_ context.Context, init []byte) (ws.Session, error) {
	s.inits <- string(init)
	return session{}, nil
}

type session struct{}

func (session) Close() {}

func (session) Subscribe(_ context.Context, op ws.Operation, _ func()) ws.Stream {
	if strings.Contains(op.Query, "__schema") {
		return &stream{result: bytes.TrimSpace(introspection)}
	}
	return &stream{result: []byte(`{"data":{"ordersChanged":{"kind":"UPDATE","new":{"id":"7","status":"paid"}}}}`)}
}

type stream struct{ result []byte }

func (s *stream) Close() {}

func (s *stream) Next(dst [][]byte, _ int) ([][]byte, error) {
	if s.result != nil {
		dst = append(dst, s.result)
		s.result = nil
	}
	return dst, nil
}

func TestGraphiQLShowsEvents(t *testing.T) {
	service := shop{inits: make(chan string, 100)}
	page := web.GraphiQL(web.Options{Query: "subscription {\n  ordersChanged {\n    kind\n    new {\n      id\n      status\n    }\n  }\n}\n"})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			page.ServeHTTP(w, r)
			return
		}
		socket, err := ws.Accept(w, r, ws.AcceptOptions{})
		if err == nil {
			_ = ws.Serve(ctx, socket, service, ws.Options{})
		}
	}))
	defer server.Close()

	screenshot := cmp.Or(os.Getenv("SCREENSHOT"), filepath.Join(t.TempDir(), "graphiql.png"))
	cmd := exec.Command("node", "graphiql.mjs", server.URL+"/graphql", screenshot, cmp.Or(os.Getenv("CHROMIUM"), "/usr/bin/chromium"))
	cmd.Dir = npm.Dir(t)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte(`"status":"connected"`)) {
		t.Error("the page does not say that it is connected")
	}
	var last string
	for len(service.inits) > 0 {
		last = <-service.inits
	}
	if last != `{"tenantId":"acme"}` {
		t.Errorf("the payload that was entered arrived as %s", last)
	}
}

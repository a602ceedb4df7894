//go:build federation

// Package federation composes the server with another subgraph and asks both through a real gateway.
package federation

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
	"github.com/notifyql/notifyql/test/npm"
)

func TestMain(m *testing.M) { pgtest.Main(m, migrate.Up) }

// TestEventsJoinWhatAnotherSubgraphKnows subscribes through the gateway: the event is ours, the order's customer the other
// subgraph's.
func TestEventsJoinWhatAnotherSubgraphKnows(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, "create table orders (id bigint primary key, tenant_id text not null, amount numeric)")
	db.Exec(t, "select notifyql.watch('orders')")
	srv, address := serve(t, notifyql.Config{DatabaseURL: db.URL, Auth: notifyql.Trust(), Federation: true})

	dir := npm.Install(t, "npm")
	customers := start(t, dir, nil, "node", "customers.mjs")
	supergraph := compose(t, dir, map[string]any{
		"notifyql":  map[string]string{"url": address, "sdl": sdl(t, address)},
		"customers": map[string]string{"url": customers, "sdl": sdl(t, customers)},
	})
	gateway := startGateway(t, dir, supergraph)

	// By query: the other subgraph's rows, and of ours what is known of a row by itself.
	if got := ask(t, gateway, `{ orders { id customer { name } } serverInfo { name } }`); got != `{"data":{"orders":[{"id":"1","customer":{"name":"customer of 1"}},{"id":"2","customer":{"name":"customer of 2"}}],"serverInfo":{"name":"notifyql"}}}` {
		t.Error(got)
	}

	events := subscribe(t, gateway, `subscription { ordersChanged { kind new { amount customer { name } } } }`)
	until(t, "the gateway has subscribed", func() bool { return srv.Stats().Subscriptions == 1 })
	db.Exec(t, "insert into orders values (6, 'other', 1), (7, 'acme', 12.50)")
	select {
	case got := <-events:
		if want := `{"data":{"ordersChanged":{"kind":"INSERT","new":{"amount":"12.50","customer":{"name":"customer of 7"}}}}}`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no event within 30 s")
	}
}

// serve runs a server with its handler at an address.
func serve(t *testing.T, c notifyql.Config) (*notifyql.Server, string) {
	t.Helper()
	srv, err := notifyql.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()
	web := httptest.NewServer(srv.Handler())
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return srv, web.URL + "/graphql"
}

// start runs a program that writes its address as its first line, and ends it with the test.
func start(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stderr, cmd.Env = dir, os.Stderr, append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func startGateway(t *testing.T, dir, supergraph string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command("node", "node_modules/@graphql-hive/gateway/dist/bin.js", "supergraph", supergraph, "--host", "127.0.0.1", "--port", fmt.Sprint(port), "--config-path", "gateway.config.mjs")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	address := fmt.Sprintf("http://127.0.0.1:%d", port)
	until(t, "the gateway is ready", func() bool {
		r, err := http.Get(address + "/readiness")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return address + "/graphql"
}

// until polls what another process or the server shows: nothing signals it.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it did not come to this within a minute: %s", what)
		}
	}
}

func compose(t *testing.T, dir string, subgraphs map[string]any) string {
	t.Helper()
	in, err := json.Marshal(subgraphs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "compose.mjs")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("composition: %v\n%s", err, stderr.String())
	}
	file := filepath.Join(t.TempDir(), "supergraph.graphql")
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func post(t *testing.T, address, query, accept string) *http.Response {
	t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func ask(t *testing.T, address, query string) string {
	t.Helper()
	r := post(t, address, query, "application/json")
	defer r.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func sdl(t *testing.T, address string) string {
	t.Helper()
	var out struct {
		Data struct {
			Service struct{ SDL string } `json:"_service"`
		}
	}
	if got := ask(t, address, `{ _service { sdl } }`); json.Unmarshal([]byte(got), &out) != nil || out.Data.Service.SDL == "" {
		t.Fatal(got)
	}
	return out.Data.Service.SDL
}

// subscribe reads results as server-sent events.
func subscribe(t *testing.T, address, query string) <-chan string {
	t.Helper()
	r := post(t, address, query, "text/event-stream")
	events := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && data != "" {
				events <- data
			}
		}
	}()
	t.Cleanup(func() {
		r.Body.Close()
		<-done
		http.DefaultClient.CloseIdleConnections()
	})
	return events
}

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// buildExamples builds every program of examples/.
var buildExamples = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(root(), ".cache", "e2e", "examples") + "/"
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", bin, "./examples/...", "./examples/socket")
	cmd.Dir = root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, nil
})

// example runs a program of examples/ and gives its address.
func example(t *testing.T, name, databaseURL string) (p *process, addr string) {
	t.Helper()
	bin, err := buildExamples()
	if err != nil {
		t.Fatal(err)
	}
	addr = freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, "", []string{"DATABASE_URL=" + databaseURL, "PORT=" + port}, filepath.Join(bin, name)), addr
}

// live is a subscription over a socket of its own.
type live struct {
	t *testing.T
	c *websocket.Conn
}

type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// open connects, as soon as the server is ready, and gives why not if it is refused.
func open(t *testing.T, address, params string, header http.Header) (*live, error) {
	t.Helper()
	var l *live
	var refused error
	eventually(t, "the server to take connections", func() bool {
		c, _, err := websocket.Dial(t.Context(), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: header})
		if err != nil {
			return false
		}
		l = &live{t, c}
		if err := wsjson.Write(t.Context(), c, message{Type: "connection_init", Payload: json.RawMessage(params)}); err != nil {
			return false
		}
		var m message
		refused = wsjson.Read(t.Context(), c, &m)
		return websocket.CloseStatus(refused) != websocket.StatusTryAgainLater
	})
	t.Cleanup(func() { l.c.CloseNow() }) //nolint:errcheck // it has served
	return l, refused
}

// subscribe opens a socket and subscribes, and returns when the subscription has begun, which its first result shows.
func subscribe(t *testing.T, address, params string, header http.Header, query string) *live {
	t.Helper()
	l, err := open(t, address, params, header)
	if err != nil {
		t.Fatal(err)
	}
	l.begin(query)
	return l
}

func (l *live) begin(query string) {
	l.t.Helper()
	payload, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := wsjson.Write(l.t.Context(), l.c, message{ID: "1", Type: "subscribe", Payload: payload}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) want(results ...string) {
	l.t.Helper()
	for _, want := range results {
		var m message
		if err := wsjson.Read(l.t.Context(), l.c, &m); err != nil {
			l.t.Fatalf("%v, want %s", err, want)
		}
		if m.Type != "next" || string(m.Payload) != want {
			l.t.Fatalf("got  %s %s\nwant %s", m.Type, m.Payload, want)
		}
	}
}

const (
	acme        = `{"tenantId":"acme"}`
	statuses    = `subscription { ordersChanged(initial: true) { kind new { status } } }`
	syncedOrder = `{"data":{"ordersChanged":{"kind":"SYNCED","new":null}}}`
)

func order(kind, status string) string {
	return fmt.Sprintf(`{"data":{"ordersChanged":{"kind":%q,"new":{"status":%q}}}}`, kind, status)
}

func orders(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, ordersTable)
	return db
}

// streamsOrders holds that a socket there streams the table, and what a tenant sees of it.
func streamsOrders(t *testing.T, db *pgtest.DB, address string) {
	t.Helper()
	l := subscribe(t, address, acme, nil, statuses)
	l.want(syncedOrder)
	db.Exec(t, `insert into orders (tenant_id, status) values ('zeta', 'not ours'), ('acme', 'open')`)
	db.Exec(t, `update orders set status = 'paid' where tenant_id = 'acme'`)
	l.want(order("INSERT", "open"), order("UPDATE", "paid"))
}

// examples are what is held of each program.
var examples = map[string]func(t *testing.T){
	"chi": func(t *testing.T) {
		db := orders(t)
		_, addr := example(t, "chi", db.URL)
		streamsOrders(t, db, addr+"/graphql")
	},
	"nethttp": func(t *testing.T) {
		db := orders(t)
		_, addr := example(t, "nethttp", db.URL)
		streamsOrders(t, db, addr+"/graphql")
		if status, body := get(t, addr, "/health"); status != http.StatusOK {
			t.Errorf("/health: %d %s", status, body)
		}
	},
	"socket": func(t *testing.T) {
		db := orders(t)
		_, addr := example(t, "socket", db.URL)
		streamsOrders(t, db, addr+"/graphql")
		db.Exec(t, `delete from orders`)
		streamsOrders(t, db, addr+"/tenants/acme/live")
		if status, _ := get(t, addr, "/tenants/zeta/live"); status != http.StatusNotFound {
			t.Errorf("a route that refuses: %d", status)
		}
	},
	"stream": func(t *testing.T) {
		db := orders(t)
		db.Exec(t, `insert into orders (tenant_id, status) values ('zeta', 'paid'), ('acme', 'open'), ('acme', 'paid')`)
		p, _ := example(t, "stream", db.URL)
		for _, want := range []string{
			`{"data":{"ordersChanged":{"kind":"INITIAL","new":{"id":"3","status":"paid"}}}}`,
			`{"data":{"ordersChanged":{"kind":"SYNCED","new":null}}}`,
		} {
			if got := strings.TrimSpace(p.line(t)); got != want {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
		}
		db.Exec(t, `update orders set status = 'paid' where id = 2`)
		if got, want := strings.TrimSpace(p.line(t)), `{"data":{"ordersChanged":{"kind":"INSERT","new":{"id":"2","status":"paid"}}}}`; got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	},
	"field": func(t *testing.T) {
		_, addr := example(t, "field", pgtest.New(t).URL)
		l := subscribe(t, addr+"/graphql", acme, nil, `subscription { jobProgress(job: "import") { percent text } }`)
		work := func(job string) {
			r, err := http.PostForm("http://"+addr+"/work", url.Values{"job": {job}})
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != http.StatusOK {
				t.Fatal(r.Status)
			}
		}
		if err := wsjson.Write(t.Context(), l.c, message{Type: "ping"}); err != nil {
			t.Fatal(err)
		}
		var pong message
		if err := wsjson.Read(t.Context(), l.c, &pong); err != nil || pong.Type != "pong" { // the subscription has begun
			t.Fatalf("got %v %v", pong, err)
		}
		work("another")
		work("import")
		l.want(`{"data":{"jobProgress":{"percent":75,"text":"3 of 4"}}}`)
	},
	"auth": func(t *testing.T) {
		db := orders(t)
		_, addr := example(t, "auth", db.URL)
		byCookie := subscribe(t, addr+"/graphql", "{}", http.Header{"Cookie": {"session=secret-of-ann"}}, statuses)
		byKey := subscribe(t, addr+"/graphql", `{"key":"secret-of-ann"}`, nil, statuses)
		for _, l := range []*live{byCookie, byKey} {
			l.want(syncedOrder)
		}
		db.Exec(t, `insert into orders (tenant_id, status) values ('acme', 'shipped'), ('zeta', 'open'), ('acme', 'open')`)
		for _, l := range []*live{byCookie, byKey} {
			l.want(order("INSERT", "open"))
		}
		if _, err := open(t, addr+"/graphql", `{"key":"guessed"}`, nil); websocket.CloseStatus(err) != 4403 {
			t.Errorf("a stranger got %v", err)
		}
	},
	"middleware": func(t *testing.T) {
		db := orders(t)
		p, addr := example(t, "middleware", db.URL)
		l := subscribe(t, addr+"/api/v1/live", acme, nil, statuses)
		l.want(syncedOrder)
		if status, body := get(t, addr, "/"); status != http.StatusOK || body != "hello\n" {
			t.Errorf("/: %d %s", status, body)
		}
		if status, body := get(t, addr, "/internal/health"); status != http.StatusOK {
			t.Errorf("/health: %d %s", status, body)
		}

		// Events come one by one through what compresses, and beyond the time that a request may take.
		lines := events(t, addr, "/api/v1/live", statuses)
		lines.want(syncedOrder)
		db.Exec(t, `insert into orders (tenant_id, status) values ('acme', 'open')`)
		l.want(order("INSERT", "open"))
		lines.want(order("INSERT", "open"))
		for range 4 {
			started := time.Now()
			for changes := 0; time.Since(started) < 500*time.Millisecond; changes++ { // the middleware's limit is a second
				db.Exec(t, `update orders set status = $1 where tenant_id = 'acme'`, fmt.Sprint(changes))
				l.want(order("UPDATE", fmt.Sprint(changes)))
				lines.want(order("UPDATE", fmt.Sprint(changes)))
			}
		}

		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var m message
		if err := wsjson.Read(t.Context(), l.c, &m); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("at the program's end the client got %v %v", m, err)
		}
		for range p.lines {
		}
	},
}

func get(t *testing.T, addr, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var all strings.Builder
	if _, err := bufio.NewReader(r.Body).WriteTo(&all); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, all.String()
}

// eventStream is a subscription by Server-Sent Events.
type eventStream struct {
	t  *testing.T
	in *bufio.Scanner
}

func events(t *testing.T, addr, path, query string) *eventStream {
	t.Helper()
	q := url.Values{"query": {query}, "extensions": {`{"connectionParams":` + acme + `}`}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path+"?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream") // and, by Go's client, gzip
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	if !answer.Uncompressed {
		t.Fatal("the stream is not compressed")
	}
	return &eventStream{t, bufio.NewScanner(answer.Body)}
}

func (e *eventStream) want(results ...string) {
	e.t.Helper()
	for _, want := range results {
		for {
			if !e.in.Scan() {
				e.t.Fatalf("the stream has ended (%v), want %s", e.in.Err(), want)
			}
			got, ok := strings.CutPrefix(e.in.Text(), "data: ")
			if !ok || got == "" {
				continue
			}
			if got != want {
				e.t.Fatalf("got  %s\nwant %s", got, want)
			}
			break
		}
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	programs, err := filepath.Glob(filepath.Join(root(), "examples", "*", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		name := filepath.Base(filepath.Dir(program))
		test, ok := examples[name]
		if !ok {
			t.Errorf("nothing is held of examples/%s", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
	if len(programs) != len(examples) {
		t.Errorf("%d programs and %d tests of them", len(programs), len(examples))
	}
}

// What the README shows is a program that runs, and short.
func TestTheExampleOfTheREADME(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile(filepath.Join(root(), "examples", "chi", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(program), "\n"); n >= 25 {
		t.Errorf("the example of chi has %d lines, want fewer than 25", n)
	}
	readme, err := os.ReadFile(filepath.Join(root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(program)+"```\n") {
		t.Error("README.md shows another program than examples/chi")
	}
}

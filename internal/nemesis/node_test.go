package nemesis

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/link"
)

// node is a process of the real binary, with a link to its database and one from its clients.
type node struct {
	name     string
	addr     string
	database *link.Link
	clients  *link.Link
	broker   *link.Link // or nil
	env      []string
	log      *os.File

	mu  sync.Mutex
	cmd *exec.Cmd // nil: down
}

func binary(t testing.TB) string {
	t.Helper()
	if *binFlag != "" {
		return *binFlag
	}
	bin, err := filepath.Abs(filepath.Join("..", "..", ".cache", "nemesis", "notifyql")) // where it stays, it need not be linked again
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/server")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

var tried atomic.Int64 // ports, of which none is tried twice: runs go on side by side

// freeAddr picks a port that nobody listens on, below those that are handed out for outgoing connections: a node that comes back
// must find it free.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+(int64(os.Getpid())*13+tried.Add(1))%9_000))
		if err != nil {
			continue
		}
		defer ln.Close()
		return ln.Addr().String()
	}
	t.Fatal("there is no free port")
	return ""
}

func newNode(t testing.TB, name string, database *link.Link, dir string) *node {
	t.Helper()
	n := &node{name: name, addr: freeAddr(t), database: database}
	n.clients = link.New(t, n.addr)
	url := fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", database.Addr, dbname)
	n.env = append(os.Environ(), "DATABASE_URL="+url, "NOTIFYQL_ADDR="+n.addr, "NOTIFYQL_AUTH=trust",
		"NOTIFYQL_TAIL_BYTES=4MB", "NOTIFYQL_DRAIN_TIMEOUT=1s", "NOTIFYQL_PING_INTERVAL=2s", "NOTIFYQL_PONG_TIMEOUT=4s")
	var err error
	if n.log, err = os.Create(filepath.Join(dir, name+".log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.stop(os.Kill)
		n.log.Close()
	})
	return n
}

// start begins the process, which needs a while to be ready.
func (n *node) start(bin string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return nil
	}
	fmt.Fprintf(n.log, "--- started at %s\n", clock(time.Now()))
	cmd := exec.CommandContext(context.Background(), bin, "serve") // it is ended by stop
	cmd.Env, cmd.Stdout, cmd.Stderr = n.env, n.log, n.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd = cmd
	return nil
}

// stop sends the process a signal and waits for its end.
func (n *node) stop(sig os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Signal(sig) //nolint:errcheck // it may have ended
	n.cmd.Wait()              //nolint:errcheck // how it ended is no matter
	n.cmd = nil
}

// signal sends the process a signal, if there is one.
func (n *node) signal(sig os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		n.cmd.Process.Signal(sig) //nolint:errcheck // it may have ended
	}
}

// ready reports whether the node says that it is.
func (n *node) ready(ctx context.Context) bool {
	h, ok := n.health(ctx)
	return ok && h.Status == "ready"
}

// relayed reports whether changes come to the node through the broker.
func (n *node) relayed(ctx context.Context) bool {
	h, ok := n.health(ctx)
	return ok && h.Relayed
}

type health struct {
	Status  string
	Relayed bool
}

func (n *node) health(ctx context.Context) (h health, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr+"/health", nil)
	if err != nil {
		return h, false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return h, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return h, err == nil && json.Unmarshal(text, &h) == nil
}

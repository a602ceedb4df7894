package e2e

import (
	"bufio"
	"bytes"
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
	"syscall"
	"testing"
	"time"
)

// process is a running program whose lines of standard output are events to wait for.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed at its end

	mu  sync.Mutex
	log bytes.Buffer // standard error
	end sync.Once
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// launch starts a program that ends with the test.
func launch(t *testing.T, dir string, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), lines: make(chan string, 1<<16)}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = dir, append(os.Environ(), env...), p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			p.lines <- line
		}
	}()
	t.Cleanup(func() {
		p.stop(os.Kill)
		if t.Failed() {
			t.Logf("%s %v wrote:\n%s", name, args, p.stderr())
		}
	})
	return p
}

// stop sends a signal and waits for the end. It returns the exit's error.
func (p *process) stop(sig os.Signal) (err error) {
	p.end.Do(func() {
		p.cmd.Process.Signal(sig) //nolint:errcheck // it may have ended
		for range p.lines {
		}
		err = p.cmd.Wait()
	})
	return err
}

// line waits for the next line.
func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case l, ok := <-p.lines:
		if !ok {
			t.Fatalf("%s ended", p.cmd.Path)
		}
		return l
	case <-time.After(time.Minute):
		t.Fatalf("%s says nothing", p.cmd.Path)
	}
	return ""
}

// server is the real binary's `serve`.
type server struct {
	*process
	addr string
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// serve starts the server at addr and waits until it is ready.
func serve(t *testing.T, url, addr string) *server {
	t.Helper()
	env := []string{"DATABASE_URL=" + url, "NOTIFYQL_ADDR=" + addr, "NOTIFYQL_AUTH=trust"}
	s := &server{launch(t, "", env, binary(t), "serve"), addr}
	s.await(t, "to be ready", func(h health) bool { return h.Status == "ready" })
	return s
}

type health struct {
	Status        string
	Listening     bool
	Since         time.Time
	Subscriptions int
	Connections   int
	Problems      map[string]string
}

func (s *server) health(ctx context.Context) (h health, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/health", nil)
	if err != nil {
		return h, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	return h, json.NewDecoder(resp.Body).Decode(&h)
}

// await asks the server's health until it is as wanted.
func (s *server) await(t *testing.T, what string, ok func(health) bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("the server %s", what), func() bool {
		h, err := s.health(t.Context())
		return err == nil && ok(h)
	})
}

// eventually waits for a state that nothing signals.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// subscription is what the npm client subscribes to.
type subscription struct {
	Query     string         `json:"query"`
	Variables map[string]any `json:"variables,omitempty"`
}

// said is one line of the npm client.
type said struct {
	Type    string
	Index   int
	Code    int
	Reason  string
	Payload json.RawMessage
	Error   json.RawMessage
}

// client is the real graphql-ws client of npm.
type client struct{ *process }

func connect(t *testing.T, addr string, params map[string]any, subs ...subscription) *client {
	t.Helper()
	settings, err := json.Marshal(map[string]any{"url": "ws://" + addr + "/graphql", "params": params, "subscriptions": subs})
	if err != nil {
		t.Fatal(err)
	}
	return &client{launch(t, filepath.Join(root(), "test", "npm"), nil, "node", "live.mjs", string(settings))}
}

func (c *client) said(t *testing.T) said {
	t.Helper()
	var s said
	line := c.line(t)
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("the client wrote %q: %v", line, err)
	}
	return s
}

// next waits for the next result, past what is said of connections.
func (c *client) next(t *testing.T) string {
	t.Helper()
	for {
		switch s := c.said(t); s.Type {
		case "next":
			return string(s.Payload)
		case "connected", "closed":
		default:
			t.Fatalf("the client got %+v", s)
		}
	}
}

// peak is the most memory the server has had resident, in bytes.
func (s *server) peak(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var kb int64
		if _, err := fmt.Sscanf(string(line), "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("the kernel does not say")
	return 0
}

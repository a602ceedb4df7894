// Package npm runs the real JavaScript clients against a server under test. Their versions are pinned by
// package-lock.json beside this file; Dir installs them on first use.
package npm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Dir is the folder with the scripts and their node_modules.
func Dir(t testing.TB) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	return Install(t, filepath.Dir(file))
}

// Install installs in a folder what its lock file says, unless that is there; other test binaries that ask at the same
// time wait. It returns the folder.
func Install(t testing.TB, dir string) string {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("notifyql-npm-%d.lock", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	stamp := filepath.Join(dir, "node_modules", ".notifyql-setup")
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, want) {
		return dir
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(stamp, want, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Client is a running client script: client.mjs says what it understands and tells.
type Client struct {
	t      testing.TB
	in     io.WriteCloser
	events chan Event
	stderr bytes.Buffer
}

// Event is what a client tells.
type Event struct {
	Event   string          `json:"event"`
	ID      string          `json:"id,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func (e Event) String() string {
	b, _ := json.Marshal(e)
	return string(b)
}

// Start runs a client of a library against url; options are the library's own. The client is ended with the test.
func Start(t testing.TB, library, url string, options any) *Client {
	t.Helper()
	opts, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "client.mjs", library, url, string(opts))
	cmd.Dir = Dir(t)
	c := &Client{t: t, events: make(chan Event, 10000)}
	cmd.Stderr = &c.stderr
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.events)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var e Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				e = Event{Event: "garbage", Payload: lines.Bytes()}
			}
			c.events <- e
		}
	}()
	t.Cleanup(func() {
		c.in.Close() // the script ends with its input
		<-read
		cmd.Wait()
		if t.Failed() && c.stderr.Len() > 0 {
			t.Logf("%s: %s", library, c.stderr.String())
		}
	})
	return c
}

// Do sends a command.
func (c *Client) Do(command map[string]any) {
	c.t.Helper()
	b, err := json.Marshal(command)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(b, '\n')); err != nil {
		c.t.Fatal(err)
	}
}

// Subscribe starts an operation under a name of the test's own.
func (c *Client) Subscribe(id, query string) {
	c.t.Helper()
	c.Do(map[string]any{"do": "subscribe", "id": id, "query": query})
}

// Event waits for the next event.
func (c *Client) Event() Event {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	select {
	case e, ok := <-c.events:
		if !ok {
			c.t.Fatal("the client has ended")
		}
		return e
	case <-ctx.Done():
		c.t.Fatal("no event within 30 s")
		return Event{}
	}
}

// Want waits for events that print as these do, in this order.
func (c *Client) Want(events ...string) {
	c.t.Helper()
	for _, want := range events {
		if got := c.Event().String(); got != want {
			c.t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// Until skips events until one of this kind.
func (c *Client) Until(event string) Event {
	c.t.Helper()
	for {
		if e := c.Event(); e.Event == event {
			return e
		}
	}
}

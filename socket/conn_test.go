package socket

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// counting is a connection that counts writes, and takes none before its gate is open.
type counting struct {
	net.Conn
	gate chan struct{} // not nil: each write takes one value first, or finds it closed

	mu     sync.Mutex
	writes [][]byte
}

func (c *counting) Write(p []byte) (int, error) {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, bytes.Clone(p))
	return len(p), nil
}

func (c *counting) got() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(bytes.Join(c.writes, []byte("|")))
}

func write(t *testing.T, c *Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write returned %d %v", n, err)
	}
}

func TestCork(t *testing.T) {
	under := &counting{}
	c := New(under, nil)
	write(t, c, "a")
	c.Cork()
	write(t, c, "b")
	write(t, c, "c")
	if got := under.got(); got != "a" {
		t.Errorf("under the cork %q was written", got)
	}
	if err := c.Uncork(); err != nil {
		t.Fatal(err)
	}
	write(t, c, "d")
	if got := under.got(); got != "a|bc|d" {
		t.Errorf("got %q", got)
	}
}

// A control frame does not wait for a slow write, but goes next; what waits is bounded.
func TestControlFramesDoNotWait(t *testing.T) {
	under := &counting{gate: make(chan struct{})}
	c := New(under, nil)
	c.Cork()
	write(t, c, "messages")
	done := make(chan error, 1)
	go func() { done <- c.Uncork() }()
	c.mu.Lock()
	for !c.flushing {
		c.mu.Unlock()
		c.mu.Lock()
	}
	c.mu.Unlock()
	write(t, c, "pong")
	write(t, c, string(make([]byte, maxHeld))) // the last one that does not wait
	waits := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("x"))
		waits <- err
	}()
	select {
	case err := <-waits:
		t.Fatalf("what waits is not bounded: %v", err)
	default:
	}
	close(under.gate)
	for _, end := range []chan error{done, waits} {
		if err := <-end; err != nil {
			t.Error(err)
		}
	}
	if got := under.got(); got[:13] != "messages|pong" {
		t.Errorf("got %.30q", got)
	}
}

func TestWhatTheHTTPServerHadRead(t *testing.T) {
	a, b := net.Pipe()
	c := New(a, []byte("early"))
	go func() { _, _ = b.Write([]byte("late")) }()
	var got []byte
	for p := make([]byte, 3); len(got) < 9; {
		n, err := c.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if string(got) != "earlylate" || c.Heard() != 2 {
		t.Errorf("got %q, heard %d times", got, c.Heard())
	}
	c.Abort()
	b.Close()
}

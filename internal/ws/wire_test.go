package ws

import (
	"errors"
	"net"
	"sync"
	"testing"
)

// gated is a connection each of whose writes waits to be let through.
type gated struct {
	net.Conn
	begun chan string   // what a write is about to write
	gate  chan struct{} // lets one through
}

func (c *gated) Write(p []byte) (int, error) {
	c.begun <- string(p)
	<-c.gate
	return len(p), nil
}

// While a slow write is under way, control frames do not wait for it but go right behind it, close frames wait to be
// gone, and nothing follows those.
func TestWireOrder(t *testing.T) {
	c := &gated{begun: make(chan string), gate: make(chan struct{})}
	w := newWire(c, nil)
	var writers sync.WaitGroup
	writers.Go(func() {
		if err := w.send([]byte("data")); err != nil {
			t.Error(err)
		}
	})
	if got := <-c.begun; got != "data" {
		t.Fatal(got)
	}
	if _, err := w.Write([]byte{0x8a, 0}); err != nil { // a pong
		t.Fatal(err)
	}
	if n := w.backlog(); n != 2 {
		t.Errorf("%d bytes wait", n)
	}
	c.gate <- struct{}{}
	if got := <-c.begun; got != "\x8a\x00" {
		t.Fatalf("%q", got)
	}
	closing := make(chan error)
	writers.Go(func() {
		_, err := w.Write([]byte{finClose, 2, 3, 0xe8})
		closing <- err
	})
	select {
	case err := <-closing:
		t.Fatalf("a close frame was done before it was written: %v", err)
	case c.gate <- struct{}{}:
	}
	if got := <-c.begun; got != "\x88\x02\x03\xe8" {
		t.Fatalf("%q", got)
	}
	c.gate <- struct{}{}
	if err := <-closing; err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	if err := w.send([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the close frame: %v", err)
	}
	if _, err := w.Write([]byte{0x8a, 0}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the close frame: %v", err)
	}
}

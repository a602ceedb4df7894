package linger

import (
	"io"
	"net"
	"testing"
	"time"
)

// A peer that sends without end, and reads late, gets what it was sent before the connection was closed.
func TestHold(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		for {
			if _, err := peer.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil { // it is at it
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		Hold(c, time.Hour)
	}()
	got := make([]byte, 7)
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != "the end" {
		t.Errorf("it got %q, %v", got, err)
	}
	select {
	case <-held:
		t.Error("nothing was held")
	default:
	}
	c.Close() //nolint:errcheck // it ends the hold
	<-held
	peer.Close() //nolint:errcheck // it has served
	<-flooding
}

// It ends by itself, and where there is nothing to wait on.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	one, other := net.Pipe()
	defer other.Close()
	Hold(one, time.Hour)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	Hold(c, time.Millisecond)
}

// Package link puts a way of TCP connections between two parties that a test can disturb.
package link

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Link is a way of TCP connections that can be disturbed. It keeps its own address, wherever it leads.
type Link struct {
	Addr string

	mu      sync.Mutex
	to      string
	refused bool
	conns   map[net.Conn]*passage
	frozen  chan struct{} // not nil: closed by Heal
}

// passage is one connection.
type passage struct {
	lost chan struct{} // closed when what is sent is lost
	once sync.Once     // closes it
}

// New returns a Link to an address, open until t ends.
func New(t testing.TB, to string) *Link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{Addr: ln.Addr().String(), to: to, conns: map[net.Conn]*passage{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.serve(client) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		l.Heal()
		l.Cut()
		wg.Wait()
	})
	return l
}

func (l *Link) serve(client net.Conn) {
	defer client.Close()
	l.mu.Lock()
	to, refused := l.to, l.refused
	l.mu.Unlock()
	if refused {
		return
	}
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	p := &passage{lost: make(chan struct{})}
	l.mu.Lock()
	if l.refused {
		l.mu.Unlock()
		return
	}
	l.conns[client], l.conns[server] = p, p
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.conns, client)
		delete(l.conns, server)
		l.mu.Unlock()
	}()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			l.forward(way[0], way[1], p)
			client.Close()
			server.Close()
		})
	}
	wg.Wait()
}

// Uses reports whether a connection from this port is one of its own, to where it leads.
func (l *Link) Uses(port int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if from, ok := c.LocalAddr().(*net.TCPAddr); ok && from.Port == port {
			return true
		}
	}
	return false
}

func (l *Link) forward(to io.Writer, from io.Reader, p *passage) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		frozen := l.frozen
		l.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		select {
		case <-p.lost:
			n = 0
		default:
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// Cut closes all connections and refuses new ones, until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = true
	for c := range l.conns {
		c.Close()
	}
}

// Freeze holds back what is sent, over new connections too, until Heal.
func (l *Link) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

// Swallow loses from now on what is sent over the connections that there are, and tells nobody. Heal does not bring it back.
func (l *Link) Swallow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.conns {
		p.once.Do(func() { close(p.lost) })
	}
}

// Bury ends the connections that have lost something.
func (l *Link) Bury() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, p := range l.conns {
		select {
		case <-p.lost:
			c.Close()
		default:
		}
	}
}

// Heal lets new connections be made, and goes on with what is frozen.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = false
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// Lead lets it lead elsewhere. The connections that there are end.
func (l *Link) Lead(to string) {
	l.Cut()
	l.mu.Lock()
	l.to = to
	l.mu.Unlock()
	l.Heal()
}

package nemesis

import (
	"io"
	"net"
	"sync"
	"testing"
)

// link is a way of TCP connections that can be disturbed. It keeps its own address, wherever it leads.
type link struct {
	addr string

	mu      sync.Mutex
	to      string
	refused bool
	conns   map[net.Conn]*passage
	frozen  chan struct{} // not nil: closed by heal
}

// passage is one connection.
type passage struct {
	lost chan struct{} // closed when what is sent is lost
	once sync.Once     // closes it
}

func newLink(t testing.TB, to string) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: ln.Addr().String(), to: to, conns: map[net.Conn]*passage{}}
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
		l.heal()
		l.cut()
		wg.Wait()
	})
	return l
}

func (l *link) serve(client net.Conn) {
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

// uses reports whether a connection from this port is one of its own, to where it leads.
func (l *link) uses(port int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if from, ok := c.LocalAddr().(*net.TCPAddr); ok && from.Port == port {
			return true
		}
	}
	return false
}

func (l *link) forward(to io.Writer, from io.Reader, p *passage) {
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

// cut closes all connections and refuses new ones, until heal.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = true
	for c := range l.conns {
		c.Close()
	}
}

// freeze holds back what is sent, over new connections too, until heal.
func (l *link) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

// swallow loses from now on what is sent over the connections that there are, and tells nobody. heal does not bring it back.
func (l *link) swallow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.conns {
		p.once.Do(func() { close(p.lost) })
	}
}

// bury ends the connections that have lost something.
func (l *link) bury() {
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

// heal lets new connections be made, and goes on with what is frozen.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = false
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// lead lets it lead elsewhere. The connections that there are end.
func (l *link) lead(to string) {
	l.cut()
	l.mu.Lock()
	l.to = to
	l.mu.Unlock()
	l.heal()
}

package pg

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// through gives a database's URL by way of another address.
func through(t testing.TB, databaseURL string, addr net.Addr) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr.String()
	return u.String()
}

// wire forwards connections. When it is cut nothing gets through any more over those that there are, and nobody is told.
type wire struct {
	addr net.Addr
	// passing, if not nil, is called with what comes before it is passed on.
	passing func(fromClient bool, b []byte)

	mu  sync.Mutex
	cut chan struct{} // closed when the present connections are cut
}

func newWire(t testing.TB, databaseURL string) *wire {
	t.Helper()
	to, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{cut: make(chan struct{})}
	network, address := pgconn.NetworkAddress(to.Host, to.Port)
	w.addr = pgtest.Serve(t, func(client net.Conn) {
		w.mu.Lock()
		cut := w.cut
		w.mu.Unlock()
		server, err := net.Dial(network, address)
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			wg.Go(func() {
				forward(way[0], way[1], cut, func(b []byte) {
					if w.passing != nil {
						w.passing(way[1] == client, b)
					}
				})
				server.Close()
				client.Close()
			})
		}
		wg.Wait()
	})
	return w
}

// forward copies until one side ends; what comes after the cut is lost on the way.
func forward(to io.Writer, from io.Reader, cut chan struct{}, passing func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		passing(buf[:n])
		select {
		case <-cut:
			n = 0
		default:
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (w *wire) cutOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.cut)
	w.cut = make(chan struct{})
}

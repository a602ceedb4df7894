package pg

import (
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
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

// serve accepts connections until the test ends, and waits for all of them to be over.
func serve(t testing.TB, handle func(client net.Conn)) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var clients []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			clients = append(clients, client)
			mu.Unlock()
			wg.Go(func() {
				defer client.Close()
				handle(client)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range clients {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr()
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
	w.addr = serve(t, func(client net.Conn) {
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

// pooler is a transaction pooler: clients share a few server connections, and have one only while a transaction lasts. As
// usual with poolers it makes up the backend's process id, and knows few startup parameters.
type pooler struct {
	addr    net.Addr
	servers chan *pgconn.HijackedConn // the idle ones, taken in turn
}

func newPooler(t testing.TB, databaseURL string, size int) *pooler {
	t.Helper()
	p := &pooler{servers: make(chan *pgconn.HijackedConn, size)}
	for range size {
		conn, err := pgconn.Connect(context.Background(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		server, err := conn.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Conn.Close() })
		p.servers <- server
	}
	p.addr = serve(t, p.client)
	return p
}

func (p *pooler) client(conn net.Conn) {
	client := pgproto3.NewBackend(conn, conn)
	msg, err := client.ReceiveStartupMessage()
	if err != nil {
		return
	}
	start, ok := msg.(*pgproto3.StartupMessage)
	if !ok {
		return
	}
	for name := range start.Parameters {
		if !strings.Contains("user database application_name client_encoding", name) {
			client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: " + name})
			_ = client.Flush() // the client may be gone
			return
		}
	}
	client.Send(&pgproto3.AuthenticationOk{})
	client.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	client.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	client.Send(&pgproto3.BackendKeyData{ProcessID: 4_000_000, SecretKey: []byte{1, 2, 3, 4}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if client.Flush() != nil {
		return
	}
	for p.transaction(client) {
	}
}

// transaction serves a client for one transaction, on the next server. It reports false when the client is gone.
func (p *pooler) transaction(client *pgproto3.Backend) bool {
	msg, err := client.Receive()
	if err != nil {
		return false
	}
	server := <-p.servers
	defer func() { p.servers <- server }()
	for {
		if _, end := msg.(*pgproto3.Terminate); end {
			return false
		}
		server.Frontend.Send(msg)
		if server.Frontend.Flush() != nil {
			return false
		}
		switch msg.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			done, ok := p.answer(client, server)
			if done || !ok {
				return ok
			}
		}
		if msg, err = client.Receive(); err != nil {
			return false
		}
	}
}

// answer passes on what the server says, up to when it is ready again, and reports whether the transaction is over.
func (p *pooler) answer(client *pgproto3.Backend, server *pgconn.HijackedConn) (done, ok bool) {
	for {
		msg, err := server.Frontend.Receive()
		if err != nil {
			return false, false
		}
		client.Send(msg)
		if ready, is := msg.(*pgproto3.ReadyForQuery); is {
			return ready.TxStatus == 'I', client.Flush() == nil
		}
	}
}

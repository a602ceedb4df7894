package pgtest

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Serve accepts connections until the test ends, and waits for all of them to be over.
func Serve(t testing.TB, handle func(client net.Conn)) net.Addr {
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

// pooler is a transaction pooler: clients share a few server connections, and have one only while a transaction lasts. As
// usual with poolers it makes up the backend's process id, and knows few startup parameters.
type pooler struct {
	servers chan *pgconn.HijackedConn // the idle ones, taken in turn
}

// Pooler starts a transaction pooler before a database, with as many connections to it. It returns where it is, and ends with the test.
func Pooler(t testing.TB, databaseURL string, size int) net.Addr {
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
	return Serve(t, p.client)
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

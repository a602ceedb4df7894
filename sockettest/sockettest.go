// Package sockettest holds an adapter for a WebSocket library to what notifyql.Socket promises. An adapter's test is
//
//	func TestSocket(t *testing.T) { sockettest.Run(t, mine.Upgrade) }
//
// best with the race detector. The peer in these tests writes frames by hand, since a good client does not do what a bad
// one does.
package sockettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
)

const (
	// MaxMessageBytes is the limit that the tests' handshakes ask for.
	MaxMessageBytes = 128 << 10
	// patience is how long anything may take before it is said never to come.
	patience = 30 * time.Second
)

var subprotocols = []string{"graphql-transport-ws", "graphql-ws"}

// Run runs the suite on the sockets that upgrade makes.
func Run(t *testing.T, upgrade notifyql.Upgrade) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()        // some wait for a timeout
			t.Cleanup(guard(t)) // registered first, so run last
			test.run(newServer(t, upgrade, strings.HasPrefix(test.name, "TLS")))
		})
	}
}

// Tests are in the order in which an author best makes them pass.
var tests = []struct {
	name string
	run  func(*server)
}{
	{"Subprotocol", testSubprotocol},
	{"Middleware", testMiddleware},
	{"ReadText", testReadText},
	{"ReadFragments", testReadFragments},
	{"ReadKeepsTheSlice", testReadKeepsTheSlice},
	{"ReadRefuses", testReadRefuses},
	{"ReadMalformed", testReadMalformed},
	{"Write", testWrite},
	{"WriteKeepsNothing", testWriteKeepsNothing},
	{"PingIsAnswered", testPingIsAnswered},
	{"Pinger", testPinger},
	{"Close", testClose},
	{"CloseTwice", testCloseTwice},
	{"CloseWhileThePeerSends", testCloseWhileThePeerSends},
	{"CloseEndsRead", testCloseEndsRead},
	{"CloseEndsWrite", testCloseEndsWrite},
	{"CloseOfASilentPeer", testCloseOfASilentPeer},
	{"PeerCloses", testPeerCloses},
	{"PeerVanishes", testPeerVanishes},
	{"ContextEndsRead", testContextEndsRead},
	{"ContextEndsWrite", testContextEndsWrite},
	{"AtTheSameTime", testAtTheSameTime},
	{"TLS", testClose},
	{"TLSCloseEndsWrite", testCloseEndsWrite},
	{"TLSPeerVanishes", testPeerVanishes},
}

// server accepts sockets, and hands them to the test. Its handler returns at once.
type server struct {
	*testing.T
	http      *httptest.Server
	encrypted bool
	sockets   chan notifyql.Socket
}

func newServer(t *testing.T, upgrade notifyql.Upgrade, encrypted bool) *server {
	s := &server{T: t, sockets: make(chan notifyql.Socket, 1)}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wrapped" {
			w = wrapped{w}
		}
		socket, err := upgrade(w, r, notifyql.Handshake{Subprotocols: subprotocols, MaxMessageBytes: MaxMessageBytes})
		if err != nil {
			t.Errorf("the handshake failed: %v", err)
			socket = nil
		}
		s.sockets <- socket
	}))
	if s.encrypted = encrypted; encrypted {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(s.http.Close)
	return s
}

// wrapped is what middleware makes of a ResponseWriter.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// connect returns the two ends of a new WebSocket.
func (s *server) connect() (notifyql.Socket, *peer) {
	s.Helper()
	return s.open("/", "Sec-WebSocket-Protocol: "+subprotocols[0])
}

func (s *server) open(path string, header ...string) (notifyql.Socket, *peer) {
	s.Helper()
	p := dial(s, path, header)
	select {
	case socket := <-s.sockets:
		if socket == nil {
			s.FailNow()
		}
		s.Cleanup(func() {
			p.Close()
			within(s.T, "Close", func() { socket.Close(1000, "") }) //nolint:errcheck // it may have failed
		})
		return socket, p
	case <-time.After(patience):
		s.Fatal("the handshake did not end")
	}
	return nil, nil
}

// within runs f, which has to return.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

// read returns the next message.
func (s *server) read(socket notifyql.Socket) string {
	s.Helper()
	var b []byte
	var err error
	within(s.T, "Read", func() { b, err = socket.Read(context.Background()) })
	if err != nil {
		s.Fatalf("Read: %v", err)
	}
	return string(b)
}

// readError returns the error of a Read that has to have one.
func (s *server) readError(socket notifyql.Socket) error {
	s.Helper()
	var b []byte
	var err error
	within(s.T, "Read", func() { b, err = socket.Read(context.Background()) })
	if err == nil {
		s.Fatalf("Read returned %.40q, and no error", b)
	}
	return err
}

// reading lets Read fail elsewhere, as it may wait for the peer to close, and then closes, as the caller of a Read that failed does.
func (s *server) reading(socket notifyql.Socket) chan error {
	ended := make(chan error, 1)
	go func() {
		b, err := socket.Read(context.Background())
		if err == nil {
			s.Errorf("Read returned %.40q, and no error", b)
		}
		socket.Close(1011, "the caller's word comes too late") //nolint:errcheck // as is looked at
		ended <- err
	}()
	return ended
}

func (s *server) write(socket notifyql.Socket, messages ...string) {
	s.Helper()
	var list [][]byte
	for _, m := range messages {
		list = append(list, []byte(m))
	}
	var err error
	within(s.T, "Write", func() { err = socket.Write(context.Background(), list...) })
	if err != nil {
		s.Fatalf("Write: %v", err)
	}
}

// fill writes until the peer, which does not read, can take no more, and gives what Write returns at last. begun is closed
// when a Write that can't end has begun, as far as can be told.
func fill(ctx context.Context, socket notifyql.Socket) (ended chan error, begun chan struct{}) {
	ended, begun = make(chan error, 1), make(chan struct{})
	go func() {
		big := [][]byte{bytes.Repeat([]byte("x"), 8<<20)} // more than the kernel takes
		close(begun)
		for {
			if err := socket.Write(ctx, big...); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended, begun
}

// finished gives the error that a call ended with.
func finished(t *testing.T, what string, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
	return nil
}

// closedNormally reports whether an error of Read says that the peer has closed in order.
func closedNormally(err error) bool {
	var closed *notifyql.CloseError
	return errors.As(err, &closed) && (closed.Code == 1000 || closed.Code == 1001)
}

var guards sync.Mutex // one label at a time is enough

var guarded int

// guard gives what reports goroutines that a test leaves behind. What this goroutine starts, and what that starts, has its
// label.
func guard(t *testing.T) func() {
	guards.Lock()
	guarded++
	label := fmt.Sprintf("%d", guarded)
	guards.Unlock()
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("sockettest", label)))
	return func() {
		pprof.SetGoroutineLabels(context.Background())
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for late := time.After(patience); ; {
			left := labelled(label)
			if left == "" {
				return
			}
			select {
			case <-tick.C: // they may be about to end
			case <-late:
				t.Errorf("goroutines are left:\n%s", left)
				return
			}
		}
	}
}

// labelled is the stacks of the goroutines with a label.
func labelled(label string) string {
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return err.Error()
	}
	var left []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf(`"sockettest":%q`, label)) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

package wstest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

// server accepts sockets of the real library, as a program would: the handler returns and the socket is served elsewhere.
type server struct {
	*httptest.Server
	served sync.WaitGroup

	mu   sync.Mutex
	ctx  context.Context
	stop context.CancelCauseFunc
	down bool
	ends []error // what each Serve gave
}

func (lib library) newServer(t testing.TB, f *fake, a ws.AcceptOptions, o ws.Options) *server {
	t.Helper()
	s := &server{}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		ctx, down := s.ctx, s.down
		s.served.Add(1) // before the client knows
		s.mu.Unlock()
		if down {
			lib.refuse(w, r, a, ws.Restarting())
			s.served.Done()
			return
		}
		socket, err := lib.accept(w, r, a)
		if err != nil {
			s.served.Done()
			return
		}
		go func() {
			defer s.served.Done()
			err := ws.Serve(ctx, socket, f, o)
			s.mu.Lock()
			s.ends = append(s.ends, err)
			s.mu.Unlock()
		}()
	}))
	t.Cleanup(func() {
		s.Close()
		s.stop(nil)
		s.served.Wait()
		f.check(t)
	})
	return s
}

// restart ends all sockets as a server does that goes down, and takes new ones when every old one is gone.
func (s *server) restart() { s.kick(ws.Restarting()) }

// kick closes all sockets, and takes new ones when every old one is gone.
func (s *server) kick(e *ws.CloseError) {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.stop(e)
	s.served.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.down = false
}

func (s *server) url() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

// end waits until the sockets are served, and gives what Serve of the last one gave.
func (s *server) end() error {
	s.served.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[len(s.ends)-1]
}

// handshake tries to upgrade and gives the status.
func (s *server) handshake(t testing.TB, header ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Sec-WebSocket-Protocol", transportWS)
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// at is the same server at the address of a proxy.
func (s *server) at(addr net.Addr) *httptest.Server {
	return &httptest.Server{URL: "http://" + addr.String()}
}

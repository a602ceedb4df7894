package ws

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// server accepts sockets of the real library, as a program would: the handler returns and the socket is served elsewhere.
type server struct {
	*httptest.Server
	fake *fake
	ctx  context.Context
	stop context.CancelCauseFunc

	mu     sync.Mutex
	ends   []error // what each Serve gave
	served sync.WaitGroup
}

func newServer(t testing.TB, f *fake, a AcceptOptions, o Options) *server {
	t.Helper()
	s := &server{fake: f}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := Accept(w, r, a)
		if err != nil {
			return
		}
		s.served.Go(func() {
			err := Serve(s.ctx, socket, f, o)
			s.mu.Lock()
			s.ends = append(s.ends, err)
			s.mu.Unlock()
		})
	}))
	t.Cleanup(func() {
		s.Close()
		s.stop(nil)
		s.served.Wait()
		f.check(t)
	})
	return s
}

func (s *server) url() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

package sse

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

// fake is a service whose streams the test feeds: "query …" gives one result, "fail" an error, "broken" an internal one,
// any other query is a topic of events.
type fake struct {
	mu       sync.Mutex
	refuse   error
	inits    []string
	sessions int
	streams  int
	wrong    []string
	started  chan *stream
}

func newFake() *fake { return &fake{started: make(chan *stream, 100)} }

func (f *fake) Connect(_ context.Context, init []byte) (ws.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inits = append(f.inits, string(init))
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.sessions++
	return &session{f: f}, nil
}

func (f *fake) open() (sessions, streams int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions, f.streams
}

type session struct {
	f    *fake
	open int // guarded by f.mu
}

func (s *session) Subscribe(ctx context.Context, op ws.Operation, wake func()) ws.Stream {
	st := &stream{s: s, op: op, wake: wake, ctx: ctx}
	switch word, _, _ := strings.Cut(op.Query, " "); word {
	case "query":
		st.results, st.err = []string{`{"data":{"ok":true}}`}, io.EOF
	case "fail":
		st.err = &ws.OperationError{Errors: []byte(`[{"message":"no such field"}]`)}
	case "broken":
		st.err = errors.New("disk on fire")
	}
	s.f.mu.Lock()
	s.open++
	s.f.streams++
	s.f.mu.Unlock()
	wake()
	s.f.started <- st
	return st
}

func (s *session) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.open != 0 {
		s.f.wrong = append(s.f.wrong, "a session was closed before its streams")
	}
	s.f.sessions--
}

type stream struct {
	s    *session
	op   ws.Operation
	wake func()
	ctx  context.Context

	mu      sync.Mutex
	results []string
	err     error
	closed  bool
	asked   int
}

func (s *stream) add(results ...string) {
	s.mu.Lock()
	s.results = append(s.results, results...)
	s.mu.Unlock()
	s.wake()
}

func (s *stream) end(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.wake()
}

func (s *stream) Next(dst [][]byte, limit int) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.closed {
		s.s.f.mu.Lock()
		s.s.f.wrong = append(s.s.f.wrong, "Next after Close")
		s.s.f.mu.Unlock()
	}
	for ; len(s.results) > 0 && limit > 0; limit-- {
		dst = append(dst, []byte(s.results[0]))
		s.results = s.results[1:]
	}
	if len(s.results) > 0 {
		return dst, nil
	}
	return dst, s.err
}

func (s *stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.f.mu.Lock()
	defer s.s.f.mu.Unlock()
	if s.closed {
		s.s.f.wrong = append(s.s.f.wrong, "a stream was closed twice")
	}
	s.closed = true
	s.s.open--
	s.s.f.streams--
}

// server serves a Handler until the test ends, or goes down and up in between.
type server struct {
	*httptest.Server
	t testing.TB
	f *fake

	mu   sync.Mutex
	h    *Handler
	stop context.CancelFunc
	o    Options
}

func newServer(t testing.TB, f *fake, o Options) *server {
	s := &server{t: t, f: f, o: o}
	s.up()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		h := s.h
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.down()
		s.Close()
		sessions, streams := f.open()
		if sessions != 0 || streams != 0 || f.wrong != nil {
			t.Errorf("%d sessions and %d streams are left; %q", sessions, streams, f.wrong)
		}
	})
	return s
}

func (s *server) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Service = func(*http.Request) ws.Service { return s.f }
	s.o.Context, s.stop = context.WithCancel(context.Background())
	s.h = New(s.o)
}

func (s *server) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.h.Close()
}

package wstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

// fake is a Service whose streams the test feeds. An operation's query says what it does: see Subscribe.
type fake struct {
	refuse error // of Connect

	mu       sync.Mutex
	inits    []string
	sessions int // open
	opened   int // sessions ever
	streams  map[*fakeStream]bool
	started  chan *fakeStream // every stream that Subscribe made and that has a topic
	problems []string
}

func newFake() *fake {
	return &fake{streams: map[*fakeStream]bool{}, started: make(chan *fakeStream, 4096)}
}

func (f *fake) Connect(_ context.Context, init []byte) (ws.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inits = append(f.inits, string(init))
	if bytes.Contains(init, []byte(`"refuse"`)) {
		return nil, errors.New("refused by its payload")
	}
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.sessions++
	f.opened++
	return &fakeSession{fake: f}, nil
}

// open is how many sessions and streams there are.
func (f *fake) open() (sessions, streams int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions, len(f.streams)
}

func (f *fake) wrong(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

// check reports what was done against the contract of Session and Stream, and what was left open.
func (f *fake) check(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.problems {
		t.Error(p)
	}
	if f.sessions != 0 || len(f.streams) != 0 {
		t.Errorf("left open: %d sessions, %d streams", f.sessions, len(f.streams))
	}
}

// publish gives a result to every stream of a topic, and says how many those are.
func (f *fake) publish(topic, result string) int {
	f.mu.Lock()
	var to []*fakeStream
	for s := range f.streams {
		if s.op.Query == topic && s.ctx.Err() == nil {
			to = append(to, s)
		}
	}
	f.mu.Unlock()
	for _, s := range to {
		s.add(result)
	}
	return len(to)
}

type fakeSession struct {
	fake   *fake
	mu     sync.Mutex
	open   int
	closed bool
}

// Subscribe serves these queries: "query …" one result at once, "count N" that many, "fail" an error, "panic" none, and
// any other is a topic of events.
func (s *fakeSession) Subscribe(ctx context.Context, op ws.Operation, wake func()) ws.Stream {
	st := &fakeStream{session: s, op: op, wake: wake, ctx: ctx}
	var n int
	switch word, _, _ := strings.Cut(op.Query, " "); {
	case word == "query" || word == "mutation":
		st.add(`{"data":{"ok":true}}`)
		st.end(io.EOF)
	case word == "count":
		fmt.Sscanf(op.Query, "count %d", &n)
		for i := range n {
			st.add(fmt.Sprintf(`{"data":{"n":%d}}`, i))
		}
		st.end(io.EOF)
	case word == "fail":
		st.end(&ws.OperationError{Errors: []byte(`[{"message":"no such field"}]`)})
	case word == "broken":
		st.end(errors.New("disk on fire"))
	case word == "panic":
		st.end(errPanic)
	}
	s.mu.Lock()
	s.open++
	if s.closed {
		s.fake.wrong("Subscribe after Session.Close")
	}
	s.mu.Unlock()
	s.fake.mu.Lock()
	s.fake.streams[st] = true
	s.fake.mu.Unlock()
	wake() // before Subscribe returns, as a service may
	s.fake.started <- st
	return st
}

var errPanic = errors.New("panic")

func (s *fakeSession) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.open != 0 {
		s.fake.wrong("Session.Close: closed before: %v, streams open: %d", s.closed, s.open)
	}
	s.closed = true
	s.fake.mu.Lock()
	s.fake.sessions--
	s.fake.mu.Unlock()
}

type fakeStream struct {
	session *fakeSession
	op      ws.Operation
	wake    func()
	ctx     context.Context

	mu      sync.Mutex
	results [][]byte
	err     error
	busy    bool
	closed  bool
	block   chan struct{} // not nil: Next waits for it
	inNext  chan struct{} // not nil: gets a value when Next begins
}

func (s *fakeStream) add(results ...string) {
	s.mu.Lock()
	for _, r := range results {
		s.results = append(s.results, []byte(r))
	}
	s.mu.Unlock()
	s.wake()
}

func (s *fakeStream) end(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.wake()
}

func (s *fakeStream) Next(dst [][]byte, limit int) ([][]byte, error) {
	s.mu.Lock()
	if s.busy || s.closed {
		s.session.fake.wrong("Next while busy %v, closed %v", s.busy, s.closed)
	}
	s.busy = true
	block, inNext := s.block, s.inNext
	s.mu.Unlock()
	if inNext != nil {
		inNext <- struct{}{}
	}
	if block != nil {
		<-block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	n := min(limit, len(s.results))
	dst = append(dst, s.results[:n]...)
	s.results = s.results[n:]
	if len(s.results) > 0 {
		return dst, nil
	}
	if s.err == errPanic {
		panic("asked for")
	}
	return dst, s.err
}

func (s *fakeStream) Close() {
	s.mu.Lock()
	if s.busy || s.closed {
		s.session.fake.wrong("Stream.Close while busy %v, closed %v", s.busy, s.closed)
	}
	s.closed = true
	s.mu.Unlock()
	s.session.mu.Lock()
	s.session.open--
	s.session.mu.Unlock()
	s.session.fake.mu.Lock()
	delete(s.session.fake.streams, s)
	s.session.fake.mu.Unlock()
}

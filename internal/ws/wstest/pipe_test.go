package wstest

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

// pipe is a Socket in memory. The test is the client: it puts in what the client sends and sees what was written.
type pipe struct {
	subprotocol string
	in          chan string
	out         chan string   // every message written, in order
	gate        chan struct{} // not nil: each Write takes one value first
	closed      chan struct{}

	mu     sync.Mutex
	code   int
	reason string
	writes int // calls of Write
}

func newPipe(subprotocol string) *pipe {
	return &pipe{
		subprotocol: subprotocol, in: make(chan string, 10000), out: make(chan string, 100000), closed: make(chan struct{}),
	}
}

func (p *pipe) Subprotocol() string { return p.subprotocol }

func (p *pipe) Read(ctx context.Context) ([]byte, error) {
	select {
	case <-p.closed:
		return nil, io.ErrClosedPipe
	default:
	}
	select {
	case m, ok := <-p.in:
		if !ok {
			return nil, io.EOF
		}
		return []byte(m), nil
	case <-p.closed:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Write(ctx context.Context, messages ...[]byte) error {
	if p.gate != nil {
		select {
		case <-p.gate:
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	select {
	case <-p.closed:
		return io.ErrClosedPipe
	default:
	}
	p.mu.Lock()
	p.writes++
	p.mu.Unlock()
	for _, m := range messages {
		p.out <- string(m)
	}
	return nil
}

func (p *pipe) Close(code int, reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.code == 0 {
		p.code, p.reason = code, reason
		close(p.closed)
	}
	return nil
}

// serving is a Serve that runs over a pipe.
type serving struct {
	*pipe
	t    testing.TB
	fake *fake
	stop context.CancelCauseFunc
	done chan error
}

func serve(t testing.TB, p *pipe, f *fake, o ws.Options) *serving {
	t.Helper()
	ctx, stop := context.WithCancelCause(context.Background())
	s := &serving{pipe: p, t: t, fake: f, stop: stop, done: make(chan error, 1)}
	go func() { s.done <- ws.Serve(ctx, p, f, o) }()
	t.Cleanup(func() {
		p.Close(ws.CodeNormal, "")
		stop(nil)
	})
	return s
}

func (s *serving) send(messages ...string) {
	for _, m := range messages {
		s.in <- m
	}
}

func (s *serving) want(messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		var got string
		select {
		case got = <-s.out:
		case <-s.closed:
			select {
			case got = <-s.out: // written before
			default:
				s.t.Fatalf("closed with %d %s, want %s", s.code, s.reason, m)
			}
		}
		if got != m {
			s.t.Fatalf("got %s, want %s", got, m)
		}
	}
}

// wantClose waits for the end of Serve.
func (s *serving) wantClose(code int, reason string) error {
	s.t.Helper()
	err := <-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code != code || s.reason != reason {
		s.t.Fatalf("closed with %d %q, want %d %q (%v)", s.code, s.reason, code, reason, err)
	}
	s.fake.check(s.t)
	return err
}

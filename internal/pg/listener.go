package pg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/feed"
)

// The times a listener lives by.
const (
	openTimeout  = 10 * time.Second        // from connecting to Opened
	pingSilence  = 800 * time.Millisecond  // before the server is asked for a sign of life
	pingPatience = 1500 * time.Millisecond // before it is given up
	steady       = time.Second             // a session that lived longer than this is replaced at once when it ends
)

// listener keeps one session open: it connects, listens, hands on what comes, and begins again when the session ends. Its
// run loop owns the session; reopen and the follower of the state reach it from outside.
type listener struct {
	config *pgx.ConnConfig
	on     sessionEvents
	state  *state

	mu      sync.Mutex
	session *session // the one that is open
}

// run returns when ctx is done.
func (l *listener) run(ctx context.Context) {
	var retry backoff
	for ctx.Err() == nil {
		began := time.Now()
		opened, err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		l.state.listening(explain(err, l.config))
		if opened { // what was wrong before is over; but who throws us out again and again is not asked at once each time
			retry.tries = 1
			if time.Since(began) > steady {
				retry.tries = 0
			}
		}
		retry.failed(err)
		retry.wait(ctx)
	}
}

// once opens a session and serves it to its end.
func (l *listener) once(ctx context.Context) (opened bool, err error) {
	openCtx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, channel, err := connectFit(openCtx, l.config)
	if err != nil {
		return false, err
	}
	_, gone, err := enterWith(openCtx, conn, l.on.enter, l.state)
	if err != nil {
		closeConn(conn)
		return false, err
	}
	s, err := newSession(openCtx, conn, channel, l.on)
	if err != nil {
		closeConn(conn)
		return false, err
	}
	defer s.close(nil)
	// Whoever ends ctx ends the session: closing the connection ends the read that is under way.
	defer context.AfterFunc(ctx, func() { s.close(ctx.Err()) })()
	deadline, _ := openCtx.Deadline()
	_ = s.conn.SetDeadline(deadline) // fails only on a closed connection, as the next read then does
	p, err := s.listen()
	if err != nil {
		return false, err
	}
	_ = s.conn.SetDeadline(time.Time{})
	l.set(s)
	defer l.set(nil)
	l.state.listening(nil)
	pingCtx, stop := context.WithCancel(ctx)
	var pinger sync.WaitGroup
	pinger.Go(func() { s.ping(pingCtx, pingSilence, pingPatience) })
	err = s.run(feed.Opened{Snapshot: p.snapshot, Tick: p.tick, Done: p.done, Mode: p.mode, Gone: gone})
	stop()
	pinger.Wait()
	l.on.emit(feed.Lost{})
	return true, err
}

// reopen ends the present session, if there is one; run opens the next.
func (l *listener) reopen(reason string) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.close(fmt.Errorf("reopening: %s", reason))
	}
}

func (l *listener) settle() bool {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.settle()
	}
	return s != nil
}

func (l *listener) set(s *session) {
	l.mu.Lock()
	l.session = s
	l.mu.Unlock()
}

// backoff is how long to wait before the next try: not at all at first, then longer and longer, each time by chance so
// that many nodes don't come back at once.
type backoff struct {
	tries int
	early <-chan struct{} // a value ends a wait; nil: nothing does
}

const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// failed is told what a try came to. A server that says that it is starting is asked again soon, since whoever waits for it waits for us.
func (b *backoff) failed(err error) {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Code == "57P03" { // cannot_connect_now
		b.tries = min(b.tries, 2)
	}
}

// wait returns when it is time for the next try, or ctx is done.
func (b *backoff) wait(ctx context.Context) {
	b.tries++
	if b.tries == 1 {
		return
	}
	d := min(backoffFirst<<min(b.tries-2, 10), backoffMost)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-b.early:
	}
}

package wstest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/notifyql/notifyql/internal/ws"
)

var keepAlive = ws.Options{KeepAlive: 20 * time.Second, PongTimeout: 5 * time.Second}

// pingPipe is a pipe whose client answers pings by itself, as WebSocket libraries do, while it is alive.
type pingPipe struct {
	*pipe
	dead  atomic.Bool
	heard atomic.Uint64
	pings atomic.Int32
}

func (p *pingPipe) Ping(context.Context) error {
	p.pings.Add(1)
	if !p.dead.Load() {
		p.heard.Add(1)
	}
	return nil
}

func (p *pingPipe) Heard() uint64 { return p.heard.Load() }

// pass lets time go by in a bubble, where it takes none.
func pass(d time.Duration) { <-time.After(d) }

// within checks that d is about as long as it should be: pings are spread over an eighth of their interval.
func within(t *testing.T, what string, d, least, most time.Duration) {
	t.Helper()
	if d < least || d > most {
		t.Errorf("%s after %v, want between %v and %v", what, d, least, most)
	}
}

func TestPingMessagesAndPongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := begin(t, newPipe(transportWS), newFake(), keepAlive)
		at := time.Now()
		for i := range 5 {
			s.want(`{"type":"ping"}`)
			if i > 0 { // the first interval begins when the time for connection_init would be over
				within(t, "ping", time.Since(at), 17*time.Second, 20*time.Second)
			}
			at = time.Now()
			if i%2 == 0 {
				s.send(`{"type":"pong"}`)
			} else {
				s.send(complete("anything is a sign of life"))
			}
		}
		s.want(`{"type":"ping"}`)
		at = time.Now()
		s.wantClose(ws.CodeTimeout, "No pong within 5s")
		within(t, "closed", time.Since(at), 5*time.Second, 5*time.Second)
	})
}

func TestPingFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pingPipe{pipe: newPipe(transportWS)}
		f := newFake()
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		done := make(chan error, 1)
		go func() { done <- ws.Serve(ctx, p, f, keepAlive) }()
		p.in <- initMessage
		pass(10 * time.Minute)
		if n := p.pings.Load(); n < 30 || n > 36 {
			t.Errorf("%d pings in ten minutes", n)
		}
		select {
		case err := <-done:
			t.Fatalf("a client that answers was closed: %v", err)
		default:
		}
		p.dead.Store(true)
		at := time.Now()
		<-done
		within(t, "closed", time.Since(at), 5*time.Second, 30*time.Second)
		if p.code != ws.CodeTimeout || !strings.HasPrefix(p.reason, "No pong") {
			t.Errorf("closed with %d %s", p.code, p.reason)
		}
	})
}

// A client whose connection takes nothing is dead after the time that a write may take; until then it may be slow: a ping
// that waits behind a write is not held against it.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		o := keepAlive
		o.WriteTimeout = time.Minute
		s, streams := begin(t, p, f, o, "a")
		synctest.Wait()
		p.gate = make(chan struct{})
		at := time.Now()
		streams[0].add(next1(1))
		s.wantClose(ws.CodeTimeout, "Too slow: messages could not be written in time")
		within(t, "closed", time.Since(at), time.Minute, time.Minute+3*keepAlive.KeepAlive)
	})
}

func TestSlowIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		o := keepAlive
		o.WriteTimeout = time.Minute
		s, streams := begin(t, p, f, o, "a")
		synctest.Wait()
		p.gate = make(chan struct{})
		big := `{"data":"` + strings.Repeat("x", batchBytes) + `"}`
		for range 3 * perTurn {
			streams[0].add(big)
		}
		pings := 0
		for sent := 0; sent < 3*perTurn; {
			pass(50 * time.Second)
			p.gate <- struct{}{}
			synctest.Wait()
			for len(s.out) > 0 {
				if m := <-s.out; m == `{"type":"ping"}` {
					pings++
					s.send(`{"type":"pong"}`)
				} else {
					s.send(complete("other"))
					sent++
				}
			}
		}
		if pings == 0 {
			t.Error("no ping in all that time")
		}
		close(p.gate)
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// Nor is a client silent whose pong waits for its turn, behind what others send.
func TestWhoWaitsForATurnIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := keepAlive
		o.Budget = ws.NewBudget(1)
		s, _ := begin(t, newPipe(transportWS), newFake(), o, "a")
		synctest.Wait()
		o.Budget.Charge(o.KeepAlive + o.PongTimeout + time.Second)
		for range 3 {
			s.want(`{"type":"ping"}`)
			s.send(`{"type":"pong"}`)
		}
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// A client that sends too fast waits; it is not closed.
func TestMessageRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, newPipe(transportWS), newFake(), ws.Options{MessagesPerSecond: 10, MessageBurst: 20})
		s.send(initMessage)
		at := time.Now()
		for range 119 {
			s.send(`{"type":"ping"}`)
		}
		s.want(ackMessage)
		for range 19 {
			s.want(`{"type":"pong"}`)
		}
		within(t, "burst", time.Since(at), 0, 0)
		for range 100 {
			s.want(`{"type":"pong"}`)
		}
		within(t, "all", time.Since(at), 10*time.Second-time.Millisecond, 10*time.Second+time.Millisecond)
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// A connection that nobody subscribes on ends; one with a subscription does not.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pingPipe{pipe: newPipe(transportWS)}
		f := newFake()
		o := keepAlive
		o.IdleTimeout = time.Minute
		done := make(chan error, 1)
		go func() { done <- ws.Serve(t.Context(), p, f, o) }()
		p.in <- initMessage
		p.in <- subscribe("a", "a")
		pass(10 * time.Minute)
		select {
		case err := <-done:
			t.Fatalf("ended with a subscription: %v", err)
		default:
		}
		at := time.Now()
		p.in <- complete("a")
		<-done
		within(t, "closed", time.Since(at), time.Minute, time.Minute+3*keepAlive.KeepAlive)
		if p.code != ws.CodeTimeout || p.reason != "No subscription for 1m0s" {
			t.Errorf("closed with %d %s", p.code, p.reason)
		}
		f.check(t)
	})
}

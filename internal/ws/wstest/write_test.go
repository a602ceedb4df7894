package wstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/notifyql/notifyql/internal/ws"
)

// begin gives a connection that is acknowledged and has one stream for each topic, whose ids are the topics.
func begin(t testing.TB, p *pipe, f *fake, o ws.Options, topics ...string) (*serving, []*fakeStream) {
	t.Helper()
	s := serve(t, p, f, o)
	s.send(initMessage)
	s.want(ackMessage)
	var streams []*fakeStream
	for _, topic := range topics {
		s.send(subscribe(topic, topic))
		streams = append(streams, <-f.started)
	}
	return s, streams
}

// What waits while a write is under way goes out in one write, and no more is pulled than fits.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		s, streams := begin(t, p, f, ws.Options{}, "a")
		synctest.Wait()
		p.gate = make(chan struct{})
		streams[0].add(next1(0))
		synctest.Wait()
		for i := 1; i <= perTurn; i++ {
			streams[0].add(next1(i))
		}
		before := p.writes
		p.gate <- struct{}{}
		s.want(next("a", next1(0)))
		synctest.Wait()
		p.gate <- struct{}{}
		for i := 1; i <= perTurn; i++ {
			s.want(next("a", next1(i)))
		}
		if p.writes != before+2 {
			t.Errorf("%d writes, want 2", p.writes-before)
		}
		close(p.gate)
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// A subscription with much to say does not keep the others waiting, and pongs overtake both.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		s, streams := begin(t, p, f, ws.Options{}, "loud", "quiet")
		synctest.Wait()
		p.gate = make(chan struct{})
		streams[0].add(next1(0))
		synctest.Wait() // the writer is in the write of it
		big := `{"data":"` + strings.Repeat("x", batchBytes/4) + `"}`
		for range 100 {
			streams[0].add(big)
		}
		streams[1].add(next1(1))
		s.send(`{"type":"ping"}`)
		synctest.Wait()
		close(p.gate)
		s.want(next("loud", next1(0)), `{"type":"pong"}`)
		for range perTurn {
			s.want(next("loud", big))
		}
		s.want(next("quiet", next1(1)))
		for range 100 - perTurn {
			s.want(next("loud", big))
		}
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// A client that does not read costs one batch: nothing is pulled for it meanwhile.
func TestSlowClientIsNotPulledFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		s, streams := begin(t, p, f, ws.Options{}, "a")
		synctest.Wait()
		p.gate = make(chan struct{})
		big := `{"data":"` + strings.Repeat("x", batchBytes/4) + `"}`
		for range 1000 {
			streams[0].add(big)
		}
		synctest.Wait()
		if left := len(streams[0].results); left < 1000-perTurn {
			t.Errorf("%d of 1000 are left", left)
		}
		close(p.gate)
		for range 1000 {
			s.want(next("a", big))
		}
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// A client that sends and does not read is not read from either.
func TestControlMessagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		s, _ := begin(t, p, f, ws.Options{MessagesPerSecond: -1, WriteTimeout: -1, KeepAlive: -1})
		synctest.Wait()
		p.gate = make(chan struct{})
		payload := fmt.Sprintf(`"payload":{"x":%q}`, strings.Repeat("x", 1000))
		for range 1000 {
			s.send(`{"type":"ping",` + payload + `}`)
		}
		synctest.Wait()
		if read, most := 1000-len(p.in), 2*maxWaiting/1000+2; read > most {
			t.Errorf("%d messages were read, at most %d can wait", read, most)
		}
		close(p.gate)
		for range 1000 {
			s.want(`{"type":"pong",` + payload + `}`)
		}
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// The client's complete crosses a result that is just being made.
func TestCompleteCrossesResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s, streams := begin(t, newPipe(transportWS), f, ws.Options{}, "a", "b")
		a := streams[0]
		synctest.Wait()
		a.block, a.inNext = make(chan struct{}), make(chan struct{})
		a.add(next1(1))
		<-a.inNext
		s.send(complete("a"))
		synctest.Wait()
		if a.closed {
			t.Error("the stream was closed in the middle of Next")
		}
		s.send(subscribe("a", "again"))
		again := <-f.started
		close(a.block)
		synctest.Wait()
		if !a.closed {
			t.Error("the stream was not closed")
		}
		again.add(next1(2))
		s.want(next("a", next1(2)))
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// After the client's complete, what was pulled and not yet written is dropped.
func TestCompleteDropsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		s, streams := begin(t, p, f, ws.Options{}, "a")
		synctest.Wait()
		p.gate = make(chan struct{})
		big := `{"data":"` + strings.Repeat("x", batchBytes-100) + `"}`
		streams[0].add(big, big, big, big)
		synctest.Wait() // in the write of the first
		s.send(complete("a"), `{"type":"ping"}`)
		synctest.Wait()
		close(p.gate)
		s.want(next("a", big), `{"type":"pong"}`)
		synctest.Wait()
		if n := len(s.out); n != 0 {
			t.Errorf("%d of the other three were sent", n)
		}
		s.stop(nil)
		s.wantClose(1001, "Going away")
	})
}

// Whoever goes down ends no subscription: the client gets a code on which it comes back, and no complete.
func TestGoingDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newFake(), newPipe(transportWS)
		s, streams := begin(t, p, f, ws.Options{}, "a")
		synctest.Wait()
		p.gate = make(chan struct{})
		streams[0].add(next1(1))
		synctest.Wait()
		s.stop(ws.Restarting())
		synctest.Wait()
		if err := streams[0].ctx.Err(); err == nil {
			t.Error("the service was not told")
		}
		streams[0].add(next1(2))
		streams[0].end(io.EOF)
		s.send(`{"type":"ping"}`)
		close(p.gate)
		s.want(next("a", next1(1)))
		s.wantClose(1012, "Service restart")
		if len(s.out) != 0 {
			t.Errorf("sent after the server went down: %s", <-s.out)
		}
	})
}

// A service that ends its operations when it is told that the connection ends does not end them for the client.
func TestGoingDownIsNoCompletion(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			s, streams := begin(t, newPipe(transportWS), newFake(), ws.Options{}, "a", "b", "c")
			synctest.Wait()
			for _, st := range streams {
				context.AfterFunc(st.ctx, func() { st.end(io.EOF) })
			}
			s.stop(ws.Restarting())
			s.wantClose(1012, "Service restart")
			if len(s.out) != 0 {
				t.Fatalf("sent after the server went down: %s", <-s.out)
			}
		})
	}
}

// Errors that are the service's own fault end the operation, not the connection.
func TestInternalError(t *testing.T) {
	f := newFake()
	s, _ := begin(t, newPipe(transportWS), f, ws.Options{}, "a")
	s.send(subscribe("b", "broken"))
	s.want(`{"id":"b","type":"error","payload":[{"message":"Internal server error","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`)
	s.send(`{"type":"ping"}`)
	s.want(`{"type":"pong"}`)
	s.stop(nil)
	s.wantClose(1001, "Going away")
}

// Results that come with the end are sent before it.
func TestLastResultsComeBeforeTheEnd(t *testing.T) {
	f := newFake()
	s, streams := begin(t, newPipe(transportWS), f, ws.Options{}, "a")
	a := streams[0]
	a.mu.Lock()
	a.results, a.err = [][]byte{[]byte(next1(1))}, &ws.OperationError{Errors: []byte(`[{"message":"over"}]`)}
	a.mu.Unlock()
	a.wake()
	s.want(next("a", next1(1)), `{"id":"a","type":"error","payload":[{"message":"over"}]}`)
	s.stop(nil)
	s.wantClose(1001, "Going away")
}

// Subscriptions come and go while events are published from several goroutines; each that is left sees all of its
// events, in order, and whatever was completed is closed.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFake()
	s, streams := begin(t, newPipe(transportWS), f, ws.Options{MessagesPerSecond: -1}, "0", "1", "2", "3", "4", "5", "6", "7")
	const events = 2000
	var publishers sync.WaitGroup
	for _, st := range streams {
		publishers.Go(func() {
			for i := range events {
				st.add(next1(i))
			}
		})
	}
	publishers.Go(func() {
		for i := range 300 {
			id := fmt.Sprintf("x%d", i)
			s.send(subscribe(id, id))
			st := <-f.started
			st.add(next1(0), next1(1))
			if rand.IntN(2) == 0 {
				st.end(io.EOF)
			}
			s.send(complete(id))
		}
	})
	seen := map[string]int{}
	for done := 0; done < len(streams); {
		m := <-s.out
		id, n, ok := parseNext(m)
		if !ok || strings.HasPrefix(id, "x") {
			continue
		}
		if n != seen[id] {
			t.Fatalf("%s is result %d, want %d", m, n, seen[id])
		}
		if seen[id]++; seen[id] == events {
			done++
		}
	}
	publishers.Wait()
	s.stop(nil)
	if err := <-s.done; !errors.As(err, new(*ws.CloseError)) {
		t.Error(err)
	}
	f.check(t)
}

func parseNext(m string) (id string, n int, ok bool) {
	rest, found := strings.CutPrefix(m, `{"id":"`)
	id, rest, _ = strings.Cut(rest, `"`)
	_, rest, isData := strings.Cut(rest, `{"data":`)
	_, err := fmt.Sscanf(rest, "%d", &n)
	return id, n, found && isData && err == nil
}

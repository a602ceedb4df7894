package wstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/clientframe"
	"github.com/notifyql/notifyql/internal/ws"
)

// brisk are limits under which a dead client is found in less than a second.
var brisk = ws.Options{
	KeepAlive: 300 * time.Millisecond, PongTimeout: 200 * time.Millisecond, WriteTimeout: 300 * time.Millisecond,
	InitTimeout: 500 * time.Millisecond,
}

// wantEnd waits for the end of the only connection, and checks why and when it came.
func (s *server) wantEnd(t *testing.T, code int, reason string, since time.Time) {
	t.Helper()
	err := s.end()
	var e *ws.CloseError
	if !errors.As(err, &e) || e.Code != code || !strings.HasPrefix(e.Reason, reason) {
		t.Errorf("ended with %v, want %d %s", err, code, reason)
	}
	if took := time.Since(since); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// feed gives a stream results of 1 KB for as long as they are pulled, up to n, and tells how many are left.
func feed(st *fakeStream, n int) {
	result := `{"data":"` + strings.Repeat("x", 1000) + `"}`
	for range n {
		st.add(result)
	}
}

func (s *fakeStream) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.results)
}

// A client that never reads is closed in time, and what it had not read was never pulled: the kernel's buffers are full
// and one batch is in hand.
func (lib library) clientThatNeverReads(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, brisk)
	c := dial(t, s)
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	c.init()
	c.text(subscribe("a", "a"))
	st := <-f.started
	const results = 20_000 // 20 MB
	at := time.Now()
	feed(st, results)
	s.wantEnd(t, ws.CodeTimeout, "Too slow", at)
	if pulled := results - st.left(); pulled > 8000 {
		t.Errorf("%d KB were pulled for a client that reads nothing", pulled)
	}
}

// A client that reads a byte now and then is no better.
func (lib library) clientThatReadsBytes(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, brisk)
	c := dial(t, s)
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	c.init()
	c.text(subscribe("a", "a"))
	st := <-f.started
	at := time.Now()
	feed(st, 20_000)
	ended := make(chan struct{})
	go func() { s.served.Wait(); close(ended) }()
	var b [1]byte
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
			_, _ = io.ReadFull(c.Conn, b[:])
			continue
		case <-ended:
			tick.Stop()
		}
		break
	}
	s.wantEnd(t, ws.CodeTimeout, "", at) // it has answered no ping either
}

// A client that reads and answers no ping.
func (lib library) clientThatNeverPongs(t *testing.T) {
	t.Parallel()
	s := lib.newServer(t, newFake(), ws.AcceptOptions{}, brisk)
	c := dial(t, s)
	c.init()
	at := time.Now()
	c.want("ping ")
	c.write(clientframe.Masked(fin|pong, ""))
	c.want("ping ", "close 3008 No pong within 200ms")
	s.wantEnd(t, ws.CodeTimeout, "No pong", at)
}

// A client that sends nothing at all, or only half of its first message.
func (lib library) clientThatNeverBegins(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", string(clientframe.Masked(fin|text, initMessage)[:9]), string(clientframe.Masked(fin|ping, ""))} {
		s := lib.newServer(t, newFake(), ws.AcceptOptions{}, brisk)
		c := dial(t, s)
		at := time.Now()
		c.write([]byte(first))
		if strings.HasPrefix(first, "\x89") {
			c.want("pong ")
		}
		c.want("close 4408 Connection initialisation timeout")
		c.Conn.Close()
		s.wantEnd(t, ws.CodeInitTimeout, "Connection init", at)
	}
}

// A client that sends a message that is too large, and stops in the middle of it, or goes away in the middle of one.
func (lib library) clientThatStopsInTheMiddle(t *testing.T) {
	t.Parallel()
	s := lib.newServer(t, newFake(), ws.AcceptOptions{MaxMessageBytes: 1000}, ws.Options{})
	c := dial(t, s)
	at := time.Now()
	c.write(clientframe.Masked(fin|text, strings.Repeat(" ", 5000))[:2000])
	c.want("close 1009")
	s.wantEnd(t, ws.CodeTooBig, "Message too big", at) // though it neither goes on nor answers

	f := newFake()
	s = lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{})
	for _, cut := range [][]byte{clientframe.Masked(text, `{"type":"connection_init"}`), clientframe.Masked(fin|text, initMessage+strings.Repeat(" ", 100))[:60]} {
		c := dial(t, s)
		c.write(cut)
		c.Conn.Close()
		if err := s.end(); err == nil {
			t.Error("the end was normal to Serve")
		}
		if len(f.inits) != 0 {
			t.Errorf("half a message was taken for a whole one: %q", cut)
		}
	}
}

// freezer is a proxy in front of some servers, each connection to the next one, that can stop forwarding without closing
// anything, as a firewall does.
type freezer struct {
	net.Listener
	mu     sync.Mutex
	frozen bool
	conns  []net.Conn
	copied sync.WaitGroup
}

func newFreezer(t *testing.T, to ...string) *freezer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{Listener: l}
	f.copied.Go(func() {
		for i := 0; ; i++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to[i%len(to)])
			if err != nil {
				in.Close()
				continue
			}
			f.mu.Lock()
			f.conns = append(f.conns, in, out)
			f.mu.Unlock()
			f.copied.Go(func() { f.forward(in, out) })
			f.copied.Go(func() { f.forward(out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		f.copied.Wait()
	})
	return f
}

func (f *freezer) forward(to, from net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		f.mu.Lock()
		frozen := f.frozen
		f.mu.Unlock()
		if frozen {
			return
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			to.Close()
			return
		}
	}
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
}

// A client that vanishes without a word, idle or in the middle of events.
func (lib library) clientThatVanishes(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{false, true} {
		f := newFake()
		s := lib.newServer(t, f, ws.AcceptOptions{}, brisk)
		proxy := newFreezer(t, s.Listener.Addr().String())
		c := dial(t, &server{Server: s.at(proxy.Addr())})
		c.init()
		c.text(subscribe("a", "a"))
		st := <-f.started
		st.add(next1(1))
		c.want(next("a", next1(1)))
		proxy.freeze()
		at := time.Now()
		if busy {
			feed(st, 20_000)
		}
		s.wantEnd(t, ws.CodeTimeout, "", at)
		if pulled := 20_000 - st.left(); busy && pulled > 8000 {
			t.Errorf("%d KB were pulled for a client that is gone", pulled)
		}
	}
}

// A thousand clients come and go in every way, and nothing of them is left.
func (lib library) comingAndGoing(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{})
	var clients sync.WaitGroup
	turns := make(chan struct{}, 32)
	for i := range 1000 {
		turns <- struct{}{}
		clients.Go(func() {
			defer func() { <-turns }()
			c := dial(t, s)
			defer c.Conn.Close()
			if i%7 == 0 {
				return // before it has begun
			}
			c.init()
			c.text(subscribe("a", "count 3"), subscribe("b", "topic"))
			for n := range 3 {
				c.want(next("a", fmt.Sprintf(`{"data":{"n":%d}}`, n)))
			}
			c.want(complete("a"))
			switch i % 5 {
			case 0:
				c.write(clientframe.Masked(fin|closeFrame, clientframe.Close(1000, "")))
				c.want("close 1000")
			case 1:
				c.text(`{"type":"ping"`) // an error of its own
				c.want("close 4400")
			case 2:
				_ = c.Conn.(*net.TCPConn).SetLinger(0) // reset
			case 3:
				c.write(clientframe.Masked(fin|text, complete("b"))[:5])
			}
		})
	}
	for range 1000 {
		select {
		case st := <-f.started:
			st.add(next1(1))
		default:
		}
	}
	clients.Wait()
	s.served.Wait()
	if sessions, streams := f.open(); sessions != 0 || streams != 0 {
		t.Errorf("%d sessions and %d streams are left", sessions, streams)
	}
}

// Floods of pings, of either kind, of messages and of tiny frames, do no harm to others: their events come as before.
func (lib library) floodsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{})
	good := dial(t, s)
	good.init()
	good.text(subscribe("a", "a"))
	st := <-f.started
	sent := 0
	latencies := func() []time.Duration {
		took := make([]time.Duration, 200)
		for i := range took {
			at := time.Now()
			st.add(next1(sent))
			good.want(next("a", next1(sent)))
			sent++
			took[i] = time.Since(at)
		}
		slices.Sort(took)
		return took
	}
	calm := latencies()

	var floods sync.WaitGroup
	defer floods.Wait()
	for _, flood := range []string{
		string(clientframe.Masked(fin|ping, strings.Repeat("x", 125))),
		string(clientframe.Masked(fin|text, `{"type":"ping","payload":{"x":"`+strings.Repeat("x", 1000)+`"}}`)),
		string(clientframe.Masked(fin|text, complete("nothing"))),
		string(clientframe.Masked(continuation, "x")),
		string(clientframe.Masked(fin|pong, "")),
	} {
		c := dial(t, s)
		c.init()
		if strings.HasPrefix(flood, "\x00") {
			c.write(clientframe.Masked(text, `{"type":"ping","payload":{"x":"`))
		}
		defer c.Conn.Close()
		floods.Go(func() { // and it reads nothing
			for many := strings.Repeat(flood, 100); ; {
				if _, err := io.WriteString(c.Conn, many); err != nil {
					return
				}
			}
		})
	}
	among := latencies()
	t.Logf("200 events one by one: p50 %v, p99 %v, slowest %v; among floods: p50 %v, p99 %v, slowest %v",
		calm[100], calm[198], calm[199], among[100], among[198], among[199])
	if among[199] > 2*time.Second {
		t.Errorf("an event took %v among floods", among[199])
	}
}

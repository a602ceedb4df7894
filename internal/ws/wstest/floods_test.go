package wstest

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/ws"
)

// Floods of pings, of either kind, of messages and of tiny frames, do no harm to others: their events come as before.
func TestFloodsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, ws.AcceptOptions{}, ws.Options{})
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
		string(masked(fin|ping, strings.Repeat("x", 125))),
		string(masked(fin|text, `{"type":"ping","payload":{"x":"`+strings.Repeat("x", 1000)+`"}}`)),
		string(masked(fin|text, complete("nothing"))),
		string(masked(continuation, "x")),
		string(masked(fin|pong, "")),
	} {
		c := dial(t, s)
		c.init()
		if strings.HasPrefix(flood, "\x00") {
			c.write(masked(text, `{"type":"ping","payload":{"x":"`))
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

// A message may come in pieces, but not in more than anybody has reason to.
func TestMessageInPieces(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, ws.AcceptOptions{}, ws.Options{})
	c := dial(t, s)
	c.init()
	in := func(pieces int) string {
		ping := `{"type":"ping"` + strings.Repeat(" ", pieces-15) + `}`
		var b strings.Builder
		for i := range len(ping) {
			head := byte(continuation)
			if i == 0 {
				head = text
			}
			if i == len(ping)-1 {
				head |= fin
			}
			b.Write(masked(head, ping[i:i+1]))
		}
		return b.String()
	}
	for range 3 {
		c.write([]byte(in(maxFragments)))
		c.want(`{"type":"pong"}`)
	}
	c.write([]byte(in(maxFragments + 1)))
	c.want("close 1009")
}

// The library repeats a reason that is no text; we do not.
func TestAReasonThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	s := newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
	c := dial(t, s)
	c.write(masked(fin|closeFrame, closePayload(1000, "\xff")))
	c.wantEnd("1007")
	if err := s.end(); err == nil {
		t.Error("the end was normal to Serve")
	}
}

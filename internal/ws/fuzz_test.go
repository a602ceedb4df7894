package ws

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/notifyql/notifyql/internal/clientframe"
)

// FuzzTransport and its like drive a machine with any lines as messages, and any order of what else happens to it.
// Whatever comes: no panic, an id is never active twice, all that is sent is JSON, after closing there is silence, and a
// client that is in order again is served (no stuck state).
func FuzzTransport(f *testing.F) {
	for _, seed := range []string{
		initMessage + "\n" + subscribe("1", "x") + "\n" + complete("1"),
		initMessage + "\n" + subscribe("1", "x") + "\n" + subscribe("1", "x"),
		initMessage + "\n" + `{"type":"ping","payload":{"a":[1,2,{"b":null}]}}` + "\n" + initMessage,
		`{"type":"subscribe","id":"\ud800","payload":{"query":"","variables":{"a":1e999}}}`,
		"{\"type\":\"\xff\"}", "[[[[", `{"type":"pong","payload":null}`,
	} {
		f.Add([]byte(seed), []byte{0, 1, 2, 3, 4, 5})
	}
	f.Fuzz(func(t *testing.T, lines, events []byte) { drive(t, transportWS, lines, events) })
}

func drive(t *testing.T, subprotocol string, lines, events []byte) {
	m := newMachine(subprotocol, 3)
	active := map[string]*subscription{}
	over := false
	check := func(s step) {
		if over && (s.send != nil || s.do != nothing) {
			t.Fatalf("after closing: %s", said(s))
		}
		if s.send != nil && !json.Valid(s.send) {
			t.Fatalf("sent what is not JSON: %q", s.send)
		}
		if s.over != nil {
			if s.do != start || active[s.over.id] != s.over {
				t.Fatalf("%s, which is not active", said(s))
			}
			delete(active, s.over.id)
		}
		switch s.do {
		case start:
			if active[s.sub.id] != nil || len(active) == 3 {
				t.Fatalf("%s while %d are active", said(s), len(active))
			}
			active[s.sub.id] = s.sub
			if !json.Valid([]byte(s.sub.prefix + "0}")) {
				t.Fatalf("prefix %q", s.sub.prefix)
			}
			for _, field := range [][]byte{s.op.Variables, s.op.Extensions} {
				if field != nil && kindOf(field) != "object" {
					t.Fatalf("%s", field)
				}
			}
		case stop:
			if active[s.sub.id] != s.sub {
				t.Fatalf("%s, which is not active", said(s))
			}
			delete(active, s.sub.id)
		case shut:
			over = true
			if len(s.close.Reason) > maxReason || !utf8.ValidString(s.close.Reason) {
				t.Fatalf("reason %q", s.close.Reason)
			}
		}
	}
	for i, line := range bytes.Split(lines, []byte("\n")) {
		s := m.receive(m.parse(line))
		check(s)
		if s.do == connect {
			check(m.connected(nil))
		}
		if i >= len(events) {
			continue
		}
		switch events[i] % 5 {
		case 1:
			check(m.connected(nil)) // an answer nobody waits for
		case 2:
			check(m.initTimeout())
		case 3, 4:
			for id, s := range active {
				last := m.complete
				if events[i]%5 == 4 {
					last = func(s *subscription) []byte { return m.fail(s, []byte(`[{"message":"x"}]`)) }
				}
				if b := last(s); !json.Valid(b) {
					t.Fatalf("ended with %q", b)
				}
				delete(active, id)
				break
			}
		}
	}
	left := 0
	m.each(func(s *subscription) {
		left++
		if active[s.id] != s {
			t.Fatalf("%s is left in the machine", s.id)
		}
	})
	if left != len(active) {
		t.Fatalf("the machine has %d subscriptions, want %d", left, len(active))
	}
	if !over && len(active) == 0 {
		s := m.receive(m.parse([]byte(initMessage)))
		if s.do == connect {
			m.connected(nil)
			typ := map[string]string{transportWS: "subscribe", legacyWS: "start"}[subprotocol]
			s = m.receive(m.parse([]byte(`{"id":"fresh","type":"` + typ + `","payload":{"query":"x"}}`)))
			if s.do != start {
				t.Fatalf("stuck: %s", said(s))
			}
		}
	}
}

// FuzzFrames reads any bytes from the network, whole and in pieces. What is read, what is answered and how it ends does
// not depend on the pieces, and nothing hangs.
func FuzzFrames(f *testing.F) {
	hello := clientframe.Masked(fin|text, "hello")
	f.Add(hello, uint8(1))
	f.Add(slices.Concat(hello, clientframe.Masked(fin|ping, "x"), hello[:3]), uint8(2))
	f.Add(slices.Concat(clientframe.Masked(text, "a"), clientframe.Masked(fin|ping, "x"), clientframe.Masked(fin|continuation, "b"), clientframe.Masked(fin|closeFrame, "\x03\xe8")), uint8(3))
	f.Add(slices.Concat(clientframe.Masked(fin|text, strings.Repeat("x", 70000)), clientframe.Masked(fin|pong, "")), uint8(7))
	f.Add(slices.Concat(clientframe.Masked(fin|binaryData, "x"), clientframe.Masked(fin|closeFrame, "\x03\xe8\xff")), uint8(5))
	f.Add(slices.Concat(clientframe.Masked(fin|text, strings.Repeat("x", 1500)), hello), uint8(50))
	f.Add(hello[:9], uint8(9))
	f.Add(clientframe.Masked(text, "hello"), uint8(200))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		whole, answers, end := readAll(t, stream, len(stream)+1)
		cut, cutAnswers, cutEnd := readAll(t, stream, int(piece)+1)
		if !slices.Equal(whole, cut) || answers != cutAnswers || end != cutEnd {
			t.Fatalf("whole: %q, answered %q, ended %s\nin pieces of %d: %q, answered %q, ended %s",
				whole, answers, end, int(piece)+1, cut, cutAnswers, cutEnd)
		}
	})
}

// readAll reads a socket whose peer sends stream and then closes the connection.
func readAll(t *testing.T, stream []byte, piece int) (messages []string, answers, end string) {
	c := &script{stream: stream, piece: piece}
	s := acceptConn(t, c)
	s.pings = newBucket(-1, 1)
	s.ws.SetReadLimit(1000)
	for {
		m, err := s.Read(t.Context())
		if err != nil {
			var e *CloseError
			if errors.As(err, &e) {
				end = e.Error()
			}
			_ = s.Close(CodeNormal, "")
			return messages, c.written.String(), end
		}
		messages = append(messages, string(m))
	}
}

// acceptConn is Accept on a connection that was never HTTP.
func acceptConn(t testing.TB, c net.Conn) *coderSocket {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Sec-WebSocket-Protocol", transportWS)
	s, err := accept(hijacked{httptest.NewRecorder(), c}, r, AcceptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type hijacked struct {
	http.ResponseWriter
	c net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.c, bufio.NewReadWriter(bufio.NewReader(h.c), bufio.NewWriter(h.c)), nil
}

// script is a connection whose peer has sent everything already.
type script struct {
	net.Conn
	stream  []byte
	piece   int
	closed  bool
	written bytes.Buffer
}

func (c *script) SetReadDeadline(time.Time) error { return nil }

func (c *script) Read(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	if len(c.stream) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.stream[:min(len(c.stream), c.piece)])
	c.stream = c.stream[n:]
	return n, nil
}

func (c *script) Write(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.written.Write(p)
}

func (c *script) Close() error                { c.closed = true; return nil }
func (c *script) SetDeadline(time.Time) error { return nil }

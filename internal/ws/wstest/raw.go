package wstest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/clientframe"
)

// raw is a client that writes any bytes and sees every frame.
type raw struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// dial opens a WebSocket; header lines replace the usual subprotocol.
func dial(t testing.TB, s *server, header ...string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url(), "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if header == nil {
		header = []string{"Sec-WebSocket-Protocol: " + transportWS}
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n", c.RemoteAddr(), strings.Join(header, "\r\n"))
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the server answered %s", answer.Status)
	}
	return &raw{Conn: c, t: t, r: r}
}

// opcodes, and what else the first byte can hold
const (
	continuation = 0x0
	text         = 0x1
	binaryData   = 0x2
	closeFrame   = 0x8
	ping         = 0x9
	pong         = 0xa
	fin          = 0x80
	rsv1         = 0x40
)

func (c *raw) write(parts ...[]byte) {
	c.t.Helper()
	for _, p := range parts {
		if _, err := c.Write(p); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *raw) text(messages ...string) {
	c.t.Helper()
	for _, m := range messages {
		c.write(clientframe.Masked(fin|text, m))
	}
}

// frame reads one; io.EOF if the server has closed the connection, or reset it.
func (c *raw) frame() (first byte, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return 0, "", err
		}
		return 0, "", io.EOF
	}
	n := uint64(h[1])
	var b [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(c.r, b[6:])
		n = binary.BigEndian.Uint64(b[:])
	case 127:
		_, err = io.ReadFull(c.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	p := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(c.r, p)
	}
	return h[0], string(p), err
}

func describe(first byte, payload string) string {
	switch first {
	case fin | text:
		return payload
	case fin | ping:
		return "ping " + payload
	case fin | pong:
		return "pong " + payload
	case fin | closeFrame:
		if len(payload) < 2 {
			return "close"
		}
		return strings.TrimSpace(fmt.Sprintf("close %d %s", binary.BigEndian.Uint16([]byte(payload)), payload[2:]))
	}
	return fmt.Sprintf("%#x %q", first, payload)
}

// want waits for frames; of close frames a prefix is enough, since their reasons may be the library's.
func (c *raw) want(frames ...string) {
	c.t.Helper()
	for _, want := range frames {
		first, payload, err := c.frame()
		if err != nil {
			c.t.Fatalf("want %s: %v", want, err)
		}
		got := describe(first, payload)
		if got != want && !(strings.HasPrefix(want, "close") && strings.HasPrefix(got, want)) {
			c.t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// wantEnd answers a close frame and waits for the end of the connection.
func (c *raw) wantEnd(code string) {
	c.t.Helper()
	c.want("close " + code)
	_, _ = c.Write(clientframe.Masked(fin|closeFrame, clientframe.Close(1000, "")))
	if first, payload, err := c.frame(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("after the close frame: %s, %v", describe(first, payload), err)
	}
	c.Conn.Close() // the server is first
}

// wantAnyEnd waits for the end of the connection, whatever is said of it.
func (c *raw) wantAnyEnd() {
	c.t.Helper()
	for {
		first, payload, err := c.frame()
		if errors.Is(err, io.EOF) {
			c.Conn.Close()
			return
		}
		if err != nil || first != fin|closeFrame {
			c.t.Fatalf("got %s, %v", describe(first, payload), err)
		}
		_, _ = c.Write(clientframe.Masked(fin|closeFrame, clientframe.Close(1000, "")))
	}
}

func (c *raw) init() {
	c.t.Helper()
	c.text(initMessage)
	c.want(ackMessage)
}

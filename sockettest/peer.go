package sockettest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/notifyql/notifyql/internal/clientframe"
)

// The first byte of a frame is one of the kinds, with fin for the last of a message.
const (
	continuation = 0x0
	text         = 0x1
	binaryData   = 0x2
	closeFrame   = 0x8
	ping         = 0x9
	pong         = 0xa
	fin          = 0x80
	reserved     = 0x40
)

// peer is a client that writes any bytes and sees every frame.
type peer struct {
	net.Conn
	below       net.Conn // of TCP
	s           *server
	r           *bufio.Reader
	subprotocol string
}

func dial(s *server, path string, header []string) *peer {
	s.Helper()
	c, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { c.Close() }) //nolint:errcheck // it may be closed
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		s.Fatal(err)
	}
	below := c
	if s.encrypted {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // whose certificate it is does not matter here
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, line := range header {
		request += line + "\r\n"
	}
	p := &peer{Conn: c, below: below, s: s, r: bufio.NewReader(c)}
	p.write([]byte(request + "\r\n"))
	answer, err := http.ReadResponse(p.r, nil)
	if err != nil {
		s.Fatalf("the handshake: %v", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		s.Fatalf("the handshake was answered with %s", answer.Status)
	}
	if accept := answer.Header.Get("Sec-WebSocket-Accept"); accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		s.Fatalf("the handshake was answered with the key %q", accept)
	}
	p.subprotocol = answer.Header.Get("Sec-WebSocket-Protocol")
	return p
}

func (p *peer) write(b []byte) {
	p.s.Helper()
	if _, err := p.Write(b); err != nil {
		p.s.Fatalf("the peer's write: %v", err)
	}
}

// send sends a frame.
func (p *peer) send(first byte, payload string) {
	p.s.Helper()
	p.write(clientframe.Masked(first, payload))
}

// next returns the next frame, which comes whole.
func (p *peer) next() (first byte, payload string, err error) {
	var header [2]byte
	if _, err := io.ReadFull(p.r, header[:]); err != nil {
		return 0, "", err
	}
	size := uint64(header[1])
	if header[1]&0x80 != 0 {
		return 0, "", errors.New("the server's frame has a mask")
	}
	switch size {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(p.r, b[:])
		size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(p.r, b[:])
		size = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return 0, "", err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(p.r, b)
	return header[0], string(b), err
}

// message returns the next text message, put together from its frames.
func (p *peer) message() string {
	p.s.Helper()
	var whole strings.Builder
	for {
		first, payload, err := p.next()
		if err != nil {
			p.s.Fatalf("the peer's read: %v", err)
		}
		if kind := first &^ fin; kind != text && kind != continuation || (kind == text) != (whole.Len() == 0) && kind == text {
			p.s.Fatalf("the peer got the frame %#x %.60q, want a text message", first, payload)
		}
		whole.WriteString(payload)
		if first&fin != 0 {
			return whole.String()
		}
	}
}

func (p *peer) want(messages ...string) {
	p.s.Helper()
	for i, want := range messages {
		if got := p.message(); got != want {
			p.s.Fatalf("message %d: the peer got %.60q, of %d bytes; want %.60q, of %d", i, got, len(got), want, len(want))
		}
	}
}

// wantClose waits for the close frame, answers it and sees the connection end. Messages that come before it are not looked at. Code 0
// stands for any, or none.
func (p *peer) wantClose(code int, reason string) {
	p.s.Helper()
	for {
		first, payload, err := p.next()
		if err != nil {
			if code == 0 {
				return
			}
			p.s.Fatalf("the connection ended without the close frame %d %q: %v", code, reason, err)
		}
		if first != fin|closeFrame {
			continue
		}
		got := 1005
		if len(payload) >= 2 {
			got, payload = int(binary.BigEndian.Uint16([]byte(payload))), payload[2:]
		}
		if code != 0 && (got != code || reason != anyReason && payload != reason) {
			p.s.Fatalf("the peer was closed with %d %q, want %d %q", got, payload, code, reason)
		}
		_, _ = p.Write(clientframe.Masked(fin|closeFrame, clientframe.Close(max(min(code, 4999), 1000), ""))) // nobody need read it
		p.wantEnd()
		return
	}
}

const anyReason = "any"

// wantEnd waits for the end of the connection.
func (p *peer) wantEnd() {
	p.s.Helper()
	for {
		if _, _, err := p.next(); err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				p.s.Fatal("the connection stays open")
			}
			_ = p.Close() // the server closes first
			return
		}
	}
}

// vanish ends the connection without a word: with a reset if rudely.
func (p *peer) vanish(rudely bool) {
	if c, ok := p.below.(*net.TCPConn); ok && rudely {
		if err := c.SetLinger(0); err != nil {
			p.s.Fatal(err)
		}
	}
	if err := p.below.Close(); err != nil {
		p.s.Fatal(fmt.Errorf("the peer's end: %w", err))
	}
}

package sockettest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/clientframe"
)

func testSubprotocol(s *server) {
	for _, test := range []struct{ offer, want string }{
		{"graphql-transport-ws", "graphql-transport-ws"},
		{"graphql-ws", "graphql-ws"},
		{"chat, graphql-ws", "graphql-ws"},
		{"chat,graphql-transport-ws", "graphql-transport-ws"},
		{"chat", ""},
		{"", ""},
	} {
		var header []string
		if test.offer != "" {
			header = []string{"Sec-WebSocket-Protocol: " + test.offer}
		}
		socket, p := s.open("/", header...)
		if socket.Subprotocol() != test.want || p.subprotocol != test.want {
			s.Errorf("of %q, Subprotocol is %q and the peer was told %q, want %q", test.offer, socket.Subprotocol(), p.subprotocol, test.want)
		}
		p.send(fin|text, "a")
		if got := s.read(socket); got != "a" {
			s.Errorf("got %q", got)
		}
	}
}

// Middleware's ResponseWriter has Unwrap, and may have nothing else.
func testMiddleware(s *server) {
	socket, p := s.open("/wrapped", "Sec-WebSocket-Protocol: "+subprotocols[0])
	p.send(fin|text, "a")
	if got := s.read(socket); got != "a" {
		s.Errorf("got %q", got)
	}
	s.write(socket, "b")
	p.want("b")
}

func testReadText(s *server) {
	socket, p := s.connect()
	for _, n := range []int{1, 0, 125, 126, 4096, 65535, 65536, MaxMessageBytes} {
		m := strings.Repeat("é", n/2) + strings.Repeat("x", n%2)
		go p.Write(clientframe.Masked(fin|text, m)) //nolint:errcheck // the read fails
		if got := s.read(socket); got != m {
			s.Errorf("of %d bytes came %d, or others", n, len(got))
		}
	}
	var all []byte
	for i := range 100 {
		all = append(all, clientframe.Masked(fin|text, fmt.Sprint(i))...)
	}
	p.write(all)
	for i := range 100 {
		if got := s.read(socket); got != fmt.Sprint(i) {
			s.Fatalf("message %d of those that came at once is %q", i, got)
		}
	}
	go func() { // in the smallest pieces
		for _, b := range clientframe.Masked(fin|text, "byte by byte") {
			if _, err := p.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	if got := s.read(socket); got != "byte by byte" {
		s.Errorf("got %q", got)
	}
}

func testReadFragments(s *server) {
	socket, p := s.connect()
	for name, frames := range map[string][][]byte{
		"three":                {clientframe.Masked(text, "one "), clientframe.Masked(continuation, "two "), clientframe.Masked(fin|continuation, "é")},
		"cut in a character":   {clientframe.Masked(text, "one two \xc3"), clientframe.Masked(fin|continuation, "\xa9")},
		"empty ones":           {clientframe.Masked(text, ""), clientframe.Masked(continuation, "one two é"), clientframe.Masked(fin|continuation, "")},
		"a ping between":       {clientframe.Masked(text, "one "), clientframe.Masked(fin|ping, "hey"), clientframe.Masked(fin|continuation, "two é")},
		"a pong between":       {clientframe.Masked(text, "one "), clientframe.Masked(fin|pong, ""), clientframe.Masked(fin|continuation, "two é")},
		"a message behind it":  {clientframe.Masked(text, "one two "), clientframe.Masked(fin|continuation, "é"), clientframe.Masked(fin|text, "next")},
		"a pong nobody wanted": {clientframe.Masked(fin|pong, "x"), clientframe.Masked(fin|text, "one two é")},
	} {
		var all []byte
		for _, f := range frames {
			all = append(all, f...)
		}
		p.write(all)
		if got := s.read(socket); got != "one two é" {
			s.Errorf("%s: got %q", name, got)
		}
		if name == "a message behind it" {
			if got := s.read(socket); got != "next" {
				s.Errorf("%s: got %q", name, got)
			}
		}
	}
}

func testReadKeepsTheSlice(s *server) {
	socket, p := s.connect()
	first := strings.Repeat("a", 5000)
	p.write(append(clientframe.Masked(fin|text, first), clientframe.Masked(fin|text, strings.Repeat("b", 5000))...))
	var b []byte
	var err error
	within(s.T, "Read", func() { b, err = socket.Read(context.Background()) })
	if err != nil {
		s.Fatal(err)
	}
	p.send(fin|ping, "x") // whoever reads ahead has read on when this is answered, or does not answer yet
	s.write(socket, "written")
	for {
		if kind, payload, err := p.next(); err != nil || kind == fin|text && payload == "written" {
			break
		}
	}
	if string(b) != first {
		s.Error("the slice that Read returned has changed before the next Read")
	}
}

func testReadRefuses(s *server) {
	half := strings.Repeat("x", MaxMessageBytes/2+1)
	for name, test := range map[string]struct {
		send [][]byte
		code int
	}{
		"binary":                {[][]byte{clientframe.Masked(fin|binaryData, "abc")}, 1003},
		"too long":              {[][]byte{clientframe.Masked(fin|text, half+half)}, 1009},
		"too long in fragments": {[][]byte{clientframe.Masked(text, half), clientframe.Masked(fin|continuation, half)}, 1009},
	} {
		socket, p := s.connect()
		go func() {
			for _, f := range test.send {
				_, _ = p.Write(f) // it may be closed before it has all
			}
		}()
		ended := s.reading(socket)
		p.wantClose(test.code, anyReason)
		err := finished(s.T, "Read", ended)
		var closed *notifyql.CloseError
		if errors.As(err, &closed) && closed.Code != test.code {
			s.Errorf("%s: Read returned %v", name, err)
		}
	}
}

// What is no WebSocket is not guessed at.
func testReadMalformed(s *server) {
	unmasked := []byte{fin | text, 1, 'a'}
	for name, b := range map[string][]byte{
		"no mask":                      unmasked,
		"a reserved bit":               clientframe.Masked(fin|reserved|text, "a"),
		"an unknown kind":              clientframe.Masked(fin|0x3, "a"),
		"a continuation of nothing":    clientframe.Masked(fin|continuation, "a"),
		"a negative length":            {fin | text, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		"a message within another":     append(clientframe.Masked(text, "a"), clientframe.Masked(fin|text, "b")...),
		"a control frame in fragments": clientframe.Masked(ping, "a"),
		"a control frame too long":     clientframe.Masked(fin|ping, strings.Repeat("x", 126)),
	} {
		socket, p := s.connect()
		p.write(b)
		ended := make(chan error, 1)
		go func() {
			_, err := socket.Read(context.Background())
			socket.Close(1002, "") //nolint:errcheck // as is looked at
			ended <- err
		}()
		p.wantClose(0, "")
		if err := finished(s.T, "Read", ended); err == nil || closedNormally(err) {
			s.Errorf("%s: Read returned %v", name, err)
		}
	}
}

func testWrite(s *server) {
	socket, p := s.connect()
	s.write(socket, "one")
	p.want("one")
	s.write(socket, "two", "é", strings.Repeat("x", 125), strings.Repeat("y", 126), strings.Repeat("z", 70000))
	p.want("two", "é", strings.Repeat("x", 125), strings.Repeat("y", 126), strings.Repeat("z", 70000))
	s.write(socket)

	big := strings.Repeat("0123456789", 300_000)
	ended := make(chan error, 1)
	go func() {
		ended <- socket.Write(context.Background(), []byte("before"), []byte(big), []byte("after"))
	}()
	p.want("before", big, "after")
	if err := finished(s.T, "Write", ended); err != nil {
		s.Errorf("Write: %v", err)
	}

	const n = 10_000
	go func() {
		for i := 0; i < n; {
			var batch [][]byte
			for range 16 {
				batch = append(batch, fmt.Append(nil, "message ", i))
				i++
			}
			if err := socket.Write(context.Background(), batch...); err != nil {
				s.Errorf("Write: %v", err)
				return
			}
		}
	}()
	for i := range n {
		p.want(fmt.Sprint("message ", i))
	}
}

func testWriteKeepsNothing(s *server) {
	socket, p := s.connect()
	b := []byte("before")
	for range 100 {
		copy(b, "before")
		if err := socket.Write(context.Background(), b, b); err != nil {
			s.Fatal(err)
		}
		copy(b, "behind")
		p.want("before", "before")
	}
}

func testPingIsAnswered(s *server) {
	socket, p := s.connect()
	read := make(chan string, 1)
	go func() {
		b, _ := socket.Read(context.Background())
		read <- string(b)
	}()
	for _, payload := range []string{"", "hey", strings.Repeat("\xfe", 125)} {
		p.send(fin|ping, payload)
		if first, got, err := p.next(); err != nil || first != fin|pong || got != payload {
			s.Fatalf("the ping %q was answered with %#x %q %v", payload, first, got, err)
		}
	}
	p.send(fin|text, "a")
	if got := <-read; got != "a" {
		s.Errorf("got %q", got)
	}
}

func testPinger(s *server) {
	socket, p := s.connect()
	pinger, ok := socket.(notifyql.Pinger)
	if !ok {
		s.Skip("the Socket is no Pinger: keep-alives are messages of the protocol, which some clients take for an error")
	}
	before := pinger.Heard()
	if err := pinger.Ping(context.Background()); err != nil { // nobody has answered yet
		s.Fatal(err)
	}
	first, payload, err := p.next()
	if err != nil || first != fin|ping {
		s.Fatalf("the peer got %#x %q %v, want a ping", first, payload, err)
	}
	if pinger.Heard() != before {
		s.Error("Heard has grown, though the peer was silent")
	}
	p.send(fin|pong, payload)
	p.send(fin|text, "behind it")
	if got := s.read(socket); got != "behind it" {
		s.Errorf("got %q", got)
	}
	if pinger.Heard() == before {
		s.Error("Heard has not grown with a pong")
	}
	s.write(socket, "a")
	p.want("a")
}

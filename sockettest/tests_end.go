package sockettest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/clientframe"
)

func testClose(s *server) {
	for _, code := range []int{1000, 1001, 1012, 1013, 3008, 4400, 4403, 4429, 4500, 4999} {
		for _, reason := range []string{"", "Too many initialisation requests", strings.Repeat("é", 61) + "x"} {
			socket, p := s.connect()
			s.write(socket, "the last")
			done := make(chan struct{})
			go func() {
				socket.Close(code, reason) //nolint:errcheck // as is looked at
				close(done)
			}()
			p.want("the last")
			p.wantClose(code, reason)
			<-done
			if err := s.readError(socket); closedNormally(err) && code != 1000 && code != 1001 {
				s.Errorf("after Close(%d) Read says that the peer has closed: %v", code, err)
			}
			if err := socket.Write(context.Background(), []byte("x")); err == nil {
				s.Errorf("after Close(%d) Write returned no error", code)
			}
		}
	}
}

func testCloseTwice(s *server) {
	for range 100 {
		socket, p := s.connect()
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = socket.Read(context.Background())
			socket.Close(4000, "each the same") //nolint:errcheck // as is looked at
		})
		for range 3 {
			all.Go(func() { socket.Close(4000, "each the same") }) //nolint:errcheck // as is looked at
		}
		p.wantClose(4000, "each the same")
		within(s.T, "Close", all.Wait)
		within(s.T, "Close", func() { socket.Close(4001, "another") }) //nolint:errcheck // it does nothing
	}
}

// A peer that is in the middle of a message can send the rest of it: its library may take a broken connection for the reason, and
// not look for the close frame.
func testCloseWhileThePeerSends(s *server) {
	socket, p := s.connect()
	message := clientframe.Masked(fin|text, strings.Repeat("x", MaxMessageBytes))
	p.write(message[:MaxMessageBytes/2])
	go socket.Close(1012, "Service restart") //nolint:errcheck // as is looked at
	first, payload, err := p.next()
	if err != nil || first != fin|closeFrame || payload != clientframe.Close(1012, "Service restart") {
		s.Fatalf("the peer got %#x %q %v, want the close frame", first, payload, err)
	}
	p.write(message[MaxMessageBytes/2:])
	p.write(message)
	p.send(fin|closeFrame, payload)
	p.wantEnd()
}

func testCloseEndsRead(s *server) {
	socket, p := s.connect()
	ended := make(chan error, 1)
	p.send(fin|text, "a")
	s.read(socket)
	go func() {
		_, err := socket.Read(context.Background())
		ended <- err
	}()
	go socket.Close(1012, "Service restart") //nolint:errcheck // as is looked at
	p.wantClose(1012, "Service restart")
	if err := finished(s.T, "Read", ended); err == nil {
		s.Error("Read returned no error")
	}
}

// A peer that reads nothing can't keep a Write for longer than the socket is open, nor the socket open.
func testCloseEndsWrite(s *server) {
	socket, p := s.connect()
	ended, begun := fill(context.Background(), socket)
	<-begun
	go func() { // what it sends, and wants to be answered, changes nothing
		for range 10_000 {
			if _, err := p.Write(clientframe.Masked(fin|ping, "x")); err != nil {
				return
			}
		}
	}()
	reading := make(chan error, 1)
	go func() {
		_, err := socket.Read(context.Background())
		reading <- err
	}()
	within(s.T, "Close", func() { socket.Close(3008, "Too slow") }) //nolint:errcheck // nobody can be told
	if err := finished(s.T, "Write", ended); err == nil {
		s.Error("Write returned no error")
	}
	if err := finished(s.T, "Read", reading); err == nil {
		s.Error("Read returned no error")
	}
}

// A peer that does not answer the close frame, or begins a message that it never ends, is not waited for.
func testCloseOfASilentPeer(s *server) {
	var ended []chan error
	var peers []*peer
	for _, last := range []string{"", string(clientframe.Masked(fin|text, "a message without its end")[:9])} {
		socket, p := s.connect()
		p.write([]byte(last))
		reading, closed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := socket.Read(context.Background())
			reading <- err
		}()
		go func() {
			socket.Close(3008, "No pong") //nolint:errcheck // as is looked at
			closed <- errors.New("as it should be")
		}()
		ended, peers = append(ended, reading, closed), append(peers, p)
	}
	for _, end := range ended { // the peers are silent till then
		if err := finished(s.T, "Read, or Close,", end); err == nil {
			s.Error("Read returned no error")
		}
	}
	for _, p := range peers {
		p.wantClose(3008, "No pong")
	}
}

func testPeerCloses(s *server) {
	for _, test := range []struct {
		send   string
		code   int
		reason string
	}{
		{clientframe.Close(1000, "Normal Closure"), 1000, "Normal Closure"},
		{clientframe.Close(1001, ""), 1001, ""},
		{clientframe.Close(4999, "é"), 4999, "é"},
	} {
		socket, p := s.connect()
		p.write(append(clientframe.Masked(fin|text, "the last"), clientframe.Masked(fin|closeFrame, test.send)...))
		if got := s.read(socket); got != "the last" {
			s.Errorf("got %q", got)
		}
		ended := s.reading(socket)
		p.wantClose(0, "")
		err := finished(s.T, "Read", ended)
		var closed *notifyql.CloseError
		if !errors.As(err, &closed) || closed.Code != test.code || closed.Reason != test.reason {
			s.Errorf("Read returned %v, want a *CloseError of %d %q", err, test.code, test.reason)
		}
	}
	socket, p := s.connect()
	p.send(fin|closeFrame, "")
	ended := s.reading(socket)
	p.wantClose(0, "")
	finished(s.T, "Read", ended)
}

func testPeerVanishes(s *server) {
	for _, rudely := range []bool{false, true} {
		for _, last := range []string{
			"", string(clientframe.Masked(fin|text, "a")[:1]), string(clientframe.Masked(fin|text, "a message without its end")[:9]), string(clientframe.Masked(text, "a")),
		} {
			socket, p := s.connect()
			p.write([]byte(last))
			p.vanish(rudely)
			if err := s.readError(socket); closedNormally(err) {
				s.Errorf("after %q Read says that the peer has closed: %v", last, err)
			}
			within(s.T, "Close", func() { socket.Close(1000, "") }) //nolint:errcheck // nobody can be told
			if err := socket.Write(context.Background(), []byte("x")); err == nil {
				s.Error("Write to nobody returned no error")
			}
		}
	}
}

func testContextEndsRead(s *server) {
	socket, p := s.connect()
	ctx, cancel := context.WithCancel(context.Background())
	p.send(fin|text, "a")
	if b, err := socket.Read(ctx); string(b) != "a" || err != nil {
		s.Fatalf("got %q %v", b, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := socket.Read(ctx)
		ended <- err
	}()
	cancel()
	if err := finished(s.T, "Read", ended); err == nil {
		s.Error("Read returned no error")
	}
	if _, err := socket.Read(ctx); err == nil {
		s.Error("Read with a context that has ended returned no error")
	}
}

func testContextEndsWrite(s *server) {
	socket, _ := s.connect()
	ctx, cancel := context.WithCancel(context.Background())
	ended, begun := fill(ctx, socket)
	<-begun
	cancel()
	if err := finished(s.T, "Write", ended); err == nil {
		s.Error("Write returned no error")
	}
}

// Messages go both ways while pings do, and then the socket is closed in the middle of it.
func testAtTheSameTime(s *server) {
	for round := range 20 {
		socket, p := s.connect()
		var all sync.WaitGroup
		all.Go(func() {
			for {
				if _, err := socket.Read(context.Background()); err != nil {
					return
				}
			}
		})
		pinger, _ := socket.(notifyql.Pinger)
		all.Go(func() {
			for i := 0; ; i++ {
				if err := socket.Write(context.Background(), fmt.Append(nil, i), []byte("é")); err != nil {
					return
				}
				if pinger != nil && i%7 == 0 {
					if err := pinger.Ping(context.Background()); err != nil {
						return
					}
				}
			}
		})
		all.Go(func() {
			for i := 0; ; i++ {
				kind := []byte{fin | text, fin | ping, fin | pong}[i%3]
				if _, err := p.Write(clientframe.Masked(kind, "x")); err != nil {
					return
				}
			}
		})
		for i := range 10 * round {
			if _, _, err := p.next(); err != nil {
				s.Fatalf("frame %d: %v", i, err)
			}
		}
		all.Go(func() { socket.Close(1012, "Service restart") }) //nolint:errcheck // as is looked at
		p.wantCloseAmong("Service restart")
		p.Close() //nolint:errcheck // its writer is to end
		within(s.T, "what runs on the socket", all.Wait)
	}
}

// wantCloseAmong waits for the close frame behind whatever comes.
func (p *peer) wantCloseAmong(reason string) {
	p.s.Helper()
	for {
		first, payload, err := p.next()
		if err != nil {
			p.s.Fatalf("the connection ended without a close frame: %v", err)
		}
		if first == fin|closeFrame {
			if got := strings.TrimPrefix(payload, clientframe.Close(1012, "")); got != reason {
				p.s.Fatalf("closed with %q", payload)
			}
			return
		}
	}
}

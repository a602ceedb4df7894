package wstest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/clientframe"
	"github.com/notifyql/notifyql/internal/ws"
)

// Frames that WebSocket allows, cut in every way, are messages like others.
func (lib library) framesOfEveryShape(t *testing.T) {
	t.Parallel()
	const pingMessage, pongMessage = `{"type":"ping","payload":{"a":"é"}}`, `{"type":"pong","payload":{"a":"é"}}`
	whole := clientframe.Masked(fin|text, pingMessage)
	half := len(pingMessage) - 4 // in the middle of the é
	padded := func(n int) string { return pingMessage + strings.Repeat(" ", n-len(pingMessage)) }
	join := func(frames ...[]byte) (b []byte) {
		for _, f := range frames {
			b = append(b, f...)
		}
		return b
	}
	var bytewise [][]byte
	for i := range whole {
		bytewise = append(bytewise, whole[i:i+1])
	}
	manyFrames := clientframe.Masked(text, "")
	for i := range len(pingMessage) {
		manyFrames = append(manyFrames, clientframe.Masked(continuation, pingMessage[i:i+1])...)
	}
	manyFrames = append(manyFrames, clientframe.Masked(fin|continuation, "")...)

	for name, test := range map[string]struct {
		write [][]byte
		want  []string
	}{
		"one frame":                {[][]byte{whole}, []string{pongMessage}},
		"byte by byte":             {bytewise, []string{pongMessage}},
		"two messages at once":     {[][]byte{join(whole, whole)}, []string{pongMessage, pongMessage}},
		"one and a half":           {[][]byte{join(whole, whole[:9]), whole[9:]}, []string{pongMessage, pongMessage}},
		"a hundred at once":        {[][]byte{[]byte(strings.Repeat(string(whole), 100))}, repeat(pongMessage, 100)},
		"cut within a character":   {[][]byte{clientframe.Masked(text, pingMessage[:half]), clientframe.Masked(fin|continuation, pingMessage[half:])}, []string{pongMessage}},
		"one-byte frames":          {[][]byte{manyFrames}, []string{pongMessage}},
		"125 bytes":                {[][]byte{clientframe.Masked(fin|text, padded(125))}, []string{pongMessage}},
		"126 bytes":                {[][]byte{clientframe.Masked(fin|text, padded(126))}, []string{pongMessage}},
		"65,535 bytes":             {[][]byte{clientframe.Masked(fin|text, padded(65535))}, []string{pongMessage}},
		"65,536 bytes":             {[][]byte{clientframe.Masked(fin|text, padded(65536))}, []string{pongMessage}},
		"1 MB":                     {[][]byte{clientframe.Masked(fin|text, padded(defaultMaxMessage))}, []string{pongMessage}},
		"1 MB in two frames":       {[][]byte{clientframe.Masked(text, padded(500000)), clientframe.Masked(fin|continuation, strings.Repeat(" ", defaultMaxMessage-500000))}, []string{pongMessage}},
		"ping":                     {[][]byte{clientframe.Masked(fin|ping, "")}, []string{"pong "}},
		"ping with 125 bytes":      {[][]byte{clientframe.Masked(fin|ping, strings.Repeat("\xfe", 125))}, []string{"pong " + strings.Repeat("\xfe", 125)}},
		"ten pings":                {[][]byte{[]byte(strings.Repeat(string(clientframe.Masked(fin|ping, "x")), 10))}, repeat("pong x", 10)},
		"pong nobody asked for":    {[][]byte{clientframe.Masked(fin|pong, "x"), whole}, []string{pongMessage}},
		"ping between fragments":   {[][]byte{clientframe.Masked(text, pingMessage[:9]), clientframe.Masked(fin|ping, "x"), clientframe.Masked(fin|continuation, pingMessage[9:])}, []string{"pong x", pongMessage}},
		"pong between fragments":   {[][]byte{clientframe.Masked(text, pingMessage[:9]), clientframe.Masked(fin|pong, "x"), clientframe.Masked(fin|continuation, pingMessage[9:])}, []string{pongMessage}},
		"ping and half a message":  {[][]byte{join(clientframe.Masked(fin|ping, "x"), whole[:5]), whole[5:]}, []string{"pong x", pongMessage}},
		"ping and half a header":   {[][]byte{join(clientframe.Masked(fin|ping, "x"), whole[:1]), whole[1:]}, []string{"pong x", pongMessage}},
		"empty frames at the ends": {[][]byte{clientframe.Masked(text, ""), clientframe.Masked(continuation, pingMessage), clientframe.Masked(fin|continuation, "")}, []string{pongMessage}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
			c := dial(t, s)
			c.write(test.write...)
			c.want(test.want...)
			c.init() // and it goes on
			c.write(clientframe.Masked(fin|closeFrame, clientframe.Close(1000, "bye")))
			c.want("close 1000" + lib.echo(" bye"))
			c.Conn.Close()
			if err := s.end(); err != nil {
				t.Errorf("a normal closure gave %v", err)
			}
		})
	}
}

func repeat(s string, n int) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

// Frames that WebSocket, or the protocol, does not allow close the connection with their code.
func (lib library) framesThatClose(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		write [][]byte
		want  string
	}{
		"binary":                       {[][]byte{clientframe.Masked(fin|binaryData, initMessage)}, "1003 Only text messages are supported"},
		"1 MB and one byte":            {[][]byte{clientframe.Masked(fin|text, strings.Repeat(" ", defaultMaxMessage+1))}, "1009"},
		"1 MB and a frame":             {[][]byte{clientframe.Masked(text, strings.Repeat(" ", defaultMaxMessage)), clientframe.Masked(fin|continuation, " ")}, "1009"},
		"invalid UTF-8":                {[][]byte{clientframe.Masked(fin|text, "{\"type\":\"\xc3\x28\"}")}, "1007"},
		"UTF-8 cut short":              {[][]byte{clientframe.Masked(text, "{\"type\":\"\xe2\x82"), clientframe.Masked(fin|continuation, "\"}")}, "1007"},
		"surrogate in UTF-8":           {[][]byte{clientframe.Masked(fin|text, "\"\xed\xa0\x80\"")}, "1007"},
		"unmasked":                     {[][]byte{append([]byte{fin | text, 2}, "{}"...)}, "1002"},
		"reserved bit":                 {[][]byte{clientframe.Masked(fin|rsv1|text, "{}")}, "1002"},
		"reserved opcode":              {[][]byte{clientframe.Masked(fin|3, "")}, "1002"},
		"reserved control opcode":      {[][]byte{clientframe.Masked(fin|0xb, "")}, "1002"},
		"continuation of nothing":      {[][]byte{clientframe.Masked(fin|continuation, "{}")}, "1002"},
		"message within a message":     {[][]byte{clientframe.Masked(text, "{"), clientframe.Masked(fin|text, "{}")}, "1002"},
		"fragmented ping":              {[][]byte{clientframe.Masked(ping, "x"), clientframe.Masked(fin|continuation, "x")}, "1002"},
		"ping with 126 bytes":          {[][]byte{clientframe.Masked(fin|ping, strings.Repeat("x", 126))}, "1002"},
		"negative length":              {[][]byte{{fin | text, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}}, "1002"},
		"close with one byte":          {[][]byte{clientframe.Masked(fin|closeFrame, "\x03")}, "1002"},
		"close with a reserved code":   {[][]byte{clientframe.Masked(fin|closeFrame, clientframe.Close(1005, ""))}, "1002"},
		"close with no code":           {[][]byte{clientframe.Masked(fin|closeFrame, clientframe.Close(999, ""))}, "1002"},
		"close with a code of nobody":  {[][]byte{clientframe.Masked(fin|closeFrame, clientframe.Close(2999, ""))}, "1002"},
		"close with a code beyond all": {[][]byte{clientframe.Masked(fin|closeFrame, clientframe.Close(5000, ""))}, "1002"},
		"fragmented close":             {[][]byte{clientframe.Masked(closeFrame, clientframe.Close(1000, ""))}, "1002"},
		"not JSON":                     {[][]byte{clientframe.Masked(fin|text, "{"), clientframe.Masked(fin|text, "{")}, "4400 Invalid message received: not JSON"},
		"empty":                        {[][]byte{clientframe.Masked(fin|text, "")}, "4400 Invalid message received: not JSON"},
		"subscribe before init":        {[][]byte{clientframe.Masked(fin|text, subscribe("1", "x"))}, "4401 Unauthorized"},
		"refused":                      {[][]byte{clientframe.Masked(fin|text, `{"type":"connection_init","payload":{"refuse":1,"a":"refuse"}}`)}, "4403 Forbidden"},
		"refused and more":             {[][]byte{clientframe.Masked(fin|text, `{"type":"connection_init","payload":{"a":"refuse"}}`), clientframe.Masked(fin|text, subscribe("1", "x"))}, "4403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
			c := dial(t, s)
			c.write(test.write...)
			if lib.upgrade != nil && (test.want == "1002" || test.want == "1007") {
				c.wantAnyEnd()
			} else {
				c.wantEnd(test.want)
			}
			if err := s.end(); err == nil {
				t.Error("the end was normal to Serve")
			}
		})
	}
}

func (lib library) protocolErrorsThroughFrames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100)
	for name, test := range map[string]struct {
		write []string
		want  string
	}{
		"second init":  {[]string{initMessage}, "4429 Too many initialisation requests"},
		"duplicate id": {[]string{subscribe("x", "q"), subscribe("x", "q")}, "4409 Subscriber for x already exists"},
		"duplicate long id": {
			[]string{subscribe(long, "q"), subscribe(long, "q")}, "4409 Subscriber for " + strings.Repeat("é", 45) + "… already exists",
		},
		"payload of the wrong type": {[]string{`{"type":"ping","payload":3}`}, "4400 Invalid message received: 'payload' must be an object, got number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
			c := dial(t, s)
			c.init()
			c.text(test.write...)
			c.wantEnd(test.want)
		})
	}
}

// A client that offers no subprotocol of ours is told so in words that it can read: after the handshake.
func (lib library) subprotocols(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"X: y", "Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: mqtt, soap"} {
		s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
		c := dial(t, s, header)
		c.wantEnd("4406 Subprotocol not acceptable")
	}
	s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
	dial(t, s, "Sec-WebSocket-Protocol: mqtt, graphql-transport-ws").init()
}

// Valid close frames are answered with their own code, whatever it is.
func (lib library) clientCloses(t *testing.T) {
	t.Parallel()
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4499, 4999} {
		if code == 1014 && lib.upgrade != nil {
			continue // registered later than some libraries know
		}
		s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
		c := dial(t, s)
		c.init()
		c.text(subscribe("a", "orders"))
		c.write(clientframe.Masked(fin|closeFrame, clientframe.Close(code, "why")))
		c.want("close " + lib.echo(fmt.Sprintf("%d why", code)))
		if _, _, err := c.frame(); err == nil {
			t.Errorf("%d: a frame after the close frame", code)
		}
		c.Conn.Close()
		err := s.end()
		if normal := code == 1000 || code == 1001; normal != (err == nil) {
			t.Errorf("%d gave %v", code, err)
		}
	}
}

// The same id on two connections is two subscriptions; subscribe and complete may come in one packet.
func (lib library) iDsBelongToConnections(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := lib.newServer(t, f, ws.AcceptOptions{}, ws.Options{})
	a, b := dial(t, s), dial(t, s)
	a.init()
	b.init()
	a.text(subscribe("1", "a"))
	ofA := <-f.started
	b.text(subscribe("1", "b"))
	ofB := <-f.started
	a.write(append(append(clientframe.Masked(fin|text, subscribe("2", "gone")), clientframe.Masked(fin|text, complete("2"))...), clientframe.Masked(fin|text, `{"type":"ping"}`)...))
	a.want(`{"type":"pong"}`)
	<-f.started
	if _, streams := f.open(); streams != 2 {
		t.Errorf("%d streams are open, want 2", streams)
	}
	ofA.add(next1(1))
	ofB.add(next1(2))
	a.want(next("1", next1(1)))
	b.want(next("1", next1(2)))
	a.text(complete("1"), `{"type":"ping"}`)
	a.want(`{"type":"pong"}`)
	ofB.add(next1(3))
	b.want(next("1", next1(3)))
}

// Who is refused is told why in a close frame, after which clients come back or not as with any other.
func (lib library) refused(t *testing.T) {
	t.Parallel()
	s := lib.newServer(t, newFake(), ws.AcceptOptions{}, ws.Options{})
	s.down = true
	dial(t, s).wantEnd("1012 Service restart")
	if status := s.handshake(t, "Origin", "http://evil.example"); status != 403 {
		t.Errorf("a page of another origin got %d", status)
	}
}

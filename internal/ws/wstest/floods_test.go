package wstest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/clientframe"
	"github.com/notifyql/notifyql/internal/ws"
)

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
			b.Write(clientframe.Masked(head, ping[i:i+1]))
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
	c.write(clientframe.Masked(fin|closeFrame, clientframe.Close(1000, "\xff")))
	c.wantEnd("1007")
	if err := s.end(); err == nil {
		t.Error("the end was normal to Serve")
	}
}

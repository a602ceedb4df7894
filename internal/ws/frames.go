package ws

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notifyql/notifyql/internal/linger"
)

// A goroutine that waits inside coder/websocket for the next message has a stack of 8 KB, most of what an idle connection
// costs. So it waits in await instead, below hardly anything; the library is called when there are bytes, and comes back
// with errPause when it would wait again between two messages, as it does after each ping and pong. Then it has consumed
// whole frames only, and knows nothing of the pause.

// errPause is not an error of the connection.
var errPause = errors.New("between two messages")

// errFragments says that a message is cut into more pieces than anybody has reason to: each costs as much as a message.
var errFragments = errors.New("a message of too many fragments")

// maxFragments is how many pieces a message may come in: of the largest by default, of 1 KB each.
const maxFragments = 1024

// errFlood says that a peer goes on sending when it is told that the connection is closed.
var errFlood = errors.New("too much came after the close frame")

const (
	// refusedBytes are read of a peer until its close frame comes.
	refusedBytes = 64 << 10
	// closingBytes are read of one that may be sending one of the largest messages, by no fault of its own.
	closingBytes = 2 << 20
	closingRead  = 16 << 10 // at once
	// floodHold is how long a peer that sends more may take to see that it is closed.
	floodHold = time.Second
)

// inbound is the reading side of a wire. Its lock is held while somebody waits for the network: the reader in await, and
// the library's close handshake, want the same bytes.
type inbound struct {
	paused  atomic.Bool  // Read returns errPause where it would wait between two frames
	closing atomic.Bool  // but not any more: the close handshake reads
	left    atomic.Int64 // bytes that the close handshake may read

	mu    sync.Mutex
	first [48]byte // what is read at once where there is no payload to read: a control frame, or the begin of a message
	have  []byte   // read and not yet given to the library; within first, what the HTTP server had read, or what comes while it closes
	at    frame    // where what was given to the library ends
}

// await returns when there is something to read.
func (w *wire) await() (err error) {
	w.in.mu.Lock()
	if len(w.in.have) == 0 {
		err = w.more()
	}
	w.in.mu.Unlock()
	return err
}

// more reads into have. It needs the lock.
func (w *wire) more() error {
	to := w.in.first[:]
	if w.in.closing.Load() {
		to = make([]byte, closingRead)
	}
	n, err := w.read(to)
	if n == 0 {
		return err
	}
	w.in.have = to[:n]
	return nil
}

// read reads from the network.
func (w *wire) read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n == 0 {
		return 0, err
	}
	w.heard.Add(1)
	if w.in.closing.Load() && w.in.left.Add(-int64(n)) < 0 {
		linger.Hold(w.Conn, floodHold) // it has yet to see the close frame
		return 0, errFlood
	}
	return n, err
}

// Read is the library's. It gives nothing beyond the frame that the library is in: what the library has buffered when
// it has read a message would be out of await's sight.
func (w *wire) Read(p []byte) (int, error) {
	in := &w.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.have) == 0 {
		if in.at.boundary() && in.paused.Load() && !in.closing.Load() {
			return 0, errPause
		}
		if in.at.rest > 0 && len(p) > len(in.first) {
			n, err := w.read(p[:min(uint64(len(p)), in.at.rest)])
			in.at.advance(p[:n])
			return n, err
		}
		if err := w.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.have[:min(uint64(len(in.have)), in.at.piece())])
	in.at.advance(in.have[:n])
	if in.at.fragments >= maxFragments { // and another is to come
		return 0, errFragments
	}
	if in.have = in.have[n:]; len(in.have) == 0 {
		in.have = nil
	}
	return n, nil
}

// complete reports whether the last message was read to its end. The library takes the end of the connection in the middle
// of a message for the message's.
func (w *wire) complete() bool {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	return w.in.at.boundary() && !w.in.at.open
}

// frame follows a peer's frames, to know where one ends.
type frame struct {
	header    [14]byte
	have      int    // bytes of the header so far
	rest      uint64 // bytes of the payload to come
	open      bool   // the message goes on in another frame
	fragments int    // of it, so far
}

func (f *frame) boundary() bool { return f.have == 0 && f.rest == 0 }

// piece is how many bytes certainly belong to this frame.
func (f *frame) piece() uint64 {
	switch {
	case f.rest > 0:
		return f.rest
	case f.have < 2:
		return uint64(2 - f.have)
	default:
		return uint64(f.size() - f.have)
	}
}

func (f *frame) advance(p []byte) {
	for len(p) > 0 {
		if f.rest > 0 {
			n := min(f.rest, uint64(len(p)))
			f.rest -= n
			p = p[n:]
			continue
		}
		f.header[f.have] = p[0]
		f.have++
		p = p[1:]
		if f.have >= 2 && f.have == f.size() {
			f.rest, f.have = f.length(), 0
			if f.header[0]&0x08 == 0 { // no control frame
				f.fragments++
				if f.open = f.header[0]&0x80 == 0; !f.open {
					f.fragments = 0
				}
			}
		}
	}
}

// size is the header's, known from its first two bytes.
func (f *frame) size() int {
	n := 2
	switch f.header[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.header[1]&0x80 != 0 { // masked
		n += 4
	}
	return n
}

func (f *frame) length() uint64 {
	switch n := f.header[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.header[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.header[2:])
	default:
		return uint64(n)
	}
}

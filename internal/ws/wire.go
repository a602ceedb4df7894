package ws

import (
	"encoding/binary"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// wire is the net.Conn under a socket. The library reads through it, and writes its control frames; messages are framed
// and written by send, a batch in one system call. See frames.go for reading.
type wire struct {
	net.Conn
	heard atomic.Uint64
	in    inbound
	out   outbound
}

func newWire(c net.Conn, early []byte) *wire {
	w := &wire{Conn: c}
	w.in.have = early
	w.out.idle.L = &w.out.mu
	return w
}

// outbound is guarded by its lock, which is not held during a write to the network: a control frame never waits for a
// slow peer, but goes with what is written next. Whoever writes has whole frames, or the cork.
type outbound struct {
	mu       sync.Mutex
	idle     sync.Cond // flushing has become false
	buf      *[]byte   // what waits, from buffers; nil if nothing does
	cork     bool      // the library writes data frames in parts: they wait for uncork
	flushing bool      // somebody writes to the network, and then whatever is in buf
	closed   bool      // a close frame was written; nothing may follow it
	err      error     // of the network; final
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func keepBuffer(b *[]byte) {
	if cap(*b) <= keepBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// The first bytes of a frame that is whole, so not a fragment.
const (
	finText  = 0x81
	finClose = 0x88
	finPing  = 0x89
)

// appendFrame appends a message as one frame, as a server sends it: without a mask.
func appendFrame(b, message []byte) []byte {
	switch n := len(message); {
	case n < 126:
		b = append(b, finText, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, finText, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, finText, 127), uint64(n))
	}
	return append(b, message...)
}

// Write is the library's, one control frame at a time, and under the cork anything.
func (w *wire) Write(p []byte) (int, error) {
	o := &w.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.refused(); err != nil {
		return 0, err
	}
	if o.buf == nil {
		o.buf = buffers.Get().(*[]byte)
	}
	n := len(p)
	if !o.cork && p[0] == finClose {
		o.closed = true
		if !utf8.Valid(p[min(4, n):]) { // the library repeats the peer's reason, whatever it is
			p = []byte{finClose, 2, CodeInvalidText >> 8, CodeInvalidText & 0xff}
		}
	}
	*o.buf = append(*o.buf, p...)
	for o.closed && o.flushing { // who writes a close frame closes the connection next
		o.idle.Wait()
	}
	if !o.cork && !o.flushing {
		w.drain(nil)
	}
	return n, o.err
}

// send writes frames, and returns when the network has taken them.
func (w *wire) send(frames []byte) error {
	o := &w.out
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.flushing {
		o.idle.Wait()
	}
	if err := o.refused(); err != nil {
		return err
	}
	w.drain(frames)
	return o.err
}

func (o *outbound) refused() error {
	if o.closed {
		return net.ErrClosed
	}
	return o.err
}

// cork holds back what is written from now on.
func (w *wire) cork() {
	w.out.mu.Lock()
	w.out.cork = true
	w.out.mu.Unlock()
}

// uncork sends what was held back.
func (w *wire) uncork() error {
	w.out.mu.Lock()
	w.out.cork = false
	w.out.mu.Unlock()
	return w.send(nil)
}

// backlog is how many bytes wait.
func (w *wire) backlog() int {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	if w.out.buf == nil {
		return 0
	}
	return len(*w.out.buf)
}

// drain writes what waits, p, and what came to wait meanwhile. It needs the lock, and that nobody is flushing; it gives
// the lock away while it writes.
func (w *wire) drain(p []byte) {
	o := &w.out
	o.flushing = true
	for (o.buf != nil && !o.cork || len(p) > 0) && o.err == nil {
		b, now := o.buf, p
		if b != nil {
			now, o.buf = *b, nil
		} else {
			p = nil
		}
		o.mu.Unlock()
		_, err := w.Conn.Write(now)
		if b != nil {
			keepBuffer(b)
		}
		o.mu.Lock()
		o.err = err
	}
	o.flushing = false
	o.idle.Broadcast()
}

package socket

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notifyql/notifyql/internal/linger"
)

const (
	// maxHeld is how many bytes of control frames may wait for a slow peer before their writer waits too.
	maxHeld = 16 << 10
	// keepHeld is the largest buffer that is kept while nothing is written.
	keepHeld = 4 << 10
	// maxLinger bounds what is read of a peer that is closed: it may well be in the middle of a message.
	maxLinger = 2 << 20
	// floodHold is how long a peer that sends more may take to see that it is closed.
	floodHold = time.Second
	// defaultLinger is how long a peer may take to close.
	defaultLinger = 5 * time.Second
)

// Conn is the connection below a WebSocket. Give it to the library: see Hijacker. A write that comes while another one is under way, or
// under the cork, is kept for that and returns at once, so it must be a whole frame, or be under the cork. A deadline for writes is not
// looked at: whoever has waited long enough calls Close or Abort, which end Uncork with an error.
//
// All methods may be called by several goroutines.
type Conn struct {
	net.Conn
	heard  atomic.Uint64
	linger atomic.Int64 // nanoseconds; 0: the default
	early  []byte       // what the HTTP server had read already; the reader's

	closed  sync.Once
	closing atomic.Bool // a deadline is set that is not to be changed

	mu       sync.Mutex // guards what follows; not held during a write to the network
	idle     sync.Cond  // flushing has become false
	held     []byte
	corked   bool
	flushing bool
	err      error // of the network; final
}

// New returns a Conn over c. early is what has been read of c already.
func New(c net.Conn, early []byte) *Conn {
	w := &Conn{Conn: c, early: early}
	w.idle.L = &w.mu
	return w
}

// Heard grows with each read that brought something.
func (c *Conn) Heard() uint64 { return c.heard.Load() }

// Read is for the library.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 && !c.closing.Load() {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Add(1)
	}
	return n, err
}

// Write is for the library.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flushing && len(c.held) > maxHeld && c.err == nil {
		c.idle.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	c.held = append(c.held, p...)
	if !c.corked && !c.flushing {
		c.flush()
	}
	return len(p), c.err
}

// Cork holds back what is written from now on. Only the goroutine that writes messages calls Cork and Uncork.
func (c *Conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// Uncork writes what was held back, and returns when the network has taken it.
func (c *Conn) Uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	for c.flushing && c.err == nil { // it takes ours along, if it has not looked yet
		c.idle.Wait()
	}
	c.flush()
	return c.err
}

// flush needs the lock, which it gives away while it writes, and that nobody else is at it.
func (c *Conn) flush() {
	c.flushing = true
	var spare []byte
	for len(c.held) > 0 && !c.corked && c.err == nil {
		b := c.held
		c.held = spare
		c.mu.Unlock()
		_, err := c.Conn.Write(b)
		c.mu.Lock()
		if spare = nil; cap(b) <= keepHeld {
			spare = b[:0]
		}
		c.err = err
	}
	if len(c.held) == 0 && cap(c.held) < cap(spare) {
		c.held = spare
	}
	c.flushing = false
	c.idle.Broadcast()
}

// SetLinger says how long Close may wait for the peer; 5 seconds otherwise.
func (c *Conn) SetLinger(d time.Duration) { c.linger.Store(int64(d)) }

// Close lets what was written go out, tells the peer that no more comes, and waits for it to close, so that it sees the close frame
// before the connection is gone; for so long as SetLinger says at most. Then it closes. A second call waits for the
// first.
func (c *Conn) Close() error {
	c.closed.Do(func() {
		wait := time.Duration(c.linger.Load())
		if wait == 0 {
			wait = defaultLinger
		}
		c.closing.Store(true)
		_ = c.Conn.SetDeadline(time.Now().Add(wait))
		c.mu.Lock()
		for c.flushing {
			c.idle.Wait()
		}
		c.corked = false // whoever holds it comes too late
		c.flush()
		taken := c.err == nil
		if taken {
			c.err = net.ErrClosed
		}
		c.idle.Broadcast()
		c.mu.Unlock()
		half, ok := c.Conn.(interface{ CloseWrite() error })
		if taken && ok && half.CloseWrite() == nil {
			if n, _ := io.CopyN(io.Discard, c.Conn, maxLinger); n == maxLinger { // it has yet to see that it is closed
				linger.Hold(c.Conn, floodHold)
			}
		}
		c.cut()
	})
	return nil
}

// cut closes at once. TLS by itself waits for a peer that does not read, to tell it.
func (c *Conn) cut() {
	if t, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		_ = t.NetConn().Close()
	}
	_ = c.Conn.Close()
}

// Abort closes at once. Whatever waits for the network ends with an error.
func (c *Conn) Abort() {
	c.cut()
	_ = c.Close()
}

// SetDeadline is for the library.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline is for the library. Once Close has begun it does nothing.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closing.Load() {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline does nothing: see Conn.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

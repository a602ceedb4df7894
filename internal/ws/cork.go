package ws

import (
	"net"
	"sync"
	"sync/atomic"
)

// corked is a net.Conn that holds writes back while it is corked, so that a batch of messages is one system call. One
// lock guards it; it is not held during a write to the network, so that a small write never waits for a slow peer: it
// goes with what is written next. Whoever writes to it has whole frames, or the cork.
type corked struct {
	net.Conn
	early []byte // what the HTTP server had read beyond the request; the reader's
	heard atomic.Uint64

	mu       sync.Mutex
	idle     sync.Cond // flushing has become false
	buf      *[]byte   // what waits, from buffers; nil if nothing does
	cork     bool
	flushing bool  // somebody writes buf to the network until it is empty
	err      error // of the network; final
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func keepBuffer(b *[]byte) {
	if cap(*b) <= keepBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

func newCorked(c net.Conn, early []byte) *corked {
	k := &corked{Conn: c, early: early}
	k.idle.L = &k.mu
	return k
}

func (k *corked) Read(p []byte) (int, error) {
	if len(k.early) > 0 {
		n := copy(p, k.early)
		k.early = k.early[n:]
		if len(k.early) == 0 {
			k.early = nil
		}
		k.heard.Add(1)
		return n, nil
	}
	n, err := k.Conn.Read(p)
	if n > 0 {
		k.heard.Add(1)
	}
	return n, err
}

func (k *corked) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return 0, k.err
	}
	if k.buf == nil {
		k.buf = buffers.Get().(*[]byte)
	}
	*k.buf = append(*k.buf, p...)
	if !k.cork && !k.flushing {
		k.drain()
	}
	return len(p), k.err
}

// hold corks.
func (k *corked) hold() {
	k.mu.Lock()
	k.cork = true
	k.mu.Unlock()
}

// flush uncorks and returns after everything that was written before has been given to the network.
func (k *corked) flush() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cork = false
	for k.flushing {
		k.idle.Wait()
	}
	k.drain()
	return k.err
}

// backlog is how many bytes wait.
func (k *corked) backlog() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.buf == nil {
		return 0
	}
	return len(*k.buf)
}

// drain needs the lock, and that nobody is flushing. It gives the lock away while it writes.
func (k *corked) drain() {
	k.flushing = true
	for k.buf != nil && !k.cork && k.err == nil {
		b := k.buf
		k.buf = nil
		k.mu.Unlock()
		_, err := k.Conn.Write(*b)
		keepBuffer(b)
		k.mu.Lock()
		k.err = err
	}
	k.flushing = false
	k.idle.Broadcast()
}

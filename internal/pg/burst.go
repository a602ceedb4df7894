package pg

import (
	"net"
	"sync/atomic"
)

// burstSize is how much is read from the network at once, and thereby about how large a batch of notifications gets.
const burstSize = 64 << 10

// burst reads a connection through a buffer and tells its owner before each read that could block: all that came
// together has been taken out by then, and whoever waits for more would wait for the network.
type burst struct {
	net.Conn
	blocks func() // called before the network is read
	buf    []byte
	r, w   int

	waiting atomic.Bool  // the reader waits for the network
	reads   atomic.Int64 // how often something came
}

func newBurst(conn net.Conn, blocks func()) *burst {
	return &burst{Conn: conn, blocks: blocks, buf: make([]byte, burstSize)}
}

// Read implements io.Reader. One goroutine reads.
func (b *burst) Read(p []byte) (int, error) {
	if b.r == b.w {
		b.blocks()
		b.waiting.Store(true)
		n, err := b.Conn.Read(b.buf)
		b.waiting.Store(false)
		if n > 0 {
			b.reads.Add(1)
		}
		b.r, b.w = 0, n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

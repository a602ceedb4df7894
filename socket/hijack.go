package socket

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"time"
)

const (
	// What net/http hands over has 4 KB each way, which an idle connection does not need.
	readBuffer  = 512
	writeBuffer = 128
	// sendBuffer bounds what the kernel holds for a client that does not read.
	sendBuffer = 64 << 10
)

// Hijacker is a http.ResponseWriter for a library to upgrade: what it hijacks is a Conn. It finds the connection behind any
// middleware that has Unwrap.
type Hijacker struct {
	http.ResponseWriter
	Conn *Conn // nil until the library has hijacked
}

// Hijack implements http.Hijacker.
func (h *Hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if g, ok := h.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		g.WriteHeaderNow() // gin keeps the header back
	}
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Time{}) // the HTTP server's
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	if t, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
		_ = t.SetWriteBuffer(sendBuffer) // a wish
	}
	h.Conn = New(c, bytes.Clone(early))
	return h.Conn, bufio.NewReadWriter(bufio.NewReaderSize(h.Conn, readBuffer), bufio.NewWriterSize(h.Conn, writeBuffer)), nil
}

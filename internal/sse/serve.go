package sse

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/ws"
)

// slowest is the rate, in bytes a second, below which a client is dead.
const slowest = 8 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// serve writes the event stream until the connection or its session is over, the client is gone or the server goes down.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, c *conn) {
	rc := http.NewResponseController(w)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	w.WriteHeader(http.StatusOK)

	write := func(b []byte) bool {
		allowed := h.o.WriteTimeout + time.Duration(len(b))*time.Second/slowest
		_ = rc.SetWriteDeadline(time.Now().Add(allowed)) // not every ResponseWriter can
		_, err := w.Write(b)
		return err == nil && rc.Flush() == nil
	}
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()

	// Some browsers don't tell the page of the connection before its first bytes.
	if !write([]byte(heartbeat)) {
		return
	}
	beat := time.NewTicker(h.o.KeepAlive)
	defer beat.Stop()
	gone := r.Context().Done()
	for {
		select {
		case <-c.changed:
			if !h.writeReady(c, write) {
				return
			}
		case <-beat.C:
			if !write([]byte(heartbeat)) {
				return
			}
		case <-c.over.Done():
			if !c.comesBack() {
				write(c.appendOver(nil))
			}
			return
		case <-gone:
			if !errors.Is(r.Context().Err(), context.DeadlineExceeded) {
				return
			}
			gone = nil // of middleware that bounds requests; that the client is gone shows when it is written to
		case <-h.o.Context.Done():
			return
		}
	}
}

var errNotWritten = errors.New("not written")

// writeReady writes until nothing is ready, and says whether to go on. A server that goes down stops at once: an
// operation must not end because of it.
func (h *Handler) writeReady(c *conn, write func([]byte) bool) bool {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if c.over.Err() != nil {
			return true // serve tells it
		}
		events, over := c.gather((*buf)[:0])
		if cap(events) <= 4*batchBytes {
			*buf = events
		}
		if h.o.Context.Err() != nil {
			c.told(errNotWritten)
			return false
		}
		if len(events) == 0 {
			return true
		}
		if !write(events) {
			c.told(errNotWritten)
			timed(c.timed, false)
			return false
		}
		c.timed = timed(c.timed, true)
		if c.told(nil); over {
			return false
		}
	}
}

// timed tells streams that what they gave is written, if it is, and returns the list emptied.
func timed(list []ws.Timed, wrote bool) []ws.Timed {
	if wrote && len(list) > 0 {
		at := time.Now()
		for _, t := range list {
			t.Written(at)
		}
	}
	clear(list)
	return list[:0]
}

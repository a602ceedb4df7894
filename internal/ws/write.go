package ws

import (
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// perTurn is how many results of one subscription are taken before the next one's turn.
	perTurn = 16
	// batchBytes is how much is gathered for one write; a larger message is a batch of its own.
	batchBytes = 32 << 10
	// keepBytes is the largest buffer that is kept for other batches.
	keepBytes = 4 * batchBytes
	// slowest is the rate, in bytes a second, below which a client is dead.
	slowest = 8 << 10
)

// startWriter needs the lock.
func (c *conn) startWriter() {
	if !c.writing && !c.done {
		c.writing = true
		c.running.Add(1)
		go c.write()
	}
}

// roomToWrite is about the stack that a write to the network needs.
const roomToWrite = 2 << 10

// growStack makes the runtime give this goroutine a larger stack now, while there is next to nothing on it to be copied.
// A writer lives for one batch: growing in the middle of its write was 40 % of its CPU time.
//
//go:noinline
func growStack(at int) byte {
	var room [roomToWrite]byte
	room[at%roomToWrite]++ // a use that the compiler can't do without
	return room[0]
}

// write runs until nothing waits.
func (c *conn) write() {
	defer c.running.Done()
	b := batches.Get().(*batch)
	growStack(cap(b.buf))
	defer b.release()
	c.guard(func() {
		for c.round(b) {
		}
	})
}

// round writes what waits, one batch and what a subscription had beyond it, and says whether to go on.
func (c *conn) round(b *batch) bool {
	c.mu.Lock()
	if c.done || c.control == nil && c.ready.head == nil && !c.watch.pingDue && c.closing == nil {
		c.writing = false
		c.mu.Unlock()
		return false
	}
	c.takeControl(b)
	why, ping := c.closing, c.watch.pingDue
	c.watch.pingDue = false
	c.mu.Unlock()

	if why != nil {
		_ = c.flush(b) // if it fails there is nobody to be told
		c.socket.Close(why.Code, why.Reason)
		return false
	}
	if ping {
		if err := c.ping(b); err != nil {
			return c.broken(err)
		}
	}
	for len(b.buf) < batchBytes {
		s := c.next()
		if s == nil {
			break
		}
		if err := c.pull(s, b); err != nil {
			return c.broken(err)
		}
	}
	if err := c.flush(b); err != nil {
		return c.broken(err)
	}
	return true
}

// next takes the subscription whose turn it is.
func (c *conn) next() *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil || c.done {
		return nil
	}
	for {
		s := c.ready.pop()
		if s == nil {
			return nil
		}
		s.queued = false
		if !s.stopped {
			s.pulling = true
			return s
		}
	}
}

// pull takes from s what it has, up to its turn's share, and adds it to b; full batches are written.
func (c *conn) pull(s *subscription, b *batch) error {
	results, err := s.stream.Next(b.results[:0], perTurn)
	b.results = results

	c.mu.Lock()
	s.pulling = false
	over, ended := s.stopped, false
	var last []byte
	switch {
	case over || c.closing != nil:
		results = nil
	case err != nil:
		last, ended = c.last(s, err), true
		s.stopped = true
	case len(results) >= perTurn:
		c.queue(s)
	}
	c.mu.Unlock()
	if traced, ok := s.stream.(Traced); ok && len(results) > 0 {
		if written := traced.Taken(); written != nil {
			defer func() { b.traced = append(b.traced, written) }() // with the last of them
		}
	}
	if over || ended {
		s.stream.Close()
	}

	if len(results) > 0 {
		if timed, ok := s.stream.(Timed); ok {
			b.timed = append(b.timed, timed)
		}
	}
	for _, r := range results {
		if len(b.buf) > 0 && len(b.buf)+len(r) > batchBytes {
			if err := c.flush(b); err != nil {
				return err
			}
			if c.overtaken(s, b) && !ended {
				return nil
			}
		}
		b.result(s.prefix, r)
	}
	if last != nil {
		b.add(last)
	}
	return nil
}

// last is the message that ends s, whose stream gave err. It needs the lock.
func (c *conn) last(s *subscription, err error) []byte {
	var failed *OperationError
	switch {
	case errors.Is(err, io.EOF):
		return c.machine.complete(s)
	case errors.As(err, &failed):
		return c.machine.fail(s, failed.Errors)
	}
	c.opts.Logger.Error("subscription failed", "error", err)
	return c.machine.fail(s, graphQLError("INTERNAL_SERVER_ERROR", "Internal server error"))
}

// overtaken lets control messages go first between two batches of one turn, and reports whether no more of s may be sent.
func (c *conn) overtaken(s *subscription, b *batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeControl(b)
	return s.stopped || c.closing != nil
}

// takeControl moves the control messages that wait to b. It needs the lock.
func (c *conn) takeControl(b *batch) {
	for _, m := range c.control {
		b.add(m)
	}
	c.control, c.waiting = nil, 0
	c.room.Broadcast()
}

// flush writes what b holds and empties it.
func (c *conn) flush(b *batch) error {
	if len(b.ends) == 0 {
		return nil
	}
	allowed := c.opts.WriteTimeout + time.Duration(len(b.buf))*time.Second/slowest
	c.watch.writeStarts(allowed)
	err := c.socket.Write(c.background, b.messages()...)
	c.watch.writeEnds()
	b.told(err)
	if err == nil && len(b.timed) > 0 {
		at := time.Now()
		for _, t := range b.timed {
			t.Written(at)
		}
	}
	b.empty()
	return err
}

// broken ends the connection after a failed write. Reading ends because the socket is closed.
func (c *conn) broken(err error) bool {
	c.shut(closing(CodeAbnormal, "Write failed: %v", err))
	c.socket.Close(CodeGoingAway, "")
	return false
}

// batch is what is written at once. It is used by one writer at a time and kept for others.
type batch struct {
	buf     []byte
	ends    []int // where each message ends in buf
	slices  [][]byte
	results [][]byte // what a stream gave, while it is encoded
	traced  []func(error)
	timed   []Timed // whose results are in it
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) add(message []byte) {
	b.buf = append(b.buf, message...)
	b.ends = append(b.ends, len(b.buf))
}

func (b *batch) result(prefix string, payload []byte) {
	b.buf = append(b.buf, prefix...)
	b.buf = append(b.buf, payload...)
	b.buf = append(b.buf, '}')
	b.ends = append(b.ends, len(b.buf))
}

func (b *batch) messages() [][]byte {
	from := 0
	for _, to := range b.ends {
		b.slices = append(b.slices, b.buf[from:to])
		from = to
	}
	return b.slices
}

var errNotWritten = errors.New("not written")

// told tells those who want to know it that what they gave was written.
func (b *batch) told(err error) {
	for i, written := range b.traced {
		written(err)
		b.traced[i] = nil
	}
	b.traced = b.traced[:0]
}

func (b *batch) empty() {
	b.buf, b.ends, b.slices = b.buf[:0], b.ends[:0], b.slices[:0]
	clear(b.timed) // they are the service's
	b.timed = b.timed[:0]
}

func (b *batch) release() {
	b.told(errNotWritten)
	b.empty()
	clear(b.results[:cap(b.results)]) // they are the service's
	if cap(b.buf) <= keepBytes {
		clear(b.slices[:cap(b.slices)])
		batches.Put(b)
	}
}

// fifo is a queue of subscriptions, each in it at most once.
type fifo struct{ head, tail *subscription }

func (q *fifo) push(s *subscription) {
	if q.head == nil {
		q.head = s
	} else {
		q.tail.next = s
	}
	q.tail = s
}

func (q *fifo) pop() *subscription {
	s := q.head
	if s != nil {
		q.head, s.next = s.next, nil
		if q.head == nil {
			q.tail = nil
		}
	}
	return s
}

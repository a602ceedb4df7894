package sse

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/ws"
)

const (
	// perTurn is how many results of one operation are taken before the next one's turn.
	perTurn = 16
	// batchBytes is about how much is gathered for one write.
	batchBytes = 32 << 10
)

// conn is one event stream and its operations. It is reserved, then open, then closed.
type conn struct {
	session ws.Session
	single  bool // a reserved connection for many operations; otherwise one whose only operation ends it
	max     int
	log     *slog.Logger
	changed chan struct{} // holds a value when something is ready

	exceeded func() // or nil

	ctx    context.Context // the service's; done when the connection is closed
	cancel context.CancelFunc
	over   context.Context // done when the session is over

	traced []func(error) // of who serves it: see ws.Traced

	mu       sync.Mutex
	state    state
	ops      map[string]*operation
	ready    []*operation
	timed    []ws.Timed // whose results are being written; the goroutine's that writes
	starting int        // operations that are being made, by other requests; the last of a closed connection closes the session
}

type state byte

const (
	reserved state = iota
	open
	closed
)

// operation is one that has not ended. It is guarded by the connection's lock.
type operation struct {
	id      string
	stream  ws.Stream // nil while it is being made
	queued  bool
	pulling bool // next is being called; who calls it closes the stream if stopped meanwhile
	stopped bool
}

// connect asks the service who the client is. ctx gives its values only: the connection ends by close.
func connect(ctx context.Context, svc ws.Service, init []byte, single bool, o *Options) (*conn, error) {
	c := &conn{
		single: single, max: o.MaxOperations, exceeded: o.Exceeded, log: o.Logger,
		changed: make(chan struct{}, 1), ops: map[string]*operation{},
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	session, err := svc.Connect(c.ctx, init)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.session = session
	c.over = context.Background()
	if e, ok := session.(ws.Ender); ok {
		c.over = e.Ended()
	}
	return c, nil
}

// The ways in which start refuses.
var (
	errDuplicate = errors.New("an operation with this ID runs already")
	errClosed    = errors.New("stream not found")
)

// start begins an operation. On a reserved connection an operation that cannot run is told so in the answer to its own
// request, on any other one that exceeds a limit: failed is what is wrong, and the operation has ended. ok is false if it was
// stopped before it had begun. The error is one of these, or a *limit.Exceeded.
func (c *conn) start(id string, request ws.Operation) (failed *ws.OperationError, ok bool, err error) {
	op := &operation{id: id, pulling: true}
	if err := c.add(op); err != nil {
		var over *limit.Exceeded
		if errors.As(err, &over) && c.exceeded != nil {
			c.exceeded()
		}
		return nil, false, err
	}
	stream := c.session.Subscribe(c.ctx, request, func() { c.wake(op) })
	stream, failed = c.peek(stream)

	c.mu.Lock()
	c.starting--
	op.pulling = false
	over := op.stopped || failed != nil
	if over {
		if !op.stopped {
			delete(c.ops, id)
		}
		op.stopped = true
	} else {
		op.stream = stream
		c.queue(op)
	}
	last := c.state == closed && c.starting == 0
	c.mu.Unlock()
	if over {
		stream.Close()
	}
	if last {
		c.session.Close()
	}
	return failed, !over, nil
}

func (c *conn) add(op *operation) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == closed:
		return errClosed
	case c.ops[op.id] != nil:
		return errDuplicate
	case len(c.ops) >= c.max:
		return ws.TooManySubscriptions(c.max)
	}
	c.ops[op.id] = op
	c.starting++
	return nil
}

// peeked is a stream that has been asked once.
type peeked struct {
	ws.Stream
	results [][]byte
	err     error
}

// peek finds out whether the operation fails at once, in a way that is not told by events.
func (c *conn) peek(s ws.Stream) (ws.Stream, *ws.OperationError) {
	results, err := s.Next(nil, perTurn)
	var failed *ws.OperationError
	if len(results) == 0 && errors.As(err, &failed) && (c.single || failed.Exceeded != nil) {
		return s, failed
	}
	return &peeked{s, results, err}, nil
}

// Taken implements ws.Traced.
func (p *peeked) Taken() func(error) {
	if s, ok := p.Stream.(ws.Traced); ok {
		return s.Taken()
	}
	return nil
}

// EventID implements Identified.
func (p *peeked) EventID(result []byte) string {
	if s, ok := p.Stream.(Identified); ok {
		return s.EventID(result)
	}
	return ""
}

// Written implements ws.Timed.
func (p *peeked) Written(at time.Time) {
	if s, ok := p.Stream.(ws.Timed); ok {
		s.Written(at)
	}
}

func (p *peeked) Next(dst [][]byte, limit int) ([][]byte, error) {
	n := min(limit, len(p.results))
	dst = append(dst, p.results[:n]...)
	if p.results = p.results[n:]; len(p.results) > 0 || n == limit {
		return dst, nil
	}
	if p.err != nil {
		return dst, p.err
	}
	return p.Stream.Next(dst, limit-n)
}

// stop ends an operation at the client's wish.
func (c *conn) stop(id string) {
	c.mu.Lock()
	op := c.ops[id]
	if op != nil {
		op.stopped = true
		delete(c.ops, id)
	}
	mine := op != nil && !op.pulling
	c.mu.Unlock()
	if mine {
		op.stream.Close()
	}
}

func (c *conn) wake(op *operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if op.stream != nil { // otherwise start queues it
		c.queue(op)
	}
}

// queue needs the lock.
func (c *conn) queue(op *operation) {
	if op.queued || op.stopped || c.state == closed {
		return
	}
	op.queued = true
	c.ready = append(c.ready, op)
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// next takes the operation whose turn it is.
func (c *conn) next() *operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.ready) > 0 {
		op := c.ready[0]
		c.ready = c.ready[1:]
		op.queued = false
		if !op.stopped && c.state != closed {
			op.pulling = true
			return op
		}
	}
	c.ready = nil
	return nil
}

// gather appends the events of what is ready, about a batch of it, and says whether the connection is over.
func (c *conn) gather(b []byte) (events []byte, over bool) {
	var results [][]byte
	for len(b) < batchBytes {
		op := c.next()
		if op == nil {
			break
		}
		var err error
		results, err = op.stream.Next(results[:0], perTurn)

		c.mu.Lock()
		op.pulling = false
		stopped := op.stopped
		switch {
		case stopped:
		case err != nil:
			op.stopped = true
			delete(c.ops, op.id)
		case len(results) >= perTurn:
			c.queue(op)
		}
		c.mu.Unlock()
		if stopped {
			op.stream.Close()
			continue
		}
		if traced, ok := op.stream.(ws.Traced); ok && len(results) > 0 {
			if written := traced.Taken(); written != nil {
				c.traced = append(c.traced, written)
			}
		}
		if t, ok := op.stream.(ws.Timed); ok && len(results) > 0 {
			c.timed = append(c.timed, t)
		}
		identified, _ := op.stream.(Identified)
		for _, r := range results {
			if identified != nil && !c.single {
				b = appendID(b, identified.EventID(r))
			}
			b = c.appendNext(b, op.id, r)
		}
		if err != nil {
			op.stream.Close()
			b = c.appendEnd(b, op.id, err)
			over = over || !c.single
		}
	}
	return b, over
}

// told tells those who want to know it that what they gave was written.
func (c *conn) told(err error) {
	for _, written := range c.traced {
		written(err)
	}
	c.traced = nil
}

// comesBack reports whether the client of a session that is over is to come back: then its operations must not end.
func (c *conn) comesBack() bool {
	var why *ws.CloseError
	return errors.As(context.Cause(c.over), &why) && why.Code == ws.CodeTryAgainLater
}

// appendOver appends the end of all operations of a session that is over. The last event's id stays: who comes back with a
// new right goes on behind it.
func (c *conn) appendOver(b []byte) []byte {
	why := &ws.CloseError{Reason: "Forbidden"}
	errors.As(context.Cause(c.over), &why)
	result := errorResult(codedError("FORBIDDEN", why.Reason))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.ops)) {
		b = c.appendComplete(c.appendNext(b, id, result), id)
	}
	return b
}

// appendEnd appends how an operation ends. Its errors are a last result: the protocol has no event for them.
func (c *conn) appendEnd(b []byte, id string, err error) []byte {
	var failed *ws.OperationError
	switch {
	case errors.Is(err, io.EOF):
	case errors.As(err, &failed):
		if !c.single {
			b = append(b, "id:\n"...) // who comes back begins anew: what ended this would end it again
		}
		b = c.appendNext(b, id, errorResult(failed.Errors))
	default:
		c.log.Error("subscription failed", "error", err)
		b = c.appendNext(b, id, errorResult(internalError))
	}
	return c.appendComplete(b, id)
}

// take makes a reserved connection an open one; only one event stream may.
func (c *conn) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != reserved {
		return false
	}
	c.state = open
	return true
}

// expire closes a connection that is still reserved.
func (c *conn) expire() bool { return c.end(reserved) }

// close ends all operations and the session. The event stream's goroutine calls it last.
func (c *conn) close() { c.end(open) }

// end closes the connection unless it is in a later state than this.
func (c *conn) end(latest state) bool {
	c.mu.Lock()
	if c.state > latest {
		c.mu.Unlock()
		return false
	}
	c.state = closed
	var left []*operation
	for _, op := range c.ops {
		op.stopped = true
		if !op.pulling {
			left = append(left, op)
		}
	}
	c.ops, c.ready = nil, nil
	last := c.starting == 0
	c.mu.Unlock()

	c.cancel()
	for _, op := range left {
		op.stream.Close()
	}
	if last {
		c.session.Close()
	}
	return true
}

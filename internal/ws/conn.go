package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"
)

// Serve speaks the socket's subprotocol until the connection ends, and closes the socket. It returns nil if the client
// closed the connection normally, and otherwise why it ended: a *CloseError if one side said so.
//
// When ctx is done the connection is closed without a complete for what is running, so that clients come back and go on:
// with the code of the *CloseError that is ctx's cause, otherwise as going away. This is how a server that goes down, or
// that ends one client, says so.
func Serve(ctx context.Context, s Socket, svc Service, o Options) error {
	c := newConn(ctx, s, svc, &o)
	if c == nil {
		e := closing(CodeSubprotocol, "Subprotocol not acceptable")
		s.Close(e.Code, e.Reason)
		return e
	}
	return c.run()
}

// conn drives one connection's machine. See the package's comment for who runs when.
type conn struct {
	socket     Socket
	pinger     Pinger // nil if the socket is none
	service    Service
	opts       Options
	background context.Context // ctx's values, never done: for the socket
	ctx        context.Context // done when the connection ends: for the service
	cancel     context.CancelFunc

	session Session // of the reading goroutine
	bucket  bucket  // of the reading goroutine

	mu      sync.Mutex
	machine machine
	control [][]byte // control messages that wait, bounded: reading stops meanwhile
	waiting int      // their bytes
	room    sync.Cond
	ready   fifo        // subscriptions that may have something
	writing bool        // a writer runs
	closing *CloseError // why we close; nothing but control messages is sent after it is set
	done    bool        // reading has ended; nothing is started any more
	watch   watch

	running sync.WaitGroup // the writer and the watchers
	unwatch []func() bool  // stop watching what ends the connection from outside
}

// maxWaiting is how many bytes of control messages may wait before reading stops.
const maxWaiting = 64 << 10

// newConn returns nil if there is no machine for the socket's subprotocol.
func newConn(ctx context.Context, s Socket, svc Service, o *Options) *conn {
	opts := o.withDefaults()
	m := newMachine(s.Subprotocol(), opts.MaxSubscriptions)
	if m == nil {
		return nil
	}
	// Neither the socket nor the service sees ctx's end by itself: it would break a frame, or end an operation, before
	// the client is told why.
	own := context.WithoutCancel(ctx)
	c := &conn{socket: s, service: svc, opts: opts, machine: m, background: own}
	c.ctx, c.cancel = context.WithCancel(own)
	c.room.L = &c.mu
	c.pinger, _ = s.(Pinger)
	c.bucket = newBucket(opts.MessagesPerSecond, opts.MessageBurst)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.startWatch()
	c.shutAfter(ctx, &CloseError{Code: CodeGoingAway, Reason: "Going away"})
	return c
}

// shutAfter closes the connection when ctx is done, as its cause says, or else as e does. It needs the lock.
func (c *conn) shutAfter(ctx context.Context, e *CloseError) {
	c.running.Add(1)
	c.unwatch = append(c.unwatch, context.AfterFunc(ctx, func() {
		defer c.running.Done()
		errors.As(context.Cause(ctx), &e)
		c.shut(e)
	}))
}

// run waits in Read for nearly all of a connection's life. What it keeps on the stack meanwhile, with all that calls it,
// decides whether the runtime can keep the stack small: the frames here are thin, and messages are handled below them.
func (c *conn) run() error {
	for {
		text, err := c.socket.Read(c.background)
		if err != nil {
			return c.finish(err)
		}
		c.guard(func() { c.handle(text) })
	}
}

// handle is what the reading goroutine does with a message.
func (c *conn) handle(text []byte) {
	c.mu.Lock()
	c.watch.heard++ // now: whoever has to wait for his turn is not silent
	c.mu.Unlock()
	if c.bucket.wait(c.ctx); c.ctx.Err() != nil {
		return // closing: what still comes is read only to see the close frame
	}
	var s step
	var over Stream
	_ = c.opts.Budget.Do(c.ctx, func() { // else it is closing, and nothing is to be done
		m := c.machine.parse(text)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closing == nil {
			s = c.machine.receive(m)
		}
		over = c.stopped(s)
		c.send(s.send)
	})
	if over != nil {
		over.Close()
	}
	if s.exceeded != nil && c.opts.Exceeded != nil {
		c.opts.Exceeded()
	}
	c.do(s)

	c.mu.Lock()
	for c.waiting > maxWaiting && c.closing == nil {
		c.room.Wait()
	}
	c.mu.Unlock()
}

// do carries out what a step asks for, in the reading goroutine.
func (c *conn) do(s step) {
	switch s.do {
	case connect:
		c.connect(s.payload)
	case refresh:
		c.refresh(s.payload)
	case start:
		c.start(s.sub, s.op)
	case shut:
		c.shut(s.close)
	}
}

func (c *conn) connect(init []byte) {
	session, err := c.service.Connect(c.ctx, init)
	refusal := c.refusal(err)
	if err == nil {
		c.session = session
	}
	c.mu.Lock()
	if e, ok := session.(Ender); ok && err == nil && e.Ended().Done() != nil {
		c.shutAfter(e.Ended(), &CloseError{Code: CodeForbidden, Reason: "Forbidden"})
	}
	s := c.machine.connected(refusal)
	c.send(s.send)
	c.mu.Unlock()
	c.do(s)
}

// refusal says how to tell the client the service's error; nil if there is none.
func (c *conn) refusal(err error) *CloseError {
	refusal := closeFor(err)
	if err != nil && refusal == nil {
		c.opts.Logger.Debug("websocket client refused", "error", err)
		refusal = closing(CodeForbidden, "Forbidden")
	}
	return refusal
}

// refresh offers the payload of a ping to the session.
func (c *conn) refresh(payload []byte) {
	if r, ok := c.session.(Refresher); ok {
		asked, err := r.Refresh(c.ctx, payload)
		if refusal := c.refusal(err); refusal != nil {
			c.shut(refusal)
			return
		}
		if asked {
			payload = nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(pongMessage(payload))
}

func (c *conn) start(s *subscription, op Operation) {
	stream := c.session.Subscribe(c.ctx, op, func() { c.wake(s) })
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stream = stream
	c.queue(s)
}

// stopped ends the operation that a step stops, in the same breath in which the machine forgot it, and gives its stream to
// be closed; nil if the writer is at it, which then does that. It needs the lock.
func (c *conn) stopped(s step) Stream {
	over := s.over
	if s.do == stop {
		over = s.sub
	}
	if over == nil {
		return nil
	}
	over.stopped = true
	if over.pulling {
		return nil
	}
	return over.stream
}

// wake is the service's: s may have something.
func (c *conn) wake(s *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.stream != nil { // otherwise start queues it
		c.queue(s)
	}
}

// queue needs the lock.
func (c *conn) queue(s *subscription) {
	if s.queued || s.stopped || c.closing != nil || c.done {
		return
	}
	s.queued = true
	c.ready.push(s)
	c.startWriter()
}

// send needs the lock.
func (c *conn) send(control []byte) {
	if control == nil || c.done {
		return
	}
	c.control = append(c.control, control)
	c.waiting += len(control)
	c.startWriter()
}

// shut lets the writer close the socket once what waits of control messages is written.
func (c *conn) shut(e *CloseError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shutLocked(e)
}

func (c *conn) shutLocked(e *CloseError) {
	if c.closing == nil {
		c.closing = e
		c.room.Broadcast()
		c.cancel()
		c.startWriter()
	}
}

// finish ends everything, after the last read.
func (c *conn) finish(err error) error {
	c.mu.Lock()
	c.done = true
	why := c.closing
	for _, unwatch := range c.unwatch {
		if unwatch() {
			c.running.Done()
		}
	}
	c.stopWatch()
	c.mu.Unlock()

	// The peer has closed or is gone, or the writer has closed or is about to: this is for what the library holds.
	if why == nil {
		c.socket.Close(CodeNormal, "")
	} else {
		c.socket.Close(why.Code, why.Reason)
	}
	c.cancel()
	c.running.Wait()

	c.machine.each(func(s *subscription) {
		if s.stream != nil {
			s.stream.Close()
		}
	})
	if c.session != nil {
		c.session.Close()
	}

	var peer *CloseError
	switch {
	case why != nil:
		return why
	case errors.As(err, &peer) && (peer.Code == CodeNormal || peer.Code == CodeGoingAway):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the client's connection ended without a close frame: %w", err)
	}
	return err
}

// guard turns a panic of the service into the end of this one connection.
func (c *conn) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.opts.Logger.Error("panic while serving a websocket", "panic", p, "stack", string(debug.Stack()))
			e := closing(CodeInternal, "Internal server error")
			c.shut(e)
			c.socket.Close(e.Code, e.Reason)
		}
	}()
	f()
}

// bucket lets a number of messages by at once, and then as many a second as it is told. One goroutine uses it.
type bucket struct {
	rate, size, tokens float64
	last               time.Time
}

func newBucket(rate, size int) bucket {
	return bucket{rate: float64(rate), size: float64(size), tokens: float64(size)}
}

// wait takes one token, and waits until it is due or ctx is done.
func (b *bucket) wait(ctx context.Context) {
	if b.rate < 0 {
		return
	}
	now := time.Now()
	if !b.last.IsZero() {
		b.tokens = min(b.size, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	}
	b.last = now
	b.tokens--
	if b.tokens >= 0 {
		return
	}
	t := time.NewTimer(time.Duration(-b.tokens / b.rate * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

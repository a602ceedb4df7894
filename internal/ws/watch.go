package ws

import (
	"cmp"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// watch is one timer for all that a connection must do in time: connection_init, pings and their pongs, writes. But for
// the two atomics it is guarded by the connection's lock.
type watch struct {
	timer *time.Timer
	phase phase

	heard    uint64    // messages received
	before   uint64    // what was heard when the ping was asked for
	pingDue  bool      // the writer is to send a ping
	pingSent time.Time // zero until it has

	answerable bool // a client that is alive answers it

	idleSince time.Time // zero while there are subscriptions

	writeDue atomic.Int64 // when the write that is running must be done, in nanoseconds since epoch; 0 if none is
}

type phase byte

const (
	waitingInit phase = iota
	resting           // a ping comes next
	waitingPong
)

func (w *watch) writeStarts(allowed time.Duration) {
	w.writeDue.Store(time.Now().Add(allowed).UnixNano())
}

func (w *watch) writeEnds() { w.writeDue.Store(0) }

// startWatch needs the lock.
func (c *conn) startWatch() {
	d := c.opts.InitTimeout
	if d < 0 {
		c.watch.phase, d = resting, c.rest()
	}
	c.running.Add(1)
	c.watch.timer = time.AfterFunc(d, c.tick)
}

// stopWatch needs the lock.
func (c *conn) stopWatch() {
	if c.watch.timer.Stop() {
		c.running.Done()
	}
}

// tick is called by the timer, one call at a time.
func (c *conn) tick() {
	defer c.running.Done()
	c.mu.Lock()
	if c.done {
		c.mu.Unlock()
		return
	}
	d, why := c.due(time.Now())
	if d > 0 {
		c.running.Add(1)
		c.watch.timer.Reset(d)
	}
	c.mu.Unlock()
	if why != nil {
		// The writer hangs in a write that only this ends.
		c.socket.Close(why.Code, why.Reason)
	}
}

// due does what is to be done now, and says when to look again. It needs the lock. It returns an error if the
// socket has to be closed whatever the writer does.
func (c *conn) due(now time.Time) (time.Duration, *CloseError) {
	w := &c.watch
	if due := w.writeDue.Load(); due != 0 && now.UnixNano() >= due && c.opts.WriteTimeout >= 0 {
		c.shutLocked(closing(CodeTimeout, "Too slow: messages could not be written in time"))
		return 0, c.closing
	}
	if c.closing != nil {
		return c.rest(), nil // the writer may hang before it closes
	}
	if c.idle(now) {
		c.shutLocked(closing(CodeTimeout, "No subscription for %v", c.opts.IdleTimeout))
		return c.rest(), nil
	}
	switch w.phase {
	case waitingInit:
		w.phase = resting
		if s := c.machine.initTimeout(); s.do == shut {
			c.send(s.send)
			c.shutLocked(s.close)
		}
		return c.rest(), nil
	case resting:
		if c.opts.KeepAlive < 0 {
			return c.rest(), nil
		}
		w.phase, w.before, w.pingDue, w.pingSent = waitingPong, c.everHeard(), true, time.Time{}
		c.startWriter()
		return c.opts.PongTimeout, nil
	}
	return c.pongDue(now), nil
}

// idle reports whether there has been no subscription for too long, as far as the timer has looked.
func (c *conn) idle(now time.Time) bool {
	w := &c.watch
	switch {
	case c.opts.IdleTimeout <= 0 || w.phase == waitingInit:
		return false
	case c.machine.active() > 0:
		w.idleSince = time.Time{}
		return false
	case w.idleSince.IsZero():
		w.idleSince = now
	}
	return now.Sub(w.idleSince) >= c.opts.IdleTimeout
}

func (c *conn) pongDue(now time.Time) time.Duration {
	w := &c.watch
	switch {
	case c.everHeard() != w.before:
		w.phase = resting
		return c.untilPing()
	case w.pingSent.IsZero():
		return c.opts.PongTimeout // it waits behind a write, which has a limit of its own
	case now.Sub(w.pingSent) < c.opts.PongTimeout:
		return c.opts.PongTimeout - now.Sub(w.pingSent)
	case !w.answerable:
		w.phase = resting
		return c.untilPing()
	}
	c.shutLocked(closing(CodeTimeout, "No pong within %v", c.opts.PongTimeout))
	return c.rest()
}

// untilPing is what is left of an interval after a pong was waited for.
func (c *conn) untilPing() time.Duration {
	return max(c.rest()-c.opts.PongTimeout, time.Millisecond)
}

// rest is the time until the next ping, or until the next look at the writes if there is none: spread a little, so that
// connections that were opened together are not all pinged together for ever.
func (c *conn) rest() time.Duration {
	if c.opts.KeepAlive < 0 {
		return cmp.Or(max(c.opts.WriteTimeout, 0), time.Hour)
	}
	return c.opts.KeepAlive - time.Duration(rand.Int64N(int64(c.opts.KeepAlive)/8+1))
}

func (c *conn) everHeard() uint64 {
	if c.pinger != nil {
		return c.pinger.Heard()
	}
	return c.watch.heard
}

// ping is the writer's part: it sends the ping, and whatever waits before it.
func (c *conn) ping(b *batch) error {
	c.mu.Lock()
	alive, message := c.machine.keepAlive(), c.machine.ping()
	c.mu.Unlock()
	if alive != nil {
		b.add(alive)
	}
	if c.pinger == nil && message != nil {
		b.add(message)
	}
	if err := c.flush(b); err != nil {
		return err
	}
	if c.pinger != nil {
		c.watch.writeStarts(c.opts.WriteTimeout)
		err := c.pinger.Ping(c.background)
		c.watch.writeEnds()
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.watch.pingSent = time.Now()
	c.watch.answerable = c.pinger != nil || message != nil
	c.mu.Unlock()
	return nil
}

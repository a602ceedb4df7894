package ws

import (
	"cmp"
	"log/slog"
	"time"
)

// Options are one connection's limits. A zero field means its default, a negative one no limit; KeepAlive negative
// means no pings. PongTimeout is always limited.
type Options struct {
	// InitTimeout is how long a client may take to send connection_init: 10 s.
	InitTimeout time.Duration
	// KeepAlive is the time between pings: 20 s. PongTimeout is how long after a ping was handed to the network the
	// client may stay silent: 15 s, and never longer than KeepAlive.
	KeepAlive, PongTimeout time.Duration
	// WriteTimeout is how long a batch of messages may take to be written, beside a second for each 8 KB of it: 20 s.
	// A client that is slower is taken for dead.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may be without a subscription: no limit. It is looked at with each ping, so the
	// connection may live one KeepAlive longer.
	IdleTimeout time.Duration
	// MaxSubscriptions is how many operations one connection may have at a time: 200.
	MaxSubscriptions int
	// Exceeded is called when an operation is refused for MaxSubscriptions. Nil: nobody is.
	Exceeded func()
	// MessagesPerSecond is how fast a client's messages are read after the first MessageBurst: 100 after 500. A client
	// that sends faster is not closed, but waits.
	MessagesPerSecond, MessageBurst int
	// Budget is the time for clients' messages, which connections share. Nil: it has no bound.
	Budget *Budget
	// Logger gets what would be lost otherwise: the service's internal errors. Nil: nothing is logged.
	Logger *slog.Logger
}

const (
	defaultInitTimeout       = 10 * time.Second
	defaultKeepAlive         = 20 * time.Second
	defaultPongTimeout       = 15 * time.Second
	defaultWriteTimeout      = 20 * time.Second
	defaultMaxSubscriptions  = 200
	defaultMessagesPerSecond = 100
	defaultMessageBurst      = 500
)

func (o Options) withDefaults() Options {
	o.InitTimeout = cmp.Or(o.InitTimeout, defaultInitTimeout)
	o.KeepAlive = cmp.Or(o.KeepAlive, defaultKeepAlive)
	o.PongTimeout = cmp.Or(o.PongTimeout, defaultPongTimeout)
	if o.PongTimeout < 0 {
		o.PongTimeout = defaultPongTimeout
	}
	if o.KeepAlive > 0 {
		o.PongTimeout = min(o.PongTimeout, o.KeepAlive)
	}
	o.WriteTimeout = cmp.Or(o.WriteTimeout, defaultWriteTimeout)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, defaultMaxSubscriptions)
	if o.MaxSubscriptions < 0 {
		o.MaxSubscriptions = int(^uint(0) >> 1)
	}
	o.MessagesPerSecond = cmp.Or(o.MessagesPerSecond, defaultMessagesPerSecond)
	o.MessageBurst = max(cmp.Or(o.MessageBurst, defaultMessageBurst), 1)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

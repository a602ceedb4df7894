package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// connection is one connection to NATS, and never another.
type connection struct {
	*natsgo.Conn
	js jetstream.JetStream
}

// because adds what the server has said beside: a right that is missing is no answer to what was asked.
func (c *connection) because(err error) error {
	if last := c.LastError(); errors.Is(last, natsgo.ErrPermissionViolation) {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}

// dial connects. more are options for this connection.
func (s *Stream) dial(ctx context.Context, more ...natsgo.Option) (*connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dialer := &dialer{ctx: ctx}
	options := []natsgo.Option{
		natsgo.Name("notifyql"), natsgo.Timeout(silence), natsgo.SetCustomDialer(dialer), natsgo.SkipHostLookup(),
		natsgo.PingInterval(pings), natsgo.MaxPingsOutstanding(2),
		natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {}), // they are returned, not printed
	}
	options = append(options, s.options.Connect...)
	options = append(options, natsgo.NoReconnect())
	options = append(options, more...)
	// The client looks at no context while it connects.
	stop := context.AfterFunc(ctx, dialer.sever)
	nc, err := natsgo.Connect(s.options.URL, options...)
	if !stop() && err == nil {
		nc.Close()
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("nats: connecting: %w", plain(err))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("nats: %w", err)
	}
	return &connection{Conn: nc, js: js}, nil
}

// dialer connects until its context ends, and can end what it has connected.
type dialer struct {
	ctx context.Context

	mu   sync.Mutex
	conn net.Conn
}

// Dial is what the client calls.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: silence}).DialContext(d.ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = conn
	return conn, err
}

func (d *dialer) sever() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		d.conn.Close()
	}
}

// plain leaves out of a network's error our own port, which is another at each try: what is wrong is said in the same words for
// as long as it is the same.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Source != nil && op.Addr != nil {
		return fmt.Errorf("%s %s: %w", op.Op, op.Addr, op.Err)
	}
	return err
}

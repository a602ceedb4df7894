package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// connection is one connection to Redis, and never another.
type connection struct {
	*goredis.Conn
	client *goredis.Client
	net    net.Conn
	lost   sync.Once
	closed sync.Once
}

var errLost = errors.New("redis: the connection is lost")

// dial connects. A client that dialled by itself would put a new connection in a lost one's place, and hide what was missed
// meanwhile; so it is given one, once.
func (s *Stream) dial(ctx context.Context) (*connection, error) {
	dialer := s.client.Dialer
	if dialer == nil {
		dialer = goredis.NewDialer(s.client)
	}
	network := s.client.Network
	if network == "" {
		network = "tcp"
	}
	dialling, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := dialer(dialling, network, s.client.Addr)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	var given atomic.Bool
	options := *s.client
	options.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if given.Swap(true) {
			return nil, errLost
		}
		return conn, nil
	}
	client := goredis.NewClient(&options)
	return &connection{Conn: client.Conn(), client: client, net: conn}, nil
}

// sever ends what is under way, from any goroutine.
func (c *connection) sever() { c.lost.Do(func() { c.net.Close() }) }

// close ends it.
func (c *connection) close() {
	c.sever()
	c.closed.Do(func() {
		_ = c.Conn.Close() // there is nothing left that these could fail to do
		_ = c.client.Close()
	})
}

// do lets op talk to Redis until ctx ends. The client itself looks at a context's deadline only, not at its end.
func (c *connection) do(ctx context.Context, op func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.sever)
	err := op(ctx)
	stop()
	if err == nil {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the connection has the same deadline, and may be the first to notice
	}
	return cmp.Or(ctx.Err(), err)
}

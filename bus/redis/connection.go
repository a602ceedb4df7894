package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
)

// connection is one connection to Redis, and never another. One goroutine uses it at a time.
type connection struct {
	redis redis.Conn
	net   net.Conn
	lost  sync.Once
}

// dial connects.
func (s *Stream) dial(ctx context.Context) (*connection, error) {
	within, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := s.options.Dial(within, "tcp", s.server.address)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if s.server.tls {
		encrypted := tls.Client(conn, s.options.TLS)
		if err := encrypted.HandshakeContext(within); err != nil {
			conn.Close() //nolint:errcheck // nothing was sent
			return nil, fmt.Errorf("redis: %w", plain(err))
		}
		conn = encrypted
	}
	c := &connection{redis: redis.NewConn(conn, silence, silence), net: conn}
	if err := c.do(ctx, func() error { return s.greet(within, c) }); err != nil {
		c.close()
		return nil, fmt.Errorf("redis: %w", err)
	}
	return c, nil
}

// greet says who we are, and chooses the database.
func (s *Stream) greet(ctx context.Context, c *connection) error {
	user, password := s.server.user, s.server.password
	if s.options.Credentials != nil {
		var err error
		if user, password, err = s.options.Credentials(ctx); err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
	}
	if password != "" {
		args := []any{password}
		if user != "" {
			args = []any{user, password}
		}
		if _, err := c.redis.Do("AUTH", args...); err != nil {
			return err
		}
	}
	if s.server.database == "" {
		return nil
	}
	_, err := c.redis.Do("SELECT", s.server.database)
	return err
}

// sever ends what is under way, from any goroutine.
func (c *connection) sever() {
	c.lost.Do(func() { c.net.Close() }) //nolint:errcheck // nobody waits for what was sent
}

// close ends it.
func (c *connection) close() {
	c.sever()
	c.redis.Close() //nolint:errcheck // it is severed
}

// do lets op talk to Redis until ctx ends.
func (c *connection) do(ctx context.Context, op func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.sever)
	err := op()
	stop()
	if err == nil {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the connection may be the first to notice
	}
	return cmp.Or(ctx.Err(), plain(err))
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

// command is one of several that are sent together.
type command struct {
	name string
	args []any
}

// together sends commands at once, and returns their answers. Each of them must succeed.
func (c *connection) together(commands ...command) (answers []any, err error) {
	for _, command := range commands {
		if err := c.redis.Send(command.name, command.args...); err != nil {
			return nil, err
		}
	}
	if err := c.redis.Flush(); err != nil {
		return nil, err
	}
	for range commands {
		answer, receiveErr := c.redis.Receive()
		err = cmp.Or(err, receiveErr)
		if c.redis.Err() != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	return answers, err
}

// group is a consumer group of the stream.
type group struct {
	name string
	last place // delivered to it
}

// groups reads the answer to XINFO GROUPS.
func groups(answer any) (list []group, err error) {
	all, err := redis.Values(answer, nil)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		about, err := pairs(one)
		if err != nil {
			return nil, err
		}
		g := group{name: textOf(about["name"])}
		if g.last, err = parsePlace(textOf(about["last-delivered-id"])); err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

var errAnswer = errors.New("redis: the answer has not the form that was expected")

// pairs reads an answer of names and values.
func pairs(answer any) (map[string]any, error) {
	values, err := redis.Values(answer, nil)
	if err != nil || len(values)%2 != 0 {
		return nil, cmp.Or(err, errAnswer)
	}
	about := make(map[string]any, len(values)/2)
	for i := 0; i < len(values); i += 2 {
		about[textOf(values[i])] = values[i+1]
	}
	return about, nil
}

// textOf is an answer's text; empty if it is none.
func textOf(answer any) string {
	text, _ := redis.String(answer, nil) // nothing else becomes one that is looked for
	return text
}

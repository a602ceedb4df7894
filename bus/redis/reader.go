package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/notifyql/notifyql/bus"
)

// groupPrefix is what the names of our consumer groups begin with.
const groupPrefix = "notifyql-"

// reader is a consumer group with one consumer.
type reader struct {
	*connection
	stream *Stream
	args   goredis.XReadGroupArgs
	last   place // the newest entry that was read
	err    error
}

// Open makes a consumer group at the stream's end.
func (s *Stream) Open(ctx context.Context) (bus.Reader, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	key := s.options.Stream
	r := &reader{connection: c, stream: s, args: goredis.XReadGroupArgs{
		Group: groupPrefix + rand.Text(), Consumer: "reader", Streams: []string{key, ">"},
		Count: readCount, Block: block, NoAck: true,
	}}
	if err := c.do(ctx, r.create); err != nil {
		c.close()
		return nil, fmt.Errorf("redis: opening %s: %w", key, err)
	}
	return r, nil
}

// create makes the group, and asks where it begins.
func (r *reader) create(ctx context.Context) error {
	key := r.args.Streams[0]
	var groups *goredis.XInfoGroupsCmd
	if _, err := r.Pipelined(ctx, func(p goredis.Pipeliner) error {
		p.XGroupCreateMkStream(ctx, key, r.args.Group, "$")
		groups = p.XInfoGroups(ctx, key)
		p.PExpire(ctx, key, expires)
		return nil
	}); err != nil {
		return err
	}
	for _, g := range groups.Val() {
		if g.Name == r.args.Group {
			var err error
			r.last, err = parsePlace(g.LastDeliveredID)
			return err
		}
	}
	return errors.New("the consumer group was removed at once")
}

// Read waits for records.
func (r *reader) Read(ctx context.Context) ([][]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	records, err := r.read(ctx)
	if err != nil {
		r.err = fmt.Errorf("redis: reading: %w", err)
		return nil, r.err
	}
	return records, nil
}

func (r *reader) read(ctx context.Context) (records [][]byte, err error) {
	for {
		var streams []goredis.XStream
		err := r.do(ctx, func(ctx context.Context) (err error) {
			// The client would wait ten seconds more than Redis.
			bounded, cancel := context.WithTimeout(ctx, block+silence)
			defer cancel()
			streams, err = r.XReadGroup(bounded, &r.args).Result()
			return err
		})
		switch {
		case errors.Is(err, goredis.Nil):
			continue // nothing came
		case isReply(err, "NOGROUP"), isReply(err, "UNBLOCKED"): // given up, or the stream is gone
			return nil, fmt.Errorf("%w: %v", bus.ErrGap, err)
		case err != nil:
			return nil, err
		}
		for _, stream := range streams {
			for _, m := range stream.Messages {
				e, err := parseEntry(m)
				if err != nil {
					return nil, err
				}
				if r.last.before(e.before) {
					return nil, bus.ErrGap
				}
				r.last = e.at
				records = append(records, []byte(e.record))
			}
		}
		if len(records) > 0 {
			return records, nil
		}
	}
}

// Close removes the group, if Redis can be reached: else whoever appends does in a while.
func (r *reader) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := r.connection
	if r.err != nil { // the connection is over, since Read was interrupted, or is broken
		c.close()
		var err error
		if c, err = r.stream.dial(ctx); err != nil {
			return
		}
	}
	defer c.close()
	_ = c.do(ctx, func(ctx context.Context) error {
		return c.XGroupDestroy(ctx, r.args.Streams[0], r.args.Group).Err()
	})
}

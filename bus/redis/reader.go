package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/notifyql/notifyql/bus"
)

// groupPrefix is what the names of our consumer groups begin with.
const groupPrefix = "notifyql-"

// reader is a consumer group with one consumer.
type reader struct {
	*connection
	stream *Stream
	key    string
	group  string
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
	r := &reader{connection: c, stream: s, key: key, group: groupPrefix + rand.Text()}
	if err := c.do(ctx, r.create); err != nil {
		c.close()
		return nil, fmt.Errorf("redis: opening %s: %w", key, err)
	}
	return r, nil
}

// create makes the group, and asks where it begins.
func (r *reader) create() error {
	answers, err := r.together(
		command{"XGROUP", []any{"CREATE", r.key, r.group, "$", "MKSTREAM"}},
		command{"XINFO", []any{"GROUPS", r.key}},
		command{"PEXPIRE", []any{r.key, expires.Milliseconds()}},
	)
	if err != nil {
		return err
	}
	all, err := groups(answers[1])
	for _, g := range all {
		if g.name == r.group {
			r.last = g.last
			return nil
		}
	}
	return cmp.Or(err, errors.New("the consumer group was removed at once"))
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
		var answer any
		err := r.do(ctx, func() (err error) {
			answer, err = redis.DoWithTimeout(r.redis, block+silence, "XREADGROUP", "GROUP", r.group, "reader",
				"COUNT", readCount, "BLOCK", block.Milliseconds(), "NOACK", "STREAMS", r.key, ">")
			return err
		})
		switch {
		case isReply(err, "NOGROUP"), isReply(err, "UNBLOCKED"): // given up, or the stream is gone
			return nil, fmt.Errorf("%w: %v", bus.ErrGap, err)
		case err != nil:
			return nil, err
		case answer == nil:
			continue // nothing came
		}
		entries, err := entriesOf(answer)
		if err != nil {
			return nil, err
		}
		for _, raw := range entries {
			e, err := parseEntry(raw)
			if err != nil {
				return nil, err
			}
			if r.last.before(e.before) {
				return nil, bus.ErrGap
			}
			r.last = e.at
			records = append(records, e.record)
		}
		if len(records) > 0 {
			return records, nil
		}
	}
}

// entriesOf are those of the one stream in an answer to XREADGROUP.
func entriesOf(answer any) ([]any, error) {
	streams, err := redis.Values(answer, nil)
	if err != nil || len(streams) != 1 {
		return nil, cmp.Or(err, errAnswer)
	}
	stream, err := redis.Values(streams[0], nil)
	if err != nil || len(stream) != 2 {
		return nil, cmp.Or(err, errAnswer)
	}
	return redis.Values(stream[1], nil)
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
	_ = c.do(ctx, func() error {
		_, err := c.redis.Do("XGROUP", "DESTROY", r.key, r.group)
		return err
	})
}

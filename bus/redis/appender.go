package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// appender is the connection over which records are appended, and what it knows of the stream. What is there is
// counted, so that Redis's memory is bounded whoever does not read.
type appender struct {
	*connection
	key    string
	keep   int64
	forget time.Duration

	last  place  // the newest entry
	sum   int64  // bytes of all records up to it
	start int64  // sum before the first entry that is there, at most
	marks []mark // of the appender's own entries, in their order
	cut   place  // what was before this was removed for want of room
	next  time.Time
	since int64 // bytes since the last round
}

// mark is one of the appender's entries by which the stream can be cut.
type mark struct {
	at     place
	before int64 // the sum before it
	when   time.Time
}

const (
	round = time.Second // at most, between two looks at how far the readers are
	// shares is into how many parts Keep is divided: so exactly is it known how much is there.
	shares = 16
)

// newAppender connects and looks what is there.
func (s *Stream) newAppender(ctx context.Context) (*appender, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	a := &appender{connection: c, key: s.options.Stream, keep: s.options.Keep, forget: s.options.Forget}
	if err := c.do(ctx, a.look); err != nil {
		c.close()
		return nil, fmt.Errorf("redis: %w", err)
	}
	return a, nil
}

// look finds the stream's end, and how many bytes are there.
func (a *appender) look() error {
	answer, err := a.redis.Do("XINFO", "STREAM", a.key)
	if isReply(err, "ERR no such key") {
		return nil
	}
	if err != nil {
		return err
	}
	about, err := pairs(answer)
	if err != nil {
		return err
	}
	if a.last, err = parsePlace(textOf(about["last-generated-id"])); err != nil {
		return err
	}
	if n, err := redis.Int64(about["length"], nil); err != nil || n == 0 {
		return err
	}
	first, err := parseEntry(about["first-entry"])
	if err != nil {
		return err
	}
	last, err := parseEntry(about["last-entry"])
	if err != nil {
		return err
	}
	a.sum, a.start = last.sum, first.sum-int64(len(first.record))
	if a.start > a.sum { // two have appended at once, each with its own count
		a.start = a.sum - a.keep
	}
	return nil
}

// append adds a record and, now and then, removes what nobody needs.
func (a *appender) append(ctx context.Context, record []byte) error {
	if err := a.do(ctx, func() error { return a.add(record) }); err != nil {
		return fmt.Errorf("redis: appending: %w", err)
	}
	return nil
}

func (a *appender) add(record []byte) error {
	size := int64(len(record))
	text, err := redis.String(a.redis.Do("XADD", a.key, "*", fieldBefore, beforeText(a.last, a.sum+size), fieldRecord, record))
	if err != nil {
		return err
	}
	at, err := parsePlace(text)
	if err != nil {
		return err
	}
	now := time.Now()
	if n := len(a.marks); n == 0 || a.sum-a.marks[n-1].before >= a.keep/shares || now.Sub(a.marks[n-1].when) >= round {
		a.marks = append(a.marks, mark{at: at, before: a.sum, when: now})
	}
	a.last = at
	a.sum += size
	a.since += size
	if a.since < a.keep/shares && now.Before(a.next) {
		return nil
	}
	a.since, a.next = 0, now.Add(round)
	return a.trim(now)
}

// trim removes what all readers have read, and what is more than is kept. Readers that have not read for long, of what
// is there to be read, are given up.
func (a *appender) trim(now time.Time) error {
	answer, err := a.redis.Do("XINFO", "GROUPS", a.key)
	if err != nil {
		return err
	}
	all, err := groups(answer)
	if err != nil {
		return err
	}
	var stale place // who has not read up to here is given up
	for _, m := range a.marks {
		if now.Sub(m.when) >= a.forget {
			stale = m.at
		}
	}
	cut := a.last
	var dead []string
	for _, g := range all {
		switch {
		case !strings.HasPrefix(g.name, groupPrefix): // somebody looks at the stream by hand
		case g.last.before(stale) || g.last.before(a.cut):
			dead = append(dead, g.name)
		case g.last.before(cut):
			cut = g.last
		}
	}
	bound := a.bound()
	if cut.before(bound) {
		cut = bound
	}
	commands := []command{{"XTRIM", []any{a.key, "MINID", cut.String()}}}
	for _, name := range dead {
		commands = append(commands, command{"XGROUP", []any{"DESTROY", a.key, name}})
	}
	commands = append(commands, command{"PEXPIRE", []any{a.key, expires.Milliseconds()}})
	if _, err := a.together(commands...); err != nil {
		return err
	}
	a.trimmed(cut)
	if a.cut.before(bound) { // who has not read up to here by the next time has missed something
		a.cut = bound
	}
	return nil
}

// bound is the place before which has to be removed so that no more is there than is kept.
func (a *appender) bound() place {
	if a.sum-a.start <= a.keep {
		return place{}
	}
	for _, m := range a.marks {
		if a.sum-m.before <= a.keep {
			return m.at
		}
	}
	return a.last
}

// trimmed notes that what was before cut is gone.
func (a *appender) trimmed(cut place) {
	gone := 0
	for gone < len(a.marks) && !cut.before(a.marks[gone].at) {
		gone++
	}
	if gone > 0 {
		a.start = max(a.start, a.marks[gone-1].before)
		// The newest that is too old to be cut by still says who is to be given up.
		a.marks = a.marks[:copy(a.marks, a.marks[gone-1:])]
	}
}

package redis

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/gomodule/redigo/redis"
)

// An entry has two fields: the record, and what tells a reader that something was removed before it. That is the place of
// the entry before, as far as the appender knows, and how many bytes of records the stream has got up to this one.
const (
	fieldRecord = "r"
	fieldBefore = "b"
)

// place is an entry's id. They grow.
type place struct{ ms, seq uint64 }

func (p place) String() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.seq, 10)
}

func (p place) before(other place) bool {
	return p.ms < other.ms || p.ms == other.ms && p.seq < other.seq
}

func parsePlace(text string) (p place, err error) {
	ms, seq, ok := strings.Cut(text, "-")
	if p.ms, err = strconv.ParseUint(ms, 10, 64); err == nil && ok {
		p.seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil || !ok {
		return place{}, fmt.Errorf("redis: %.40q is not an entry's id", text)
	}
	return p, nil
}

// entry is one of the stream's.
type entry struct {
	at     place
	before place // the one before, or an earlier one
	sum    int64 // bytes of all records up to and with this one
	record []byte
}

func beforeText(before place, sum int64) string {
	return before.String() + " " + strconv.FormatInt(sum, 10)
}

// parseEntry reads an entry as Redis answers it: its id, and a list of names and values.
func parseEntry(raw any) (e entry, err error) {
	parts, err := redis.Values(raw, nil)
	if err != nil || len(parts) != 2 {
		return e, cmp.Or(err, errAnswer)
	}
	id := textOf(parts[0])
	if e.at, err = parsePlace(id); err != nil {
		return e, err
	}
	fields, err := pairs(parts[1])
	if err != nil {
		return e, err
	}
	record, isRecord := fields[fieldRecord].([]byte)
	text, isBefore := fields[fieldBefore].([]byte)
	before, sum, _ := strings.Cut(string(text), " ")
	if e.sum, err = strconv.ParseInt(sum, 10, 64); err != nil || !isRecord || !isBefore {
		return e, fmt.Errorf("redis: the entry %s is not ours: does something else use the key?", id)
	}
	e.record = record
	e.before, err = parsePlace(before)
	return e, err
}

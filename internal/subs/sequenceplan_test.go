package subs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

var members = change.Topic{Watch: 8}

// rowSet is rows of orders or members: {"n": 7, "k": 2, "v": 1} or {"n": 7, "k": 2, "u": 1}.
type rowSet struct {
	topic change.Topic
	user  string   // of members
	keys  []string // of orders
	all   bool     // of orders, whatever the key
	batch bool
}

func (s *rowSet) Key() string            { return fmt.Sprintf("%+v", *s) }
func (s *rowSet) Topics() []change.Topic { return []change.Topic{s.topic} }
func (s *rowSet) Blocks() bool           { return false }
func (s *rowSet) Cursors() bool          { return true }
func (s *rowSet) Batches() bool          { return s.batch }

func value(r *change.Row, name string) string {
	v, _ := r.Get(name, 0)
	return string(v)
}

func (s *rowSet) has(r *change.Row) bool {
	switch {
	case r == nil:
		return false
	case s.topic == members:
		return value(r, "u") == s.user
	}
	return s.all || slices.Contains(s.keys, value(r, "k"))
}

func (s *rowSet) Match(m *Match) Effect {
	before, after := s.has(m.Old), s.has(m.New)
	switch {
	case m.Change.Op == change.Truncate:
		return Truncates
	case m.Change.Unserializable:
		return Failed
	case before && after:
		return Changes
	case after:
		return Enters
	case before:
		return Leaves
	}
	return None
}

func (s *rowSet) Query(*auth.Identity) *change.Query { return &change.Query{Watch: s.topic.Watch} }

func (s *rowSet) RowKey(r *change.Row) (string, bool) { return value(r, "n"), true }

// seen is a change as it is sent, or a batch of them.
type seen struct {
	Effect   Effect
	Old, New json.RawMessage `json:",omitempty"`
	Batch    bool
	Changes  []seen
	Complete bool
	Synced   bool
	Cursor   string
}

func (s seen) text() []byte {
	b, _ := json.Marshal(s)
	return b
}

func seenOf(m *Match, e Effect) seen {
	c := seen{Effect: e}
	if e != Enters && e != Gained && e != Stands {
		c.Old = m.Change.Old
	}
	if e != Leaves && e != Lost {
		c.New = m.Change.New
	}
	if m.Before != nil {
		c.Cursor = string(m.Before.AppendBehind(nil, m.Change))
	}
	return c
}

func (s *rowSet) Encode(_ context.Context, m *Match, e Effect) []byte { return seenOf(m, e).text() }

func (s *rowSet) EncodeSynced(at *change.Point) []byte {
	return seen{Synced: true, Cursor: string(at.AppendCursor(nil)), Batch: s.batch, Complete: true}.text()
}

func (s *rowSet) EncodeBatch(_ context.Context, ms []Matched, complete bool) []byte {
	b := seen{Batch: true, Complete: complete}
	for i := range ms {
		c := seenOf(&ms[i].Match, ms[i].Effect)
		b.Changes, b.Cursor = append(b.Changes, c), c.Cursor
	}
	return b.text()
}

// through is rows of orders that are visible through members.
type through struct {
	rowSet
	user string
}

func (p *through) Match(m *Match) Effect {
	if m.Change.XID != 0 {
		return None
	}
	return p.rowSet.Match(m)
}
func (p *through) Key() string  { return p.rowSet.Key() + p.user }
func (p *through) Members() Set { return &rowSet{topic: members, user: p.user} }

func (p *through) KeyOf(r *change.Row) (string, bool) { return value(r, "k"), value(r, "k") != "-1" }

func (p *through) Under(keys []string) (Set, error) {
	return &rowSet{topic: orders, keys: keys, batch: p.batch}, nil
}

func (p *through) Query(*auth.Identity) *change.Query {
	return &change.Query{Watch: orders.Watch, Among: &change.Among{Column: "k", Watch: members.Watch, Key: "k", Where: p.user}}
}

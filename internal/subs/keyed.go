package subs

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// Set is a plan for rows of one table that can be told apart, and asked for as they stand.
type Set interface {
	Batcher
	// Query asks for the rows of the set that belong to the tenants of an identity.
	Query(id *auth.Identity) *change.Query
	// RowKey is what tells a row of the set from all others, whatever else in it changes; false if that can't be told.
	RowKey(row *change.Row) (string, bool)
}

// Keyed is a plan for the rows of a table that have a key which is also in one of the user's rows of another table, the member table.
// What it means changes with those, so it is followed: see Follow. By itself it matches rows that stand only, as Query asks for them.
type Keyed interface {
	Set
	// Members is the user's rows of the member table. It is matched, and never encoded.
	Members() Set
	// KeyOf is the key in a row of the member table; empty where there is none, and false if it can't be told.
	KeyOf(row *change.Row) (string, bool)
	// Under is the plan for those of the rows that have one of these keys, whatever the member table has.
	Under(keys []string) (Set, error)
}

// memberChange is a change of the user's rows of the member table, and its place.
type memberChange struct {
	Before         string // the cursor of the place before its transaction
	XID            change.XID
	Seq            int64
	At             int64 // microseconds
	Effect         Effect
	OldRow, OldKey string
	NewRow, NewKey string
	Untold         bool // it can't be told what it does to the keys
}

// A frame of a plan that is followed is a zero byte and parts: what is sent, and what is for the Sequence.
const (
	partFrame  = 'f' // is sent
	partOpen   = 'o' // is sent, a batch that goes on
	partClose  = 'c' // is sent to who was sent a batch that goes on: it does not
	partSynced = 's' // the cursor of the place that the next part tells
	partMember = 'm' // a memberChange
)

func appendPart(b []byte, kind byte, part []byte) []byte {
	if b == nil {
		b = []byte{0}
	}
	b = binary.AppendUvarint(append(b, kind), uint64(len(part)))
	return append(b, part...)
}

// parts gives the parts of a frame.
func parts(frame []byte, yield func(kind byte, part []byte) bool) {
	for b := frame[1:]; len(b) > 0; {
		n, size := binary.Uvarint(b[1:])
		part := b[1+size:][:n:n]
		if !yield(b[0], part) {
			return
		}
		b = b[1+size+int(n):]
	}
}

// marked is a plan whose news of a place can be told from its other frames.
type marked struct {
	Set
	keyed Keyed // which it is of
}

func (p *marked) Key() string { return "followed\n" + p.Set.Key() }

// EncodeSynced implements Plan.
func (p *marked) EncodeSynced(at *change.Point) []byte {
	frame := p.Set.EncodeSynced(at)
	if frame == nil || at == nil {
		return frame
	}
	return appendPart(appendPart(nil, partSynced, at.AppendCursor(nil)), partFrame, frame)
}

// of is the plan that means what this one was made for.
func (p *marked) of() Plan { return p.keyed }

// Together implements Resolving.
func (p *marked) Together() int { return together(p.Set) }

// EncodeAll implements Resolving.
func (p *marked) EncodeAll(ctx context.Context, ms []Matched) [][]byte {
	return encodeAll(ctx, p.Set, ms)
}

// following is a plan for rows with constant keys that also listens to the member table: what happens there to the user's rows is in its
// frames, in its place.
type following struct {
	marked
	members Set
}

func (p *following) Key() string { return p.marked.Key() + "\n" + p.members.Key() }

// Topics implements Plan.
func (p *following) Topics() []change.Topic {
	topics := slices.Clone(p.Set.Topics())
	for _, t := range p.members.Topics() {
		if !slices.Contains(topics, t) {
			topics = append(topics, t)
		}
	}
	return topics
}

// Match implements Plan. One change can be of both tables, if they are the same.
func (p *following) Match(m *Match) Effect {
	if slices.Contains(p.Set.Topics(), m.Change.Topic) {
		if e := p.Set.Match(m); e != None {
			return e
		}
	}
	if p.member(m) != nil {
		return Moves
	}
	return None
}

// member is what a change does to the user's rows of the member table; nil: nothing.
func (p *following) member(m *Match) *memberChange {
	c := m.Change
	if !slices.Contains(p.members.Topics(), c.Topic) {
		return nil
	}
	e := p.members.Match(m)
	if e == None {
		return nil
	}
	mc := &memberChange{XID: c.XID, Seq: c.Seq, At: c.At.UnixMicro(), Effect: e}
	told := m.Before != nil
	row := func(row *change.Row, name, key *string) {
		var named, keyed bool
		*name, named = p.members.RowKey(row)
		*key, keyed = p.keyed.KeyOf(row)
		told = told && named && keyed
	}
	switch e {
	case Enters:
		row(m.New, &mc.NewRow, &mc.NewKey)
	case Leaves:
		row(m.Old, &mc.OldRow, &mc.OldKey)
	case Changes:
		row(m.Old, &mc.OldRow, &mc.OldKey)
		row(m.New, &mc.NewRow, &mc.NewKey)
		if told && mc.OldRow == mc.NewRow && mc.OldKey == mc.NewKey {
			return nil
		}
	case Truncates:
	default:
		told = false
	}
	if mc.Untold = !told; told {
		mc.Before = string(m.Before.AppendCursor(nil))
	}
	return mc
}

func appendMember(b []byte, mc *memberChange) []byte {
	text, _ := json.Marshal(mc) // strings and numbers always encode
	return appendPart(b, partMember, text)
}

// Encode implements Plan.
func (p *following) Encode(ctx context.Context, m *Match, e Effect) []byte {
	return p.EncodeAll(ctx, []Matched{{*m, e}})[0]
}

// EncodeAll implements Resolving. What a change is to the rows is sent without a cursor if it may alter the keys as well: who had that
// cursor would not be sent what comes of it.
func (p *following) EncodeAll(ctx context.Context, ms []Matched) [][]byte {
	frames := make([][]byte, len(ms))
	members := make([]*memberChange, len(ms))
	var rows []Matched
	for i := range ms {
		members[i] = p.member(&ms[i].Match)
		if ms[i].Effect != Moves {
			own := ms[i]
			if members[i] != nil {
				own.Before = nil
			}
			rows = append(rows, own)
		}
	}
	sent := encodeAll(ctx, p.Set, rows)
	for i := range ms {
		if ms[i].Effect != Moves {
			frames[i], sent = sent[0], sent[1:]
		}
		if members[i] == nil {
			continue
		}
		var frame []byte
		if ms[i].Effect != Moves {
			frame = appendPart(nil, partFrame, frames[i])
		}
		frames[i] = appendMember(frame, members[i])
	}
	return frames
}

// EncodeBatch implements Batcher. What comes behind a change of the member table is in a batch of its own.
func (p *following) EncodeBatch(ctx context.Context, changes []Matched, complete bool) []byte {
	var frame []byte
	var rows []Matched
	flush := func(kind byte) {
		frame = appendPart(frame, kind, p.Set.EncodeBatch(ctx, rows, kind != partOpen))
		rows = nil
	}
	for i := range changes {
		c := &changes[i]
		mc := p.member(&c.Match)
		if c.Effect != Moves {
			rows = append(rows, *c)
		}
		if mc == nil {
			continue
		}
		if c.Effect != Moves {
			rows[len(rows)-1].Before = nil
		}
		if len(rows) > 0 {
			flush(partOpen)
		}
		frame = appendMember(frame, mc)
	}
	switch {
	case len(rows) > 0 && complete:
		flush(partFrame)
	case len(rows) > 0:
		flush(partOpen)
	case complete:
		flush(partClose)
	}
	return frame
}

// microseconds is a time as memberChange has it.
func microseconds(us int64) time.Time { return time.UnixMicro(us).UTC() }

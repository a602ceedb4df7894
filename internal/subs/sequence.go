package subs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// maxMembers bounds the rows of the member table that make a subscription's keys.
const maxMembers = 5000

// Sequence is a subscription that follows keys: readers, one behind the other, each with constant keys. One ends at the change of the user's
// rows of the member table behind which the keys are others; the next begins there, behind what the set gains and loses by it.
//
// Next is its consumer's, as that of a Reader, and all that has no lock. What must be read first is read in a goroutine of the hub's.
type Sequence struct {
	hub  *Hub
	plan Keyed
	id   *auth.Identity
	wake func()
	ctx  context.Context // ends with Close, or with the hub
	stop context.CancelFunc

	reader *Reader // nil: what is needed for the next one is being read
	keys   *keys   // nil: the reader gives the rows that stand
	greet  bool    // it is to be told when it has caught up
	open   bool    // of a batch, what was sent last goes on
	ready  [][]byte
	failed error // when ready is empty
	buf    [][]byte

	current atomic.Pointer[Reader] // for Progress

	mu    sync.Mutex
	next  *turn
	ended error

	oldest int64 // see Oldest
}

// turn is what a reader begins with.
type turn struct {
	at     change.Cursor
	keys   *keys
	frames [][]byte        // of the rows gained and lost
	encode func() [][]byte // makes them
	err    error
}

// Follow is Attach for a plan whose keys are in another table.
func (h *Hub) Follow(p Keyed, id *auth.Identity, start Start, wake func()) (*Sequence, error) {
	own := *id
	own.Tenants = slices.Clone(id.Tenants)
	s := &Sequence{hub: h, plan: p, id: &own, wake: wake, greet: start.After != nil}
	s.ctx, s.stop = context.WithCancel(h.ctx)
	h.mu.Lock()
	now := h.place.Load().at
	switch {
	case h.closed:
		h.mu.Unlock()
		return nil, ErrClosed
	case now == nil || h.o.History == nil:
		h.mu.Unlock()
		return nil, ErrNoHistory
	}
	h.sequences[s] = struct{}{}
	h.mu.Unlock()
	switch {
	case start.Rows != nil:
		if err := s.attach(&marked{p, p}, start); err != nil {
			s.Close()
			return nil, err
		}
	case start.After != nil:
		s.begin(*start.After)
	default:
		s.begin(now.Cursor())
	}
	return s, nil
}

// Next is as that of a Reader. Beside its errors there is ErrUntold.
func (s *Sequence) Next(dst [][]byte, limit int) ([][]byte, error) {
	for end := len(dst) + limit; len(dst) < end; {
		if n := min(len(s.ready), end-len(dst)); n > 0 {
			dst = append(dst, s.ready[:n]...)
			clear(s.ready[:n])
			s.ready = s.ready[n:]
			continue
		}
		if s.failed != nil {
			return dst, s.failed
		}
		if s.reader == nil {
			if !s.turn() {
				return dst, nil
			}
			continue
		}
		ended := s.why() // before the reader is looked at
		want := end - len(dst)
		frames, err := s.reader.Next(s.buf[:0], want)
		if oldest := s.reader.Oldest(); s.oldest == 0 {
			s.oldest = oldest
		}
		turned := s.take(frames)
		clear(frames)
		s.buf = frames[:0]
		switch {
		case turned:
		case err != nil:
			s.failed = err
		case len(frames) < want && ended != nil: // the reader has no more, and may be of a group that was made since
			s.failed = ended
		case len(frames) < want && len(s.ready) == 0:
			return dst, nil
		}
	}
	return dst, nil
}

// Oldest is as that of a Reader.
func (s *Sequence) Oldest() int64 {
	oldest := s.oldest
	s.oldest = 0
	return oldest
}

// take takes what a reader gave, up to where it ends.
func (s *Sequence) take(frames [][]byte) (turned bool) {
	for _, frame := range frames {
		if len(frame) == 0 || frame[0] != 0 {
			s.ready, s.open = append(s.ready, frame), false
			continue
		}
		var behind *change.Cursor // of the place that is told next
		parts(frame, func(kind byte, part []byte) bool {
			switch kind {
			case partSynced:
				at, err := change.ParseCursor(string(part))
				if err != nil {
					s.failed = err
					return false
				}
				behind, s.greet = &at, false
			case partFrame, partOpen:
				s.ready, s.open = append(s.ready, part), kind == partOpen
			case partClose:
				if s.open {
					s.ready, s.open = append(s.ready, part), false
				}
			case partMember:
				turned = s.member(part)
			}
			return !turned && s.failed == nil
		})
		if behind != nil && s.keys == nil { // these were the rows that stand
			s.leave()
			s.begin(*behind)
			turned = true
		}
		if turned || s.failed != nil {
			return true
		}
	}
	return false
}

// member applies a change of the user's rows of the member table. If the keys are others behind it, the reader ends there.
func (s *Sequence) member(text []byte) (turned bool) {
	var mc memberChange
	if s.failed = json.Unmarshal(text, &mc); s.failed != nil {
		return false
	}
	gained, lost, err := s.keys.apply(&mc)
	if err != nil {
		s.failed = err
		return false
	}
	if len(gained) == 0 && len(lost) == 0 {
		return false
	}
	s.leave()
	s.move(&mc, gained, lost)
	return true
}

// keys are the user's rows of the member table.
type keys struct {
	of   map[string]string // the key of a row; an empty one is none
	rows map[string]int    // how many rows have a key
}

func newKeys() *keys { return &keys{map[string]string{}, map[string]int{}} }

func (k *keys) add(row, key string) error {
	if _, there := k.of[row]; there {
		return untold("one of the user's rows is there already")
	}
	if k.of[row] = key; len(k.of) > maxMembers {
		return fmt.Errorf("%w: the user has more than %d rows that say what may be seen", change.ErrUnreadable, maxMembers)
	}
	if key != "" {
		k.rows[key]++
	}
	return nil
}

func (k *keys) remove(row, key string) error {
	if was, there := k.of[row]; !there || was != key {
		return untold("one of the user's rows is not what it was known to be")
	}
	delete(k.of, row)
	if k.rows[key]--; k.rows[key] <= 0 {
		delete(k.rows, key)
	}
	return nil
}

// all are the keys, in order.
func (k *keys) all() []string { return slices.Sorted(maps.Keys(k.rows)) }

// apply gives the keys that a change brings and takes.
func (k *keys) apply(mc *memberChange) (gained, lost []string, err error) {
	switch {
	case mc.Untold:
		return nil, nil, untold("a change of the user's rows can't be read")
	case mc.Effect == Truncates:
		lost = k.all()
		*k = *newKeys()
		return nil, lost, nil
	}
	had := k.rows[mc.NewKey] > 0
	if mc.Effect != Enters {
		if err := k.remove(mc.OldRow, mc.OldKey); err != nil {
			return nil, nil, err
		}
	}
	if mc.Effect != Leaves {
		if err := k.add(mc.NewRow, mc.NewKey); err != nil {
			return nil, nil, err
		}
		if !had && mc.NewKey != "" {
			gained = []string{mc.NewKey}
		}
	}
	if mc.Effect != Enters && mc.OldKey != "" && k.rows[mc.OldKey] == 0 {
		lost = []string{mc.OldKey}
	}
	return gained, lost, nil
}

// attach begins a reader.
func (s *Sequence) attach(p Plan, start Start) (err error) {
	if s.reader, err = s.hub.Attach(p, s.id, start, s.wake); err == nil {
		s.current.Store(s.reader)
	}
	return err
}

// leave ends the present reader.
func (s *Sequence) leave() {
	if s.reader != nil {
		s.current.Store(nil)
		s.reader.Close()
		s.reader = nil
	}
}

// Progress is as that of a Reader.
func (s *Sequence) Progress() Progress {
	if r := s.current.Load(); r != nil {
		return r.Progress()
	}
	return Progress{CatchingUp: true, Shared: 1}
}

// turn begins the next reader, if what it needs is there.
func (s *Sequence) turn() bool {
	s.mu.Lock()
	t, ended := s.next, s.ended
	s.next = nil
	s.mu.Unlock()
	switch {
	case ended != nil:
		s.failed = ended
		return true
	case t == nil && s.ctx.Err() != nil:
		s.failed = ErrClosed
		return true
	case t == nil:
		return false
	case t.err != nil:
		s.failed = t.err
		return true
	}
	set, err := s.plan.Under(t.keys.all())
	if err == nil {
		p := &following{marked{set, s.plan}, s.plan.Members()}
		err = s.attach(p, Start{After: &t.at})
	}
	if err != nil {
		s.failed = err
		return true
	}
	s.keys, s.ready = t.keys, t.frames
	if len(t.frames) > 0 && s.plan.Batches() {
		s.open = true
	}
	s.reader.greet, s.reader.part = s.greet, s.open
	return true
}

// end ends the subscription with err when what it has got is given.
func (s *Sequence) end(err error) {
	s.mu.Lock()
	if s.ended == nil {
		s.ended = err
	}
	s.mu.Unlock()
	s.wake()
}

func (s *Sequence) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Close ends the subscription. It is not to be called beside Next; a second call does nothing.
func (s *Sequence) Close() {
	s.failed, s.ready = ErrClosed, nil
	s.stop()
	s.leave()
	s.hub.mu.Lock()
	delete(s.hub.sequences, s)
	s.hub.mu.Unlock()
}

package pg

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// shelf keeps what was made of the log most recently, for all who want the same. What is kept is never changed once it is made.
type shelf[K comparable, V any] struct {
	most int            // things kept
	room int64          // for all of them, but for the newest
	size func(*V) int64 // of one, in the same unit

	mu     sync.Mutex
	keys   []K // the newest last
	things []*thing[V]
}

// thing is one of them. Who comes while it is made waits for it.
type thing[V any] struct {
	turn chan struct{} // holds a token while it is made, and ever after
	made chan struct{} // closed when it is
	size atomic.Int64
	v    V
}

func newShelf[K comparable, V any](most int, room int64, size func(*V) int64) *shelf[K, V] {
	return &shelf[K, V]{most: most, room: room, size: size}
}

// get returns the thing of a key. Where it is not there, make makes it; after an error it is called again for whoever comes
// next, and goes on from what it has made so far.
func (s *shelf[K, V]) get(ctx context.Context, key K, make func(*V) error) (*V, error) {
	t := s.thing(key)
	select {
	case <-t.made:
		return &t.v, nil
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err := make(&t.v)
	t.size.Store(s.size(&t.v))
	if err != nil {
		<-t.turn
		return nil, err
	}
	close(t.made)
	return &t.v, nil
}

// put adds what was made already.
func (s *shelf[K, V]) put(key K, v V) {
	t := s.thing(key)
	select {
	case t.turn <- struct{}{}:
		t.v = v
		t.size.Store(s.size(&t.v))
		close(t.made)
	default: // it is there, or is being made
	}
}

// find returns the newest thing that is there and wanted.
func (s *shelf[K, V]) find(wanted func(K, *V) bool) (*V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.keys) - 1; i >= 0; i-- {
		select {
		case <-s.things[i].made:
			if v := &s.things[i].v; wanted(s.keys[i], v) {
				return v, true
			}
		default:
		}
	}
	return nil, false
}

// look returns the thing of a key if it is there.
func (s *shelf[K, V]) look(key K) (*V, bool) {
	return s.find(func(k K, _ *V) bool { return k == key })
}

// thing is the place of a key, the same for all who ask for it while it is kept.
func (s *shelf[K, V]) thing(key K) *thing[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.keys, key); i >= 0 {
		t := s.things[i]
		s.keys = append(slices.Delete(s.keys, i, i+1), key)
		s.things = append(slices.Delete(s.things, i, i+1), t)
		return t
	}
	used := int64(0)
	for _, t := range s.things {
		used += t.size.Load()
	}
	for len(s.things) > 0 && (len(s.things) >= s.most || used > s.room) {
		used -= s.things[0].size.Load()
		s.keys, s.things = slices.Delete(s.keys, 0, 1), slices.Delete(s.things, 0, 1)
	}
	t := &thing[V]{turn: make(chan struct{}, 1), made: make(chan struct{})}
	s.keys, s.things = append(s.keys, key), append(s.things, t)
	return t
}

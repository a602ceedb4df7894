package pg

import (
	"context"
	"slices"
	"sync"
)

// shelf keeps what was read from the log most recently, for all who want the same.
type shelf[K comparable, V any] struct {
	most int // things kept

	mu     sync.Mutex
	keys   []K // the newest last
	things []*thing[V]
}

// thing is one of them. Who comes while it is read waits for it; if that fails, he reads it himself.
type thing[V any] struct {
	turn chan struct{} // holds a token while it is read, and ever after
	read chan struct{} // closed when it is read
	v    V
}

func newShelf[K comparable, V any](most int) *shelf[K, V] { return &shelf[K, V]{most: most} }

// get returns the thing of a key, which read reads if it is not there.
func (s *shelf[K, V]) get(ctx context.Context, key K, read func() (V, error)) (V, error) {
	t := s.thing(key)
	select {
	case <-t.read:
		return t.v, nil
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
	v, err := read()
	if err != nil {
		<-t.turn
		return v, err
	}
	t.v = v
	close(t.read)
	return v, nil
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
	t := &thing[V]{turn: make(chan struct{}, 1), read: make(chan struct{})}
	if len(s.keys) == s.most {
		s.keys, s.things = slices.Delete(s.keys, 0, 1), slices.Delete(s.things, 0, 1)
	}
	s.keys, s.things = append(s.keys, key), append(s.things, t)
	return t
}

// put adds a thing that was read already.
func (s *shelf[K, V]) put(key K, v V) {
	t := s.thing(key)
	select {
	case t.turn <- struct{}{}:
		t.v = v
		close(t.read)
	default: // it is there, or is being read
	}
}

// find returns the newest thing that is there and wanted.
func (s *shelf[K, V]) find(wanted func(K, V) bool) (v V, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.keys) - 1; i >= 0; i-- {
		select {
		case <-s.things[i].read:
			if v := s.things[i].v; wanted(s.keys[i], v) {
				return v, true
			}
		default:
		}
	}
	return v, false
}

package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

// Rate bounds how fast each key comes: a bucket of Burst tokens that is filled at so many a second. In no span of time t do
// more than perSecond·t + burst of one key get through. Any number of goroutines may use it.
//
// A bucket is kept as the moment at which it is full again: one token moves it by every. One that is full needs no memory.
// Buckets are held in two generations: one that is used moves to the young, and when the time to fill an empty bucket has
// passed, the old ones, which are full by then, are dropped and the young grow old.
//
// Keys for which there is no room share one bucket, and whoever gets one of its own begins with what is in that.
type Rate struct {
	named
	every time.Duration // between two tokens
	fill  time.Duration // of an empty bucket
	keys  int           // at most, in both generations
	seed  maphash.Seed

	mu         sync.Mutex
	base       time.Time // times are counted from here
	turned     time.Duration
	young, old map[uint64]time.Duration // by a hash of the key, so that long keys cost no more
	strangers  time.Duration
}

// NewRate returns a Rate of this name that allows each key perSecond after burst at once, and holds at most so many keys. text
// tells a client what is too much; its %d is perSecond.
func NewRate(name string, perSecond, burst, keys int, text string) *Rate {
	perSecond, burst = min(perSecond, int(time.Second)), min(burst, 1<<31) // what can be counted
	every := (time.Second + time.Duration(perSecond) - 1) / time.Duration(perSecond)
	return &Rate{
		named: named{name: name, text: text, max: perSecond},
		every: every, fill: time.Duration(burst) * every, keys: keys, seed: maphash.MakeSeed(),
		young: map[uint64]time.Duration{}, old: map[uint64]time.Duration{},
	}
}

// Take takes a token of each key, or of none of them if one has none left; then it says so, and when there is one again.
func (r *Rate) Take(now time.Time, keys ...string) *Exceeded {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base.IsZero() {
		r.base = now
	}
	at := now.Sub(r.base)
	r.turn(at)
	var wait time.Duration
	for _, key := range keys {
		wait = max(wait, max(r.full(r.hash(key)), at)+r.every-r.fill-at)
	}
	if wait > 0 {
		return r.exceeded(wait)
	}
	for _, key := range keys {
		h := r.hash(key)
		r.put(h, max(r.full(h), at)+r.every)
	}
	return nil
}

// hash may be equal for two keys, once in a very long while: they share a bucket then.
func (r *Rate) hash(key string) uint64 { return maphash.String(r.seed, key) }

// turn drops the buckets that are full. It needs the lock.
func (r *Rate) turn(at time.Duration) {
	if at-r.turned < r.fill {
		return
	}
	r.turned, r.old, r.young = at, r.young, map[uint64]time.Duration{}
}

// full is when the key's bucket is full. It needs the lock.
func (r *Rate) full(key uint64) time.Duration {
	if t, ok := r.young[key]; ok {
		return t
	}
	if t, ok := r.old[key]; ok {
		return t
	}
	return r.strangers
}

// put needs the lock.
func (r *Rate) put(key uint64, full time.Duration) {
	_, known := r.young[key]
	if !known {
		_, known = r.old[key]
		delete(r.old, key)
	}
	if !known && len(r.young)+len(r.old) >= r.keys {
		r.strangers = full
		return
	}
	r.young[key] = full
}

// Keys is how many buckets there are.
func (r *Rate) Keys() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.young) + len(r.old)
}

package limit

import (
	"sync"
	"time"
)

// Count bounds how much each key has open. Any number of goroutines may use it.
type Count struct {
	named
	mu   sync.Mutex
	open map[string]int // keys with none are not in it
}

// again is when to come back to a Count: nobody knows when something is closed.
const again = 5 * time.Second

// NewCount returns a Count of this name that allows each key so many. text tells a client what is too much; its %d is max.
func NewCount(name string, max int, text string) *Count {
	return &Count{named: named{name: name, text: text, max: max}, open: map[string]int{}}
}

// Enter counts one more for each key, or for none of them if one has as many as it may; then it says so. The keys are
// different; without any there is nothing to count. Who may enter calls Leave with the same keys.
func (c *Count) Enter(keys ...string) *Exceeded {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if c.open[key] >= c.max {
			return c.exceeded(again)
		}
	}
	for _, key := range keys {
		c.open[key]++
	}
	return nil
}

// Leave takes back what Enter has counted.
func (c *Count) Leave(keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if c.open[key]--; c.open[key] <= 0 {
			delete(c.open, key)
		}
	}
}

// Keys is how many keys have something open.
func (c *Count) Keys() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

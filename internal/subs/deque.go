package subs

// deque is a queue that grows at its back and shrinks at its front. The zero value is empty.
type deque[T any] struct {
	items []T
	head  int // items before it are gone
}

func (d *deque[T]) len() int   { return len(d.items) - d.head }
func (d *deque[T]) at(i int) T { return d.items[d.head+i] }
func (d *deque[T]) push(v T)   { d.items = append(d.items, v) }
func (d *deque[T]) front() T   { return d.items[d.head] }

func (d *deque[T]) pop() {
	var zero T
	d.items[d.head] = zero
	d.head++
	switch {
	case d.head == len(d.items):
		d.items, d.head = d.items[:0], 0
	case d.head >= 32 && d.head*2 >= len(d.items): // moving half of it pays for itself
		n := copy(d.items, d.items[d.head:])
		clear(d.items[n:])
		d.items, d.head = d.items[:n], 0
	}
}

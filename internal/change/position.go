package change

import (
	"cmp"
	"slices"
)

// Position is a place in what a node dispatches, from which cursors are made: a tick that the node's frontier covers, and the
// marks of what was dispatched beside it. Whoever writes the node's tail moves it along.
//
// The tick must be one whose row was visible in the snapshot of a sweep that is dispatched to its end, or in the snapshot that
// the node began from: of a tick that was only heard of, it is not known that all it sees has been dispatched.
type Position struct {
	era  Era
	tick Tick
	done []Mark // whole, not seen by the tick; by xid
	sum  uint64 // of done
	open Mark   // of what was dispatched last of the transaction being received; a zero XID: none
}

// NewPosition begins at a snapshot in which tick was visible; done are the marks of the logged transactions that the snapshot
// sees and the tick does not.
func NewPosition(era Era, tick Tick, done []Mark) *Position {
	p := &Position{era: era, tick: tick}
	for _, m := range done {
		p.add(m)
	}
	return p
}

func (p *Position) add(m Mark) {
	i, found := slices.BinarySearchFunc(p.done, m.XID, func(o Mark, x XID) int { return cmp.Compare(o.XID, x) })
	if !found && !p.tick.Snapshot.Sees(m.XID) {
		p.done = slices.Insert(p.done, i, m)
		p.sum += m.Sum()
	}
}

// Dispatched moves behind a transaction, or a part of one. m is the mark of its last change so far. Another one that was
// being received is complete then: nothing comes between the parts of one.
func (p *Position) Dispatched(m Mark, whole bool) {
	if p.open.XID != 0 && p.open.XID != m.XID {
		p.add(p.open)
	}
	p.open = Mark{}
	if whole {
		p.add(m)
	} else {
		p.open = m
	}
}

// Swept moves behind a sweep under snapshot s that is dispatched to its end: what s sees is complete. t is the newest tick
// whose row was visible in it, or nil.
func (p *Position) Swept(s Snapshot, t *Tick) {
	if p.open.XID != 0 && s.Sees(p.open.XID) {
		p.add(p.open)
		p.open = Mark{}
	}
	if t == nil || t.Stamp == p.tick.Stamp {
		return
	}
	p.tick, p.sum = *t, 0
	p.done = slices.DeleteFunc(p.done, func(m Mark) bool { return t.Snapshot.Sees(m.XID) })
	for _, m := range p.done {
		p.sum += m.Sum()
	}
}

// Len is how many transactions a cursor of this position lists.
func (p *Position) Len() int { return len(p.done) }

// Cursor is the place behind all that was dispatched.
func (p *Position) Cursor() Cursor {
	c := Cursor{Tick: p.tick.Stamp, Era: p.era, Sum: p.sum}
	if len(p.done) > 0 {
		c.Done = make([]XID, len(p.done))
		for i := range p.done {
			c.Done[i] = p.done[i].XID
		}
	}
	if p.open.XID != 0 {
		c.Part = Part{XID: p.open.XID, Seq: p.open.Seq, Sum: p.open.Sum()}
	}
	return c
}

// Before is the place before transaction x, or in it as far as it was dispatched, as it is known once more of x has come:
// another one that was being received is complete.
func (p *Position) Before(x XID) Cursor {
	c := p.Cursor()
	if p.open.XID != 0 && p.open.XID != x {
		c = c.Past(p.open)
	}
	return c
}

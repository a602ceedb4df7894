package change

// Position is a place in what a node dispatches, from which cursors are made: a tick that the node's frontier covers, and the
// marks of what was dispatched beside it. Whoever owns the frontier moves it along.
//
// The tick must be one whose row was visible in the snapshot of a sweep that is dispatched to its end, or in the snapshot that
// the node began from: of a tick that was only heard of, it is not known that all it sees has been dispatched.
type Position struct {
	era  Era
	tick Tick
	done []Mark           // whole, not seen by the tick, in the order in which they were dispatched; Points share it
	in   map[XID]struct{} // those
	open Mark             // of what was dispatched last of the transaction being received; a zero XID: none
}

// NewPosition begins at a snapshot in which tick was visible; done are the marks of the logged transactions that the snapshot
// sees and the tick does not.
func NewPosition(era Era, tick Tick, done []Mark) *Position {
	p := &Position{era: era, tick: tick, in: map[XID]struct{}{}}
	for _, m := range done {
		p.add(m)
	}
	return p
}

func (p *Position) add(m Mark) {
	if _, found := p.in[m.XID]; !found && !p.tick.Snapshot.Sees(m.XID) {
		p.in[m.XID] = struct{}{}
		p.done = append(p.done, m)
	}
}

// Dispatched moves behind a transaction, or a part of one. m is the mark of its last change so far. Another one that was
// being received is complete then: nothing comes between the parts of one. It returns the place before that: from it the
// cursors of the transaction's changes are made.
func (p *Position) Dispatched(m Mark, whole bool) (before *Point) {
	if p.open.XID != 0 && p.open.XID != m.XID {
		p.close()
	}
	before = p.Point()
	p.open = Mark{}
	if whole {
		p.add(m)
	} else {
		p.open = m
	}
	return before
}

func (p *Position) close() {
	if p.open.XID != 0 {
		p.add(p.open)
		p.open = Mark{}
	}
}

// Swept moves behind a sweep under snapshot s that is dispatched to its end: what s sees is complete. t is the newest tick
// whose row was visible in it, or nil.
func (p *Position) Swept(s Snapshot, t *Tick) {
	if s.Sees(p.open.XID) {
		p.close()
	}
	if t == nil || t.ID <= p.tick.ID {
		return
	}
	done := p.done
	p.tick, p.done, p.in = *t, nil, map[XID]struct{}{}
	for _, m := range done {
		p.add(m)
	}
}

// Skip moves behind all that snapshot s sees, whether it was dispatched or not: where some of it is gone. t is the newest tick
// visible in s, and done are the marks of the logged transactions that s sees and t does not.
func (p *Position) Skip(s Snapshot, t Tick, done []Mark) {
	was := *p
	*p = *NewPosition(was.era, t, done)
	for _, m := range was.done {
		if !s.Sees(m.XID) {
			p.add(m)
		}
	}
	if was.open.XID != 0 && !s.Sees(was.open.XID) {
		p.open = was.open
	}
}

// Enter says that the server has begun another life, and that what was dispatched is still there.
func (p *Position) Enter(era Era) { p.era = era }

// Era is the one that the position is in.
func (p *Position) Era() Era { return p.era }

// Tick is the newest tick that the position is behind.
func (p *Position) Tick() Stamp { return p.tick.Stamp }

// Newest is the same with its snapshot.
func (p *Position) Newest() Tick { return p.tick }

// Len is how many transactions a cursor of this position lists.
func (p *Position) Len() int { return len(p.done) }

// Point is the place behind all that was dispatched.
func (p *Position) Point() *Point {
	return &Point{era: p.era, tick: p.tick.Stamp, done: p.done[:len(p.done):len(p.done)], open: p.open}
}

// Frontier is what the position vouches for, whatever became of the server since: what the tick sees, and beside it what is
// still in the log as it was dispatched, by the mark.
func (p *Position) Frontier() Frontier {
	f := NewFrontier(p.tick.Snapshot)
	for _, m := range p.done {
		f.Add(m.XID)
	}
	if p.open.XID != 0 {
		f.Receive(p.open.XID, p.open.Seq)
	}
	return f
}

package change

import (
	"errors"
	"fmt"
	"slices"
)

// Cursor is a place in the history, in a client's hands: what was delivered is all that the tick's snapshot sees, the
// transactions in Done, of the one in Part what comes up to its place, and, with an Upper tick, of the transactions that
// Upper's snapshot sees those whose last seq is at most Last.
//
// It says what was delivered and nothing about what may be seen: that is decided anew by whoever holds it. The methods that
// move it return another cursor and leave this one as it is.
type Cursor struct {
	Tick Stamp
	Era  Era
	Done []XID  // logged, delivered whole, not seen by the tick; ascending
	Sum  uint64 // of the marks of Done
	Part Part   // the transaction delivered in part; a zero XID: none

	Upper Stamp // the tick up to which a catch-up reads just now; a zero ID: none
	Last  int64 // the last seq of the transaction that it delivered last
}

// Part is a place inside of a transaction, in its canonical order.
type Part struct {
	XID XID
	Seq int64  // of the change delivered last: what is left is what comes behind it in canonical order
	Sum uint64 // of that change's mark
}

// PartOf is the place behind c.
func PartOf(c *Change) Part { return Part{XID: c.XID, Seq: c.Seq, Sum: MarkOf(c).Sum()} }

// The reasons for which a cursor can't be resumed from.
var (
	ErrCursorInvalid = errors.New("the cursor is not one of this server's, or damaged")
	ErrCursorExpired = errors.New("what came after the cursor is gone: begin anew")
)

// In moves the cursor into a transaction, or further in it.
func (c Cursor) In(p Part) Cursor {
	c.Part = p
	return c
}

// Past moves the cursor behind a whole transaction, of which m is the mark.
func (c Cursor) Past(m Mark) Cursor {
	if c.Part.XID == m.XID {
		c.Part = Part{}
	}
	if c.Upper.ID != 0 {
		c.Last = max(c.Last, m.Seq)
		return c
	}
	if i, found := slices.BinarySearch(c.Done, m.XID); !found {
		c.Done = slices.Insert(slices.Clone(c.Done), i, m.XID)
		c.Sum += m.Sum()
	}
	return c
}

// Toward says that from here on the transactions that the later tick u sees are delivered, in the order of their last seq.
func (c Cursor) Toward(u Stamp) Cursor {
	c.Upper, c.Last = u, 0
	return c
}

// Beyond lists the transactions that are Done and that tick u does not see.
func (c *Cursor) Beyond(u *Tick) []XID {
	var xs []XID
	for _, x := range c.Done {
		if !u.Snapshot.Sees(x) {
			xs = append(xs, x)
		}
	}
	return xs
}

// At moves the cursor to the later tick u, all that it sees having been delivered. beyond are the marks of Beyond.
func (c Cursor) At(u *Tick, beyond []Mark) Cursor {
	c.Tick, c.Upper, c.Last = u.Stamp, Stamp{}, 0
	c.Done, c.Sum = nil, 0
	for _, m := range beyond {
		c = c.Past(m)
	}
	return c
}

// Frontier is what was delivered whole, but for what Upper adds. tick is the one that the cursor names.
func (c *Cursor) Frontier(tick *Tick) Frontier {
	f := NewFrontier(tick.Snapshot)
	for _, x := range c.Done {
		f.Add(x)
	}
	return f
}

// Delivered reports whether all of the transaction with mark m was delivered. tick and upper are those that the cursor
// names; upper is nil if there is none.
func (c *Cursor) Delivered(m Mark, tick, upper *Tick) bool {
	if tick.Snapshot.Sees(m.XID) {
		return true
	}
	if _, found := slices.BinarySearch(c.Done, m.XID); found {
		return true
	}
	return upper != nil && upper.Snapshot.Sees(m.XID) && m.Seq <= c.Last
}

// Standing is what the database says about the history, all of it read in one statement that began after the log was read,
// or before that for a first look.
type Standing struct {
	Era     Era
	Now     Snapshot
	Dropped XID // the greatest xid whose changes were ever dropped from the log
}

// Check says whether what comes after the cursor is still there. tick and upper are those that it names, as the database
// has them; nil if it has not. With recheck the server has lived another life since: what was delivered may have been lost
// in between, so the marks of Claims must be read from the log and given to Recheck.
func (c *Cursor) Check(tick, upper *Tick, s Standing) (recheck bool, err error) {
	switch {
	case tick == nil || upper == nil && c.Upper.ID != 0:
		return false, fmt.Errorf("%w: the log does not reach back so far", ErrCursorExpired)
	case tick.Stamp != c.Tick || upper != nil && upper.Stamp != c.Upper:
		return false, fmt.Errorf("%w: it is of another history", ErrCursorExpired)
	case tick.Snapshot.Xmax > s.Now.Xmax:
		return false, fmt.Errorf("%w: it is of the history of another server", ErrCursorExpired)
	case tick.behind(s.Dropped, s.Now, c.done):
		return false, fmt.Errorf("%w: the log does not reach back so far", ErrCursorExpired)
	}
	return c.Era != s.Era && (len(c.Done) > 0 || c.Part.XID != 0), nil
}

func (c *Cursor) done(x XID) bool {
	_, found := slices.BinarySearch(c.Done, x)
	return found
}

// Recheck compares what was delivered with what the log has: the marks of the transactions in Done, as many as there are, and
// that of the change of Part, nil if there is none.
func (c *Cursor) Recheck(done []Mark, part *Mark) error {
	var sum uint64
	for _, m := range done {
		sum += m.Sum()
	}
	partGone := c.Part.XID != 0 && (part == nil || part.Sum() != c.Part.Sum)
	if len(done) != len(c.Done) || sum != c.Sum || partGone {
		return fmt.Errorf("%w: the server has lost changes that were delivered", ErrCursorExpired)
	}
	return nil
}

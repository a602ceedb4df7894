package change

import (
	"slices"
	"sync/atomic"
)

// Point is a place in the history of which a cursor is made when somebody asks for one. It is immutable, and its text is
// written at most once, or nearly so.
type Point struct {
	era  Era
	tick Stamp
	done []Mark // in any order
	open Mark

	made atomic.Pointer[madeCursor]
}

type madeCursor struct {
	cursor Cursor
	base   CursorBase
}

// PointAt is the place that a cursor names.
func PointAt(c Cursor) *Point {
	p := &Point{era: c.Era, tick: c.Tick}
	p.made.Store(&madeCursor{cursor: c, base: c.Base()})
	return p
}

func (p *Point) make() *madeCursor {
	if m := p.made.Load(); m != nil {
		return m
	}
	c := Cursor{Tick: p.tick, Era: p.era}
	for _, m := range p.done {
		c.Done = append(c.Done, m.XID)
		c.Sum += m.Sum()
	}
	slices.Sort(c.Done)
	if p.open.XID != 0 {
		c.Part = Part{XID: p.open.XID, Seq: p.open.Seq, Sum: p.open.Sum()}
	}
	m := &madeCursor{cursor: c, base: c.Base()}
	p.made.Store(m)
	return m
}

// Cursor is the cursor of the place. What it refers to is shared and must not be changed.
func (p *Point) Cursor() Cursor { return p.make().cursor }

// AppendCursor appends the text of the place's cursor.
func (p *Point) AppendCursor(dst []byte) []byte {
	m := p.make()
	return m.base.Append(dst, &m.cursor)
}

// AppendBehind appends the text of the cursor just behind c, a change that follows the place in the history, with nothing
// but changes of the same transaction between.
func (p *Point) AppendBehind(dst []byte, c *Change) []byte {
	m := p.make()
	behind := m.cursor.In(PartOf(c))
	return m.base.Append(dst, &behind)
}

// Behind is the cursor that AppendBehind writes.
func (p *Point) Behind(c *Change) Cursor { return p.make().cursor.In(PartOf(c)) }

// Era is the one in which all before the place is known to be there.
func (p *Point) Era() Era { return p.era }

// Same reports whether two places are the same one.
func (p *Point) Same(o *Point) bool {
	return p == o || p != nil && o != nil && p.era == o.era && p.tick == o.tick && p.open == o.open && len(p.done) == len(o.done)
}

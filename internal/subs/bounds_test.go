package subs

import (
	"bytes"
	"context"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
)

// wide is a plan whose frames are much larger than the changes: its document shows a column many times.
type wide struct{ numbers }

func (p *wide) Key() string { return "wide " + p.numbers.Key() }

func (p *wide) Encode(context.Context, *Match, Effect) []byte {
	return bytes.Repeat([]byte("x"), 10_000)
}

// What a hostile document makes of small changes counts too.
func TestFramesCount(t *testing.T) {
	const limit = 100_000
	h := newHub(t, Options{TailBytes: limit})
	quick := attach(t, h, &wide{numbers{topic: orders}}, who("a"))
	attach(t, h, &wide{numbers{topic: orders}}, who("a")) // reads nothing, so that all of it is kept for it
	for n := range 100 {
		h.Dispatch(txn(insert(change.XID(n+1), "a", n)), nil)
	}
	quick.take(t, 100)
	if got := held(quick.g); got > limit {
		t.Errorf("%d bytes of frames are kept, with a limit of %d", got, limit)
	}
	if s := h.Stats(); s.TailBytes > limit || s.TailTxns == 0 {
		t.Errorf("stats %+v", s)
	}
}

// held is the bytes of the frames that a group keeps.
func held(g *group) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.entries.len() {
		n += len(g.entries.at(i).frame)
	}
	for _, p := range g.pages {
		for _, f := range p.frames {
			n += len(f)
		}
	}
	return n
}

// Many groups read the same large transaction: the pages that they keep are bounded all together.
func TestPagesCount(t *testing.T) {
	const limit = 100_000
	h := newHub(t, Options{TailBytes: limit, PageRows: 4, History: large(40)})
	var cs []*client
	for low := range 20 {
		cs = append(cs, attach(t, h, &wide{numbers{topic: orders, low: -low}}, who("a")))
	}
	h.Dispatch(stub(), nil)
	for _, c := range cs {
		c.take(t, 40)
		c.nothing(t)
	}
	total := 0
	for _, c := range cs {
		total += held(c.g)
	}
	if total > limit {
		t.Errorf("%d bytes of pages are kept, with a limit of %d", total, limit)
	}
	h.Dispatch(txn(insert(10, "a", 1)), nil)
	for _, c := range cs { // all go on
		c.take(t, 1)
	}
}

package subs

import (
	"context"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
)

// pages is a history that answers Since with one page after the other.
type pages struct {
	*log
	mu   sync.Mutex
	list []change.Page
}

func (p *pages) Since(context.Context, change.Cursor, change.Cursor, []change.Topic, []string, int) (change.Page, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.list[0]
	p.list = p.list[1:]
	return next, nil
}

// Who catches up is told that a transaction is complete of which he has got a part, wherever its rest ends and whether it matches.
func TestATransactionIsCompletedOnALaterPage(t *testing.T) {
	t.Parallel()
	from := change.Cursor{Tick: change.Stamp{ID: 1, Bits: 1}, Era: 1}
	to := change.Cursor{Tick: change.Stamp{ID: 2, Bits: 1}, Era: 1}
	passed := func(xid change.XID, first, end int, whole bool) change.Passed {
		return change.Passed{Before: change.PointAt(from), Changes: inserts(xid, first, end)[0].Changes, Whole: whole}
	}
	inside := func(seq int64) change.Cursor { return from.In(change.Part{XID: 9, Seq: seq}) }
	for _, c := range []struct {
		name  string
		pages []change.Page
		want  []string
	}{
		{"its rest matches", []change.Page{
			{Txns: []change.Passed{passed(9, 100, 102, false)}, Next: inside(101)},
			{Txns: []change.Passed{passed(9, 102, 103, true), passed(10, 200, 201, true)}, Next: to, Arrived: true},
		}, []string{"1:->100 1:->101 …", "1:->102 1:->200 "}},
		{"its rest does not match", []change.Page{
			{Txns: []change.Passed{passed(9, 100, 102, false)}, Next: inside(101)},
			{Txns: []change.Passed{passed(9, 1, 2, true), passed(10, 200, 201, true)}, Next: to, Arrived: true},
		}, []string{"1:->100 1:->101 …", "", "1:->200 "}},
		{"its rest does not match, and ends a page later", []change.Page{
			{Txns: []change.Passed{passed(9, 100, 102, false)}, Next: inside(101)},
			{Txns: []change.Passed{passed(9, 1, 2, false)}, Next: inside(150)},
			{Txns: []change.Passed{passed(9, 2, 3, true), passed(10, 200, 201, true)}, Next: to, Arrived: true},
		}, []string{"1:->100 1:->101 …", "", "1:->200 "}},
		{"what goes on has not matched yet", []change.Page{
			{Txns: []change.Passed{passed(8, 100, 101, true), passed(9, 1, 2, false)}, Next: inside(1)},
			{Txns: []change.Passed{passed(9, 2, 3, true), passed(10, 200, 201, true)}, Next: to, Arrived: true},
		}, []string{"1:->100 ", "1:->200 "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan int, 1)
			h := newHub(t, Options{History: &pages{list: c.pages}, Join: func(ticket int) { asked <- ticket }})
			h.Dispatch(nil, change.PointAt(to))
			client := attachAt(t, h, &batches{numbers{topic: orders, low: 50}}, who("a"), Start{After: &from})
			h.Joined(<-asked, change.PointAt(to))
			equal(t, client.take(t, len(c.want)), c.want...)
		})
	}
}

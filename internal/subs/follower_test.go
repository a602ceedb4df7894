package subs

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/notifyql/notifyql/internal/change"
)

// follower is a client. It knows what it must get next, and looks at each cursor whether it says just that.
type follower struct {
	p *play
	told
	r    *Reader
	node *source

	mu    sync.Mutex
	ready bool // Next may have something

	last   int    // it has got all up to this change
	fresh  bool   // it has got nothing yet, and may get the beginning of a batch that was open when it came
	rows   bool   // it gets rows
	part   bool   // of a batch: more is to come
	cursor string // the newest
	syncs  int    // how often it may be told where it is
}

func (f *follower) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = true
}

func (f *follower) attach(node *source, rows bool) {
	var start Start
	f.node, f.rows, f.part, f.fresh = node, false, false, false
	switch {
	case rows:
		start.Rows = &change.Query{Watch: orders.Watch, Where: f.Key()}
		f.rows, f.last, f.syncs, f.cursor = true, 0, 1, ""
	case f.cursor != "":
		c, err := change.ParseCursor(f.cursor)
		if err != nil {
			f.p.fail("cursor %q: %v", f.cursor, err)
			return
		}
		start.After, f.syncs = &c, 1
	default:
		f.fresh, f.syncs, f.last = true, 0, 0
		if n := node.next; n > 0 {
			f.last = int(f.p.l.txns[n-1].LastSeq())
		}
		f.last += node.in
	}
	var err error
	f.mu.Lock()
	f.ready = true
	f.mu.Unlock()
	if f.r, err = node.h.Attach(&f.told, who("a"), start, f.wake); err != nil {
		f.p.fail("attach: %v", err)
	}
}

func (f *follower) leave() {
	if f.r != nil {
		f.r.Close()
		f.r = nil
	}
}

// next pulls at most limit frames, if there may be some.
func (f *follower) next(limit int) (any bool) {
	f.mu.Lock()
	ready := f.ready
	f.ready = false
	f.mu.Unlock()
	if !ready || f.r == nil {
		return false
	}
	frames, err := f.r.Next(nil, limit)
	for _, frame := range frames {
		f.take(string(frame))
	}
	if len(frames) > limit {
		f.p.fail("%d frames, and no more than %d were wanted", len(frames), limit)
	}
	if len(frames) == limit {
		f.wake()
	}
	if err != nil {
		if !errors.Is(err, ErrInterrupted) || !f.p.failed {
			f.p.fail("a reader ended: %v", err)
		}
		f.leave()
		f.cursor = ""
		f.attach(f.node, true)
	}
	return len(frames) > 0
}

// want is the change that comes next.
func (f *follower) want() int { return (f.last/f.every + 1) * f.every }

func (f *follower) take(frame string) {
	words := strings.Fields(frame)
	was := f.part
	switch f.part = false; words[0] {
	case "r", "R":
		if !f.rows || (words[0] == "R") != f.batch {
			f.p.fail("%.60q is out of place", frame)
		}
		f.numbers(words[1:])
	case "c":
		f.numbers(words[1:2])
		f.place(words[2])
	case "b":
		f.part = words[1] == "false"
		if f.numbers(words[3:]); words[2] != "-" {
			f.place(words[2])
		} else if !was {
			f.p.fail("an empty batch to somebody who waits for none")
		}
	case "s":
		if !was { // else it says that no more of the transaction is for it
			f.syncs--
		}
		if f.syncs < 0 {
			f.p.fail("told where it is, and nobody asked: %q", frame)
		}
		f.rows = false
		f.place(words[1])
	}
	if f.rows != (words[0] == "r" || words[0] == "R") {
		f.p.fail("%.60q before the rows were all there", frame)
	}
}

func (f *follower) numbers(words []string) {
	for _, w := range words {
		n, _ := strconv.Atoi(w)
		if f.fresh && f.batch && n <= f.last && f.node.next < len(f.p.l.txns)+1 {
			f.last = n - 1
		}
		f.fresh = false
		if n != f.want() {
			f.p.fail("change %d comes after %d, in a group for every %d", n, f.last, f.every)
		}
		f.last = n
	}
}

// place looks at a cursor: what follows it is what follows here.
func (f *follower) place(text string) {
	c, err := change.ParseCursor(text)
	if err != nil {
		f.p.fail("%v", err)
		return
	}
	f.cursor = text
	want := f.want()
	for _, ch := range f.p.l.after(&c) {
		if int(ch.Seq)%f.every != 0 {
			continue
		}
		if int(ch.Seq) != want {
			f.p.fail("behind the cursor comes %d, and behind what was given %d", ch.Seq, want)
			return
		}
		want += f.every
	}
	if last := f.p.l.txns[len(f.p.l.txns)-1].LastSeq(); want <= int(last) {
		f.p.fail("the cursor is behind %d, and only what is before %d was given", last, want)
	}
}

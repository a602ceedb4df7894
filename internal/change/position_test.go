package change

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history is a naive model for cursors: transactions that have ended, each with its marks, and ticks.
type history struct {
	clock
	marks map[XID][]Mark // logged, by transaction, in the order of seq
	ticks []Tick
	seq   int64
}

func (h *history) tick(t *rapid.T) *Tick {
	h.ticks = append(h.ticks, Tick{Stamp{int64(len(h.ticks) + 1), rapid.Uint64().Draw(t, "bits")}, h.snapshot()})
	return &h.ticks[len(h.ticks)-1]
}

// commit ends one of the transactions that have begun; before that some of them log changes.
func (h *history) commit(t *rapid.T) XID {
	var xs []XID
	for range rapid.IntRange(0, 2).Draw(t, "begun") {
		h.ended = append(h.ended, false)
	}
	for x := h.first; x <= h.last(); x++ {
		if !h.hasEnded(x) {
			xs = append(xs, x)
		}
	}
	if len(xs) == 0 {
		h.ended = append(h.ended, false)
		xs = append(xs, h.last())
	}
	log := func(x XID) {
		h.seq++
		h.marks[x] = append(h.marks[x], Mark{x, h.seq, time.UnixMicro(h.seq * 10)})
	}
	for range rapid.IntRange(0, 4).Draw(t, "changes") {
		log(rapid.SampledFrom(xs).Draw(t, "by"))
	}
	x := rapid.SampledFrom(xs).Draw(t, "xid")
	if len(h.marks[x]) == 0 {
		log(x)
	}
	h.ended[x-h.first] = true
	return x
}

// delivered is what somebody has got: of each transaction, so many changes.
type delivered map[XID]int

// check compares a cursor with what was delivered.
func (h *history) check(t *rapid.T, c Cursor, got delivered) {
	again, err := ParseCursor(c.String())
	if err != nil || !same(again, c) {
		t.Fatalf("%+v is read as %+v, %v", c, again, err)
	}
	tick := &h.ticks[c.Tick.ID-1]
	var upper *Tick
	if c.Upper.ID != 0 {
		upper = &h.ticks[c.Upper.ID-1]
	}
	for _, x := range append([]XID{c.Part.XID}, c.Done...) {
		if x != 0 && tick.Snapshot.Sees(x) {
			t.Fatalf("%+v names %d, which its tick sees", c, x)
		}
	}
	for x, ms := range h.marks {
		if !h.hasEnded(x) {
			continue
		}
		if has := c.Delivered(ms[len(ms)-1], tick, upper); has != (got[x] == len(ms) && x != c.Part.XID) {
			t.Fatalf("%+v: %d is delivered: %v, and so many of its changes were: %d of %d", c, x, has, got[x], len(ms))
		}
		part := x == c.Part.XID
		if part && (c.Part.Seq != ms[got[x]-1].Seq || c.Part.Sum != ms[got[x]-1].Sum()) || !part && got[x] > 0 && got[x] < len(ms) {
			t.Fatalf("%+v: %d changes of %d were delivered", c, got[x], x)
		}
	}
	if recheck, err := c.Check(tick, upper, Standing{Era: c.Era, Now: h.snapshot()}); recheck || err != nil {
		t.Fatalf("%+v can't be resumed from: %v, %v", c, recheck, err)
	}
	h.recheck(t, c, tick, upper)
}

// recheck: in another era what was delivered must be there still, just as it was.
func (h *history) recheck(t *rapid.T, c Cursor, tick, upper *Tick) {
	recheck, err := c.Check(tick, upper, Standing{Era: c.Era + 1, Now: h.snapshot()})
	if err != nil || recheck != (len(c.Done) > 0 || c.Part.XID != 0) {
		t.Fatalf("%+v: in another era: %v, %v", c, recheck, err)
	}
	if !recheck {
		return
	}
	var done []Mark
	for _, x := range c.Done {
		done = append(done, h.marks[x][len(h.marks[x])-1])
	}
	var part *Mark
	if x := c.Part.XID; x != 0 {
		i := slices.IndexFunc(h.marks[x], func(m Mark) bool { return m.Seq == c.Part.Seq })
		m := h.marks[x][i]
		part = &m
	}
	if err := c.Recheck(done, part); err != nil {
		t.Fatalf("%+v: all is there, and yet: %v", c, err)
	}
	switch {
	case part != nil && rapid.Bool().Draw(t, "the part changes"):
		part.At = part.At.Add(time.Microsecond)
	case len(done) == 0:
		part = nil
	case rapid.Bool().Draw(t, "one is gone"):
		done = done[1:]
	default:
		i := rapid.IntRange(0, len(done)-1).Draw(t, "which changes")
		done[i].At = done[i].At.Add(time.Microsecond)
	}
	if err := c.Recheck(done, part); !errors.Is(err, ErrCursorExpired) {
		t.Fatalf("%+v: something else is there, and yet: %v", c, err)
	}
}

// TestPosition moves a node's position through what a node dispatches, and catches up from any of its cursors.
func TestPosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := &history{clock: *drawClock(t), marks: map[XID][]Mark{}}
		got := delivered{}
		whole := func(x XID) { got[x] = len(h.marks[x]) }
		for range rapid.IntRange(0, 5).Draw(t, "before the tick") {
			whole(h.commit(t))
		}
		h.tick(t)
		var done []Mark
		for range rapid.IntRange(0, 5).Draw(t, "before the node") {
			x := h.commit(t)
			whole(x)
			done = append(done, h.marks[x][len(h.marks[x])-1])
		}
		if before := h.snapshot(); len(done) > 0 && rapid.Bool().Draw(t, "a tick after the marks were read") {
			h.ticks[0].Snapshot = before
		}
		p := NewPosition(77, h.ticks[0], done)
		h.check(t, p.Point().Cursor(), got)

		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			x := h.commit(t)
			ms := h.marks[x]
			earlier := maps.Clone(got)
			for n := 1; n <= len(ms); n++ {
				m, last := ms[n-1], n == len(ms)
				if !last && !rapid.Bool().Draw(t, "a part") {
					continue
				}
				byNotice := !last || rapid.Bool().Draw(t, "by notification")
				before := p.Dispatched(m, !byNotice)
				h.check(t, before.Cursor(), earlier)
				for ; got[x] < n; earlier[x] = got[x] {
					got[x]++
					c := &Change{XID: x, Seq: ms[got[x]-1].Seq, At: ms[got[x]-1].At}
					h.check(t, before.Behind(c), got)
					if text := string(before.AppendBehind(nil, c)); text != before.Behind(c).String() {
						t.Fatalf("the text of %+v is %s", before.Behind(c), text)
					}
				}
				if c := p.Point().Cursor(); (c.Part.XID == x) != byNotice {
					t.Fatalf("%+v", c)
				}
				h.check(t, p.Point().Cursor(), got)
				if text := string(p.Point().AppendCursor(nil)); text != p.Point().Cursor().String() {
					t.Fatalf("the text of %+v is %s", p.Point().Cursor(), text)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "tick") == 0 {
				h.tick(t)
			}
			if newest := h.ticks[len(h.ticks)-1]; rapid.IntRange(0, 3).Draw(t, "reach") == 0 {
				p.Swept(h.snapshot(), &newest)
				if open := p.Point().Cursor().Part.XID; open != 0 {
					t.Fatalf("%d is open after a sweep that saw it", open)
				}
				h.check(t, p.Point().Cursor(), got)
			}
			if rapid.IntRange(0, 5).Draw(t, "resume") == 0 {
				h.catchUp(t, p.Point().Cursor(), got)
				return
			}
		}
	})
}

// catchUp reads from a cursor tick by tick what came since, which was delivered to nobody yet.
func (h *history) catchUp(t *rapid.T, c Cursor, before delivered) {
	got := delivered{}
	for x, n := range before {
		got[x] = n
	}
	if x := c.Part.XID; x != 0 { // what was delivered in part goes first, here to its end
		c = c.Past(h.marks[x][len(h.marks[x])-1])
	}
	for range rapid.IntRange(1, 3).Draw(t, "ticks") {
		for range rapid.IntRange(0, 6).Draw(t, "missed") {
			h.commit(t)
		}
		h.tick(t)
	}
	for id := c.Tick.ID; id < int64(len(h.ticks)); id++ {
		u := &h.ticks[id]
		var list []Mark
		for x, ms := range h.marks {
			if m := ms[len(ms)-1]; u.Snapshot.Sees(x) && !c.Delivered(m, &h.ticks[c.Tick.ID-1], nil) {
				list = append(list, m)
			}
		}
		slices.SortFunc(list, func(a, b Mark) int { return cmp.Compare(a.Seq, b.Seq) })
		c = c.Toward(u.Stamp)
		h.check(t, c, got)
		for _, m := range list {
			for n := got[m.XID] + 1; n <= len(h.marks[m.XID]); n++ {
				at := h.marks[m.XID][n-1]
				c = c.In(Part{at.XID, at.Seq, at.Sum()})
				got[m.XID] = n
				h.check(t, c, got)
			}
			c = c.Past(m)
			h.check(t, c, got)
		}
		var beyond []Mark
		for _, x := range c.Beyond(u) {
			beyond = append(beyond, h.marks[x][len(h.marks[x])-1])
		}
		c = c.At(u, beyond)
		h.check(t, c, got)
	}
}

func TestCursorCheck(t *testing.T) {
	t.Parallel()
	tick := &Tick{Stamp{5, 99}, Snapshot{Xmin: 90, Xmax: 100, Xip: []XID{90, 95}}}
	now := Snapshot{Xmin: 95, Xmax: 200, Xip: []XID{95}} // 90 has finished since
	c := Cursor{Tick: tick.Stamp, Era: 1}
	for _, k := range []struct {
		name    string
		c       Cursor
		tick    *Tick
		upper   *Tick
		s       Standing
		expired bool
	}{
		{name: "all is there", c: c, tick: tick, s: Standing{1, now, 0}},
		{name: "what was dropped is older", c: c, tick: tick, s: Standing{1, now, 89}},
		{name: "what ran then and has finished is dropped", c: c, tick: tick, s: Standing{1, now, 90}, expired: true},
		{name: "what ran then was delivered", c: Cursor{Tick: tick.Stamp, Era: 1, Done: []XID{90}}, tick: tick, s: Standing{1, now, 90}},
		{name: "what ran then runs still", c: Cursor{Tick: tick.Stamp, Era: 1, Done: []XID{90}}, tick: tick, s: Standing{1, now, 95}},
		{name: "what came after the tick is dropped", c: Cursor{Tick: tick.Stamp, Era: 1, Done: []XID{90}}, tick: tick, s: Standing{1, now, 100}, expired: true},
		{name: "the tick is gone", c: c, s: Standing{1, now, 0}, expired: true},
		{name: "another history's tick", c: c, tick: &Tick{Stamp{5, 98}, tick.Snapshot}, s: Standing{1, now, 0}, expired: true},
		{name: "the tick is of the future", c: c, tick: &Tick{tick.Stamp, Snapshot{Xmin: 300, Xmax: 300}}, s: Standing{1, now, 0}, expired: true},
		{name: "the upper tick is gone", c: c.Toward(Stamp{6, 1}), tick: tick, s: Standing{1, now, 0}, expired: true},
		{name: "the upper tick is another", c: c.Toward(Stamp{6, 1}), tick: tick, upper: &Tick{Stamp{6, 2}, now}, s: Standing{1, now, 0}, expired: true},
		{name: "both are there", c: c.Toward(Stamp{6, 1}), tick: tick, upper: &Tick{Stamp{6, 1}, now}, s: Standing{1, now, 0}},
	} {
		recheck, err := k.c.Check(k.tick, k.upper, k.s)
		if recheck || errors.Is(err, ErrCursorExpired) != k.expired || !k.expired && err != nil {
			t.Errorf("%s: %v, %v", k.name, recheck, err)
		}
	}
}

func TestMarkSum(t *testing.T) {
	t.Parallel()
	seen := map[uint64]Mark{}
	for x := XID(1); x < 30; x++ {
		for seq := int64(1); seq < 30; seq++ {
			for at := range 10 {
				m := Mark{x, seq, time.UnixMicro(int64(at))}
				if o, ok := seen[m.Sum()]; ok {
					t.Fatalf("%v and %v have one sum", m, o)
				}
				seen[m.Sum()] = m
			}
		}
	}
}

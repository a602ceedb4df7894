package subs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/notifyql/notifyql/internal/change"
)

// member is a client that follows keys.
type member struct {
	p *memberPlay
	through
	s      *Sequence
	node   *source
	cursor string
	rows   map[string]string // by n
	behind map[string]string // at cursor
	rowing bool              // the rows that stand are coming
	open   bool
	told   bool // that it has got all before now

	mu    sync.Mutex
	ready bool
}

func (f *member) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = true
}

func (f *member) follow(node *source) {
	var start Start
	f.node, f.open, f.told, f.rows = node, false, false, map[string]string{}
	if f.cursor == "" {
		start.Rows, f.rowing = f.Query(nil), true
	} else {
		c, err := change.ParseCursor(f.cursor)
		if err != nil {
			f.p.fail("%v", err)
		}
		start.After = &c
		for n, image := range f.behind {
			f.rows[n] = image
		}
	}
	f.wake()
	var err error
	if f.s, err = node.h.Follow(&f.through, who("a"), start, f.wake); err != nil {
		f.p.fail("follow: %v", err)
	}
}

func (f *member) next(limit int) bool {
	f.mu.Lock()
	ready := f.ready
	f.ready = false
	f.mu.Unlock()
	if !ready || f.s == nil {
		return false
	}
	frames, err := f.s.Next(nil, limit)
	for _, frame := range frames {
		f.take(frame)
	}
	switch {
	case len(frames) > limit:
		f.p.fail("%d frames, and no more than %d were wanted", len(frames), limit)
	case len(frames) == limit:
		f.wake()
	}
	if err != nil {
		if !errors.Is(err, ErrInterrupted) || !f.p.failed {
			f.p.fail("a sequence ended: %v", err)
		}
		f.s.Close()
		f.cursor = ""
		f.follow(f.node)
	}
	return len(frames) > 0
}

func (f *member) take(frame []byte) {
	var got seen
	if err := json.Unmarshal(frame, &got); err != nil {
		f.p.fail("%q: %v", frame, err)
		return
	}
	changes := got.Changes
	if got.Batch {
		if !got.Synced && len(changes) == 0 && (!f.open || !got.Complete) {
			f.p.fail("an empty batch to somebody who waits for none: %s", frame)
		}
		f.open = !got.Complete && !f.rowing
	} else if !got.Synced {
		changes = []seen{got}
	}
	for _, c := range changes {
		if f.rowing != (c.Effect == Stands) {
			f.p.fail("rows that stand or not: %s", frame)
		}
		if c.Effect == Gained || c.Effect == Lost {
			f.p.moved++
		}
		var r change.Row
		if c.Old != nil {
			_ = r.Parse(c.Old)
			if n := value(&r, "n"); f.rows[n] != string(c.Old) {
				f.p.fail("%s found %q", frame, f.rows[n])
			} else {
				delete(f.rows, n)
			}
		}
		if c.New != nil {
			_ = r.Parse(c.New)
			if n := value(&r, "n"); f.rows[n] != "" {
				f.p.fail("%s found %q", frame, f.rows[n])
			} else {
				f.rows[n] = string(c.New)
			}
		}
	}
	if got.Synced {
		f.rowing, f.told = false, true
	}
	if got.Cursor != "" {
		f.place(got.Cursor)
	}
}

// place looks at a cursor: what stands there is what was given.
func (f *member) place(text string) {
	c, err := change.ParseCursor(text)
	if err != nil {
		f.p.fail("%v", err)
		return
	}
	f.cursor, f.behind = text, map[string]string{}
	for n, image := range f.rows {
		f.behind[n] = image
	}
	f.p.l.mu.Lock()
	defer f.p.l.mu.Unlock()
	want := 0
	for _, image := range f.p.l.standing(&c, orders.Watch) {
		if f.p.l.member(&c, f.Query(nil).Among, image) {
			want++
			var r change.Row
			_ = r.Parse([]byte(image))
			if f.rows[value(&r, "n")] != image {
				f.p.fail("user %s lacks %s at %+v", f.user, image, c)
			}
		}
	}
	if want != len(f.rows) {
		f.p.fail("user %s has %d rows at %+v, want %d", f.user, len(f.rows), c, want)
	}
	f.p.places++
}

// memberPlay is a play whose clients follow keys.
type memberPlay struct {
	*play
	random        *rand.Rand
	rows          [2]map[int]string // orders and members, as the log has made them
	clients       []*member
	moved, places int
}

// write commits a transaction of some changes of both tables.
func (p *memberPlay) write() {
	var cs []change.Change
	for range 1 + p.random.IntN(6) {
		table := p.random.IntN(2)
		rows, n := p.rows[table], p.random.IntN(8)
		was := rows[n]
		c := change.Change{Topic: [2]change.Topic{orders, members}[table], Op: change.Insert, Tenant: "a", OldTenant: "a"}
		now := fmt.Sprintf(`{"n":%d,"k":%d,"v":%d}`, n, p.random.IntN(3), len(p.l.txns))
		if table == 1 {
			now = fmt.Sprintf(`{"n":%d,"k":%d,"u":%d}`, n, p.random.IntN(3), p.random.IntN(2))
		}
		if was != "" {
			c.Op, c.Old = change.Update, []byte(was)
			if p.random.IntN(3) == 0 {
				c.Op, now = change.Delete, ""
			}
		}
		if now != "" {
			c.New = []byte(now)
		}
		if rows[n] = now; now == "" {
			delete(rows, n)
		}
		cs = append(cs, c)
	}
	p.l.add(cs)
}

func (p *memberPlay) step() {
	n := p.random.IntN(1 << 20)
	node := p.nodes[n%2]
	var f *member
	if len(p.clients) > 0 {
		f = p.clients[n/2%len(p.clients)]
	}
	switch p.random.IntN(14) {
	case 0, 1:
		p.write()
	case 2:
		node.dispatch(1+n/2%3, false)
	case 3:
		node.dispatch(100, false)
	case 4:
		node.dispatch(0, true)
	case 5:
		if node.in == 0 {
			node.h.Settle()
		}
	case 6:
		if node.begin(); n%3 > 0 {
			node.answer()
		}
	case 7, 8, 9:
		p.let(n/2, nil)
	case 10:
		p.let(n/6, [3]error{nil, errAway, change.ErrOtherEra}[n/2%3])
	case 11:
		switch {
		case len(p.clients) < 4:
			f = &member{p: p, through: through{rowSet{topic: orders, all: true, batch: n/2%2 == 0}, strconv.Itoa(n / 4 % 2)}}
			p.clients = append(p.clients, f)
			f.follow(node)
		case n/64%4 == 0:
			f.s.Close()
			if f.rowing {
				f.cursor = ""
			}
			f.follow(node)
		case n/64%4 == 1:
			node.h.Round()
		case n/64%16 == 2:
			if p.l.era != node.pos.Era() {
				node.pos.Enter(p.l.era)
				node.h.Dispatch(nil, node.pos.Point())
			} else {
				p.l.era++
			}
		}
	case 12, 13:
		if f != nil {
			f.next(1 + n/16%5)
		}
	}
}

// settle lets all go on to the end, where each has got everything.
func (p *memberPlay) settle() {
	p.idle(func() (some bool) {
		for _, f := range p.clients {
			some = f.next(3) || some
		}
		return some
	})
	for i, f := range p.clients {
		at := change.Cursor{Tick: memTick.Stamp, Era: p.l.era}
		for k := range p.l.txns {
			at = at.Past(p.l.txns[k].Mark())
		}
		if f.place(at.String()); f.open || f.rowing || !f.told || p.err != nil {
			p.fail("client %d, user %s, in the middle of a batch: %v, of rows: %v, told: %v", i, f.user, f.open, f.rowing, f.told)
		}
	}
}

func playMembers(t *testing.T, seed uint64) (moved, places int, err error) {
	synctest.Test(t, func(*testing.T) {
		r := rand.New(rand.NewPCG(seed, 7))
		o := Options{TailBytes: tails[r.IntN(len(tails))], PageRows: 1 + r.IntN(4)}
		p := &memberPlay{play: newPlay(o), random: r, rows: [2]map[int]string{{}, {}}}
		p.write()
		for range 100 + r.IntN(300) {
			if p.err != nil {
				break
			}
			p.step()
			synctest.Wait()
			p.look()
		}
		if p.err == nil {
			p.settle()
		}
		for _, f := range p.clients {
			f.s.Close()
		}
		p.end()
		for _, node := range p.nodes {
			if n := len(node.h.sequences); n > 0 {
				p.fail("%d sequences are left", n)
			}
		}
		moved, places, err = p.moved, p.places, p.err
	})
	return moved, places, err
}

// TestSequenceGivesWhatStandsAtEachPlace: whoever follows keys, begins, reads, leaves and comes back in whatever way has at each place that
// he is told the rows that stand there and that the user's rows of the member table let through; each change finds what it says.
func TestSequenceGivesWhatStandsAtEachPlace(t *testing.T) {
	moved, places := 0, 0
	for seed := range *plays {
		m, n, err := playMembers(t, seed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		moved, places = moved+m, places+n
	}
	t.Logf("%d rows moved, %d places", moved, places)
	if moved == 0 || places == 0 {
		t.Error("nothing has happened")
	}
}

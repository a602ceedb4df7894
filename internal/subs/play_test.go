package subs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/change"
)

// told is a plan whose frames say all: "c 7 CURSOR" is change 7, "b true CURSOR 7 8" a complete batch, "r 7" and "R 7 8" are rows, and
// "s CURSOR" says that all before was sent. It is for every how-manieth row.
type told struct {
	p             *play
	every         int
	batch, blocks bool
}

func (p *told) Key() string            { return fmt.Sprint(p.every, p.batch, p.blocks) }
func (p *told) Topics() []change.Topic { return []change.Topic{orders} }
func (p *told) Blocks() bool           { return p.blocks }
func (p *told) Cursors() bool          { return true }
func (p *told) Batches() bool          { return p.batch }

func (p *told) EncodeSynced(at *change.Point) []byte {
	return at.AppendCursor([]byte("s "))
}

func number(r *change.Row) int {
	v, _ := r.Get("n", 0)
	n, _ := strconv.Atoi(string(v))
	return n
}

func (p *told) Match(m *Match) Effect {
	if m.Before != nil {
		p.p.meanwhile()
	}
	if number(m.New)%p.every != 0 {
		return None
	}
	return Enters
}

func (p *told) Encode(ctx context.Context, m *Match, e Effect) []byte {
	if p.blocks && p.p.l.enter(ctx, "encode") != nil {
		return nil
	}
	if e == Stands {
		return fmt.Appendf(nil, "r %d", number(m.New))
	}
	return m.Before.AppendBehind(fmt.Appendf(nil, "c %d ", m.Change.Seq), m.Change)
}

// Together implements Resolving: one call of the resolver of every other plan that has one serves three changes.
func (p *told) Together() int { return 1 + 2*(p.every%2) }

func (p *told) EncodeAll(ctx context.Context, ms []Matched) [][]byte {
	if p.blocks && (len(ms) > p.Together() || p.p.l.enter(ctx, "encode") != nil) {
		return make([][]byte, len(ms)) // of those that are too many nothing is told, which is found
	}
	frames := make([][]byte, len(ms))
	quick := *p
	quick.blocks = false
	for i := range ms {
		frames[i] = quick.Encode(ctx, &ms[i].Match, ms[i].Effect)
	}
	return frames
}

func (p *told) EncodeBatch(ctx context.Context, ms []Matched, complete bool) []byte {
	if p.blocks && len(ms) > 0 && p.p.l.enter(ctx, "encode") != nil {
		return nil
	}
	var b []byte
	switch {
	case len(ms) == 0:
		b = fmt.Appendf(b, "b %v -", complete)
	case ms[0].Effect == Stands:
		b = append(b, 'R')
	default:
		last := ms[len(ms)-1]
		b = last.Before.AppendBehind(fmt.Appendf(b, "b %v ", complete), last.Change)
	}
	for i := range ms {
		b = fmt.Appendf(b, " %d", number(ms[i].New))
	}
	return b
}

// play is a log, nodes that dispatch it, and clients that come, read, go and come back anywhere, all of it in a bubble of
// testing/synctest and in steps: what is done in the background goes on only when it is let.
type play struct {
	l       *memlog
	nodes   [2]*source
	clients []*follower

	mu      sync.Mutex
	waiting []*gated
	failed  bool // a read of rows was made to fail

	peek int // so many Matches until a client reads in the middle of Dispatch
	who  int
	err  error
}

// gated is something in the background that waits to be let.
type gated struct {
	what string
	next chan error
}

func newPlay(o Options) *play {
	o.Logger = slog.New(slog.DiscardHandler)
	p := &play{l: &memlog{era: 1}}
	p.l.gate = func(ctx context.Context, what string) error {
		h := &gated{what, make(chan error, 1)}
		p.mu.Lock()
		p.waiting = append(p.waiting, h)
		p.mu.Unlock()
		select {
		case err := <-h.next:
			return err
		case <-ctx.Done():
			p.mu.Lock()
			p.waiting = slices.DeleteFunc(p.waiting, func(o *gated) bool { return o == h })
			p.mu.Unlock()
			return ctx.Err()
		}
	}
	for i := range p.nodes {
		p.nodes[i] = newSource(p.l, o)
	}
	return p
}

func (p *play) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// let lets one thing go on, or fails it.
func (p *play) let(n int, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return false
	}
	n %= len(p.waiting)
	h := p.waiting[n]
	p.waiting = slices.Delete(p.waiting, n, n+1)
	switch {
	case h.what == "encode", errors.Is(err, change.ErrOtherEra) && h.what != "since":
		err = nil
	case h.what == "more rows" && err != nil:
		p.failed = true
	}
	h.next <- err
	return true
}

// meanwhile lets a live client read while the hub dispatches, where that takes no lock that Dispatch holds.
func (p *play) meanwhile() {
	if p.peek--; p.peek != 0 || len(p.clients) == 0 {
		return
	}
	f := p.clients[p.who%len(p.clients)]
	if f.r == nil || f.r.phase != live || f.r.stub != nil || f.blocks {
		return
	}
	f.r.g.mu.Lock()
	kept := f.r.pos >= f.r.g.base && f.r.g.ended == nil
	f.r.g.mu.Unlock()
	if kept {
		f.ready = true
		f.next(100)
	}
}

// do does one step.
func (p *play) do(code int) {
	kind, n := code%16, code/16
	node, other := p.nodes[n%2], n/2
	var f *follower
	if len(p.clients) > 0 {
		f = p.clients[other%len(p.clients)]
	}
	switch kind {
	case 0:
		p.l.commit(1 + n%7)
	case 1:
		node.dispatch(1+other%3, false)
	case 2:
		node.dispatch(100, false)
	case 3:
		node.dispatch(0, true)
	case 4:
		if node.in == 0 {
			node.h.Settle()
		}
	case 5:
		node.begin()
	case 6:
		node.answer()
	case 7, 8:
		p.let(n, nil)
	case 9:
		p.let(n/3, [3]error{nil, errAway, change.ErrOtherEra}[n%3])
	case 10:
		if len(p.clients) < 6 {
			f = &follower{p: p, told: told{p: p, every: 1 + other%3, batch: other/3%2 == 0, blocks: other/6%4 == 0}}
			p.clients = append(p.clients, f)
			f.attach(node, other/24%2 == 0)
		}
	case 11:
		if f != nil {
			if f.rows { // it has no cursor yet
				f.cursor = ""
			}
			f.leave()
			f.attach(node, f.cursor == "" && f.rows)
		}
	case 12, 13:
		if f != nil {
			f.next(1 + n%5)
		}
	case 14:
		node.h.Round()
		for _, f := range p.clients {
			if f.node == node {
				f.syncs++
			}
		}
	case 15:
		switch {
		case n%3 > 0:
			p.peek, p.who = 1+other%5, other/5
		case p.l.era != node.pos.Era():
			node.pos.Enter(p.l.era)
			node.h.Dispatch(nil, node.pos.Point())
		default:
			p.l.era++
		}
	}
}

// idle lets all go on, until nothing is left to do: next lets the clients read, and reports whether one got something.
func (p *play) idle(next func() bool) {
	for idle := 0; idle < 3 && p.err == nil; idle++ {
		for _, node := range p.nodes {
			if p.l.era != node.pos.Era() {
				node.pos.Enter(p.l.era)
				node.h.Dispatch(nil, node.pos.Point())
			}
			for node.dispatch(100, false) {
				idle = 0
			}
			node.h.Settle()
			if node.begin(); node.answer() {
				idle = 0
			}
		}
		synctest.Wait()
		for p.let(0, nil) {
			idle = 0
			synctest.Wait()
		}
		for next() {
			idle = 0
		}
		pass(3 * time.Second) // beyond any wait before another try
		p.look()
	}
}

// settle lets all go on to the end, where each has got everything.
func (p *play) settle() {
	p.idle(func() (some bool) {
		for _, f := range p.clients {
			some = f.next(3) || some
		}
		return some
	})
	for i, f := range p.clients {
		if last := int(p.l.txns[len(p.l.txns)-1].LastSeq()); f.want() <= last || f.part || f.rows || f.r.phase != live {
			p.fail("client %d of %s is at %d of %d, in phase %d, in the middle of a batch: %v", i, f.Key(), f.last, last, f.r.phase, f.part)
		}
	}
}

// look looks whether the log was asked for what must not be.
func (p *play) look() {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if p.l.wrong != nil {
		p.err = p.l.wrong
	}
}

// end takes all down and looks what is left.
func (p *play) end() {
	for _, f := range p.clients {
		f.leave()
	}
	for _, node := range p.nodes {
		s := node.h.Stats()
		if s.Readers != 0 || s.Groups != 0 || s.Joining != 0 || len(node.h.topics) != 0 {
			p.fail("all have left, and yet there is %+v", s)
		}
		node.h.Close()
		if len(node.h.slot) != 0 || len(node.h.rowing) != 0 || len(node.h.undoing) != 0 {
			p.fail("%d, %d and %d slots are taken", len(node.h.slot), len(node.h.rowing), len(node.h.undoing))
		}
	}
}

func playAll(t *testing.T, o Options, codes []int) (err error) {
	synctest.Test(t, func(*testing.T) {
		p := newPlay(o)
		p.l.commit(1)
		for _, code := range codes {
			if p.err != nil {
				break
			}
			p.do(code)
			synctest.Wait()
			p.look()
		}
		if p.err == nil {
			p.settle()
		}
		p.end()
		err = p.err
	})
	return err
}

// TestEachGetsAllInOrder: whoever begins, reads, leaves and comes back in whatever way gets each change once, in order, and each
// cursor names just the place where it is given out.
func TestEachGetsAllInOrder(t *testing.T) {
	t.Run("shrinking", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			o := Options{
				TailBytes:     rapid.SampledFrom(tails).Draw(rt, "tail"),
				SnapshotBytes: rapid.SampledFrom(snapshots).Draw(rt, "snapshot"),
				PageRows:      rapid.IntRange(1, 4).Draw(rt, "page"),
			}
			codes := rapid.SliceOfN(rapid.IntRange(0, codes-1), 1, 300).Draw(rt, "steps")
			if err := playAll(t, o, codes); err != nil {
				rt.Fatal(err)
			}
		})
	})
	t.Run("seeds", func(t *testing.T) {
		for seed := range *plays {
			if err := playSeed(t, seed); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	})
}

var plays = flag.Uint64("plays", 15, "how many random plays are played")

// codes is how many kinds of steps there are.
const codes = 1 << 16

var (
	tails     = []int64{1, 1500, 4000, 64 << 20}
	snapshots = []int64{1, 100, 4 << 20}
)

func playSeed(t *testing.T, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	o := Options{TailBytes: tails[r.IntN(len(tails))], SnapshotBytes: snapshots[r.IntN(len(snapshots))], PageRows: 1 + r.IntN(4)}
	steps := make([]int, 50+r.IntN(300))
	for i := range steps {
		steps[i] = r.IntN(codes)
	}
	return playAll(t, o, steps)
}

// pass lets the bubble's clock go on, and waits until what that began has come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

package subs

import (
	"context"
	"fmt"

	"github.com/notifyql/notifyql/internal/change"
)

// simPlan is for one or all rows. Its frames are those of told.
type simPlan struct {
	told
	s   *sim
	row int // or -1
}

func (p *simPlan) Key() string { return fmt.Sprint("sim", p.row, p.batch) }

func (p *simPlan) has(row int) bool { return p.row < 0 || p.row == row }

func (p *simPlan) Match(m *Match) Effect {
	if m.Before != nil {
		p.s.meanwhile()
	}
	if !p.has(number(m.New) / 1000) {
		return None
	}
	return Enters
}

func (p *simPlan) Encode(_ context.Context, m *Match, e Effect) []byte {
	if e == Stands {
		return fmt.Appendf(nil, "r %d", number(m.New))
	}
	if p.s.bugs.partWhole {
		c := m.Before.Cursor().Past(p.s.w.Mark(&p.s.w.Txs[p.s.w.Index(m.Change.XID)]))
		return fmt.Appendf(nil, "c %s %s", id(m.Change), c)
	}
	return m.Before.AppendBehind(fmt.Appendf(nil, "c %s ", id(m.Change)), m.Change)
}

// EncodeAll implements Resolving.
func (p *simPlan) EncodeAll(ctx context.Context, ms []Matched) (frames [][]byte) {
	for i := range ms {
		frames = append(frames, p.Encode(ctx, &ms[i].Match, ms[i].Effect))
	}
	return frames
}

func (p *simPlan) EncodeBatch(_ context.Context, ms []Matched, complete bool) []byte {
	if len(ms) == 0 {
		return fmt.Appendf(nil, "b %v -", complete)
	}
	last := &ms[len(ms)-1]
	b := []byte("R")
	if ms[0].Effect != Stands {
		b = last.Before.AppendBehind(fmt.Appendf(nil, "b %v ", complete), last.Change)
	}
	for i := range ms {
		if ms[i].Effect == Stands {
			b = fmt.Appendf(b, " %d", number(ms[i].New))
		} else {
			b = fmt.Appendf(b, " %s", id(ms[i].Change))
		}
	}
	return b
}

// id names a change, among all that ever had its seq.
func id(c *change.Change) string { return fmt.Sprintf("%d/%d", c.Seq, c.At.UnixMicro()) }

// meanwhile lets a live client read while a hub dispatches, where that takes no lock that Dispatch holds.
func (s *sim) meanwhile() {
	if s.peek--; s.peek != 0 {
		return
	}
	c := s.clients[s.r.IntN(len(s.clients))]
	if c.r == nil || c.r.phase != live || c.r.stub != nil {
		return
	}
	c.r.g.mu.Lock()
	kept := c.r.pos >= c.r.g.base && c.r.g.ended == nil
	for i := max(0, int(c.r.pos-c.r.g.base)); i < c.r.g.entries.len(); i++ {
		kept = kept && c.r.g.entries.at(i).size > 1000
	}
	c.r.g.mu.Unlock()
	if kept {
		c.node.hub.round.Add(1) // a round begins just now
		c.wake()
		c.next(100)
	}
}

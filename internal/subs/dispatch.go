package subs

import (
	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// Dispatch hands transactions to the groups that they concern. The transactions are the hub's from then on. at is the place
// behind them; nil where there are no places.
func (h *Hub) Dispatch(txns []change.Txn, at *change.Point) {
	h.mu.Lock()
	h.calls++
	for i := range txns {
		if txns[i].XID != h.last {
			h.complete(txns[i].Before)
			h.last = txns[i].XID
		}
		h.dispatch(&txns[i])
	}
	h.place.Store(&place{at, h.calls}) // after all of it is in the lists
	woken := h.takeWoken()
	h.mu.Unlock()
	wake(woken)
}

func (h *Hub) dispatch(t *change.Txn) {
	rec := &record{before: t.Before, call: h.calls}
	if t.Stub != nil {
		h.dispatchStub(rec, t)
	}
	for i := range t.Changes {
		h.dispatchChange(rec, &t.Changes[i])
	}
	h.remember(rec)
}

// remember puts a record into the tail, if a group has something of it, and drops the oldest ones for it.
func (h *Hub) remember(rec *record) {
	if len(rec.groups) == 0 {
		return
	}
	h.tail.push(rec)
	h.bytes.Add(rec.size)
	h.shrink()
}

func (h *Hub) shrink() {
	for h.bytes.Load() > h.o.TailBytes && h.tail.len() > 1 {
		h.evict()
	}
}

// encoded counts a frame that is larger than what was counted for its entry: a document can show a value many times.
func (h *Hub) encoded(e *entry) {
	more := int64(len(e.frame)) - e.size
	if more <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.rec.gone {
		return
	}
	e.rec.size += more
	h.bytes.Add(more)
	h.shrink()
}

// evict drops the oldest transaction. Readers that have yet to read it will find out.
func (h *Hub) evict() {
	rec := h.tail.front()
	h.tail.pop()
	rec.gone = true
	for _, g := range rec.groups {
		g.evict(rec)
	}
	h.bytes.Add(-rec.size)
}

func (h *Hub) dispatchChange(rec *record, c *change.Change) {
	t := h.topics[c.Topic]
	if t == nil {
		return
	}
	p := h.parse(c, &h.rows)
	switch {
	case p.change.Shared, p.change.Op == change.Truncate:
		for _, g := range t.all {
			h.offer(rec, g, &p)
		}
	default:
		for _, g := range t.byTenant[p.change.Tenant] {
			h.offer(rec, g, &p)
		}
		if p.change.OldTenant != p.change.Tenant {
			for _, g := range t.byTenant[p.change.OldTenant] {
				if !g.id.Sees(p.change.Tenant) { // offered already
					h.offer(rec, g, &p)
				}
			}
		}
	}
}

// rows is memory to take images apart in.
type rows struct{ old, new change.Row }

// parsed is a change with its rows taken apart in somebody's scratch memory, and, once a group wants it, in memory of its
// own that all groups share.
type parsed struct {
	change   *change.Change
	old, new *change.Row
	kept     bool
}

// parse takes the images of c apart in buf. One that is damaged makes the change an unserializable one: its tenants
// learn that something happened.
func (h *Hub) parse(c *change.Change, buf *rows) parsed {
	p := parsed{change: c}
	if c.Op == change.Event || c.Unserializable {
		return p
	}
	var err error
	if c.Old != nil {
		p.old, err = &buf.old, buf.old.Parse(c.Old)
	}
	if c.New != nil && err == nil {
		p.new, err = &buf.new, buf.new.Parse(c.New)
	}
	if err == nil {
		return p
	}
	h.o.Logger.Error("a change's image is damaged", "watch", c.Topic.Watch, "xid", c.XID, "seq", c.Seq, "error", err)
	broken := *c
	broken.Unserializable, broken.Old, broken.New = true, nil, nil
	return parsed{change: &broken}
}

// keep gives the change memory of its own: beside it in its transaction may be much that concerns nobody.
func (p *parsed) keep() {
	if p.kept {
		return
	}
	p.kept = true
	own := *p.change
	p.change = &own
	for _, row := range []**change.Row{&p.old, &p.new} {
		if *row != nil {
			own := (*row).Clone()
			*row = &own
		}
	}
}

// match is the change as the identity of g may see it.
func (g *group) match(c *change.Change, old, new *change.Row, before *change.Point) Match {
	return matchOf(g.id, c, old, new, before)
}

func matchOf(id *auth.Identity, c *change.Change, old, new *change.Row, before *change.Point) Match {
	m := Match{Change: c, Identity: id, Before: before}
	if c.Shared || id.Sees(c.OldTenant) {
		m.Old = old
	}
	if c.Shared || id.Sees(c.Tenant) {
		m.New = new
	}
	return m
}

func (h *Hub) offer(rec *record, g *group, p *parsed) {
	m := g.match(p.change, p.old, p.new, rec.before)
	effect := g.plan.Match(&m)
	if effect == None {
		return
	}
	p.keep()
	h.matched.Add(1)
	e := &entry{rec: rec, size: int64(p.change.Size()), effect: effect, change: p.change, old: p.old, new: p.new}
	if g.batcher != nil {
		h.collect(g, e, e.size+entryBytes)
		return
	}
	h.add(rec, g, e)
	rec.size += e.size
}

func (h *Hub) dispatchStub(rec *record, t *change.Txn) {
	offer := func(g *group) {
		e := &entry{rec: rec, xid: t.XID, stub: t.Stub, begun: g.open != nil}
		h.sendOpen(g) // what came before the stub goes before it
		h.add(rec, g, e)
	}
	if t.Stub.Scopes == nil {
		for _, g := range h.groups {
			offer(g)
		}
		return
	}
	seen := map[*group]bool{}
	for _, s := range t.Stub.Scopes {
		tp := h.topics[s.Topic]
		if tp == nil {
			continue
		}
		groups := tp.all
		if s.Tenant != "" {
			groups = tp.byTenant[s.Tenant]
		}
		for _, g := range groups {
			if !seen[g] {
				seen[g] = true
				offer(g)
			}
		}
	}
}

const entryBytes = 160 // what an entry costs beside its change and frame

func (h *Hub) add(rec *record, g *group, e *entry) {
	if n := len(rec.groups); n == 0 || rec.groups[n-1] != g {
		rec.groups = append(rec.groups, g)
	}
	if h.o.Trace != nil && len(rec.groups) == 1 && rec.trace == nil && e.change != nil { // whoever sees the entry sees this too
		rec.trace = h.o.Trace(e.change)
	}
	rec.size += entryBytes
	g.mu.Lock()
	g.entries.push(e)
	g.mu.Unlock()
	h.touch(g)
}

// touch remembers that the readers of a group are to be woken; see takeWoken. h.mu is held.
func (h *Hub) touch(g *group) {
	if !g.touched {
		g.touched = true
		h.woken = append(h.woken, g)
	}
}

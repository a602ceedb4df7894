package nemesis

import (
	"slices"
	"time"
)

func (c *one) begin() {
	c.begun, c.synced = true, time.Time{}
	c.set, c.next, c.got, c.gotTxn = map[int64]*Row{}, map[int64]int{}, map[*due]bool{}, map[uint64]int{}
	c.xids, c.phantom, c.astray, c.open = nil, nil, map[int64]bool{}, 0
}

// allowed judges a row that came by what can be said of it alone, and reports whether it is one of the truth.
func (c *one) allowed(n *Note, r *Row) bool {
	was := c.stamps[c.s.Table][r.Stamp]
	switch {
	case r.Doomed():
		c.broken(RolledBack, "%s at %s", show(r), clock(n.At))
	case was == nil:
		c.phantom = append(c.phantom, *n)
		c.astray[r.ID] = true
	case *was != *r:
		c.broken(OutOfSet, "%s came, %s was written", show(r), show(was))
	case r.Tenant != c.s.Tenant:
		c.broken(Foreign, "%s at %s", show(r), clock(n.At))
	case !c.s.match(r):
		c.broken(OutOfSet, "%s at %s", show(r), clock(n.At))
	default:
		return true
	}
	return false
}

func (c *one) initial(n *Note) {
	if !c.synced.IsZero() {
		c.broken(OneMoment, "%s stands, after SYNCED", show(n.New))
	}
	if !c.allowed(n, n.New) {
		return
	}
	id := n.New.ID
	if c.set[id] != nil {
		c.broken(Repeated, "row %d stands twice", id)
	}
	c.set[id] = n.New
	for _, d := range c.rows[id] {
		if d.new != nil && d.new.Stamp == n.New.Stamp {
			c.next[id] = d.place + 1
		}
	}
}

// live is told of what shows that all rows that stood have come. A channel has none: whatever comes of it shows that.
func (c *one) live(n *Note) {
	if c.synced.IsZero() {
		c.synced = n.At
	}
}

func (c *one) change(n *Note) {
	if c.s.Channel {
		c.live(n)
	}
	if c.synced.IsZero() {
		c.broken(OneMoment, "a change of row %d before SYNCED", keyOf(n.Old, n.New).id)
	}
	for _, r := range []*Row{n.Old, n.New} {
		if r != nil && !c.allowed(n, r) {
			return
		}
	}
	key := keyOf(n.Old, n.New)
	if n.Kind == Truncate {
		key = truncation(n.XID)
	}
	if c.astray[key.id] { // what follows a phantom follows nothing
		return
	}
	d := c.dues[key]
	switch {
	case d == nil, d.xid != n.XID, c.lostOnce(d, n): // of versions that there are: a delete that was lost, say
		c.phantom = append(c.phantom, *n)
		c.astray[key.id] = true
		return
	case d.kind != n.Kind:
		c.broken(OutOfSet, "row %d: %s, must be %s", key.id, n.Kind, d.kind)
	}
	if c.got[d] {
		c.broken(Repeated, "row %d version %d, transaction %d, at %s", key.id, version(n), n.XID, clock(n.At))
		return
	}
	c.got[d] = true
	c.gotTxn[d.xid]++
	if t := c.truth.Txns[d.xid].Committed; n.At.Before(t) { // the database has our clock
		c.broken(Early, "row %d version %d, transaction %d, at %s, and its commit at %s", key.id, version(n), n.XID, clock(n.At), clock(t))
	}
	next, known := c.next[key.id]
	switch {
	case !known && (d.kind == Event || d.kind == Truncate):
		c.since(key.id, d, n)
	case !known && d.kind != Insert:
		c.broken(Lost, "row %d version %d changes and was not there, transaction %d, at %s", key.id, version(n), n.XID, clock(n.At))
	case known && d.place < next:
		c.broken(Order, "row %d version %d, transaction %d, after a later one, or one that stood already, at %s", key.id, version(n), n.XID, clock(n.At))
	case known && d.place > next:
		lost := c.rows[key.id][next]
		c.broken(Lost, "row %d: %d changes before version %d of transaction %d at %s; the first is of transaction %d, committed at %s",
			key.id, d.place-next, version(n), n.XID, clock(n.At), lost.xid, clock(c.truth.Txns[lost.xid].Committed))
	}
	c.next[key.id] = max(next, d.place+1)
	switch n.Kind {
	case Event:
	case Truncate:
		c.emptied(n)
	case Delete:
		delete(c.set, key.id)
	default:
		c.set[key.id] = n.New
	}
	if len(c.xids) == 0 || c.xids[len(c.xids)-1] != n.XID {
		c.xids = append(c.xids, n.XID)
	}
}

// lostOnce reports whether the commit that let it come was lost, and the transaction, which was prepared, was not, and is committed again.
func (c *one) lostOnce(d *due, n *Note) bool {
	again := c.truth.Txns[d.xid].Committed
	return slices.ContainsFunc(c.truth.Lost, func(at time.Time) bool { return at.After(n.At) && at.Before(again) })
}

// since judges the first that comes of something that does not stand: none of before was committed since the beginning.
func (c *one) since(id int64, d *due, n *Note) {
	for _, e := range c.rows[id][:d.place] {
		if t := c.truth.Txns[e.xid].Committed; t.After(c.synced) {
			c.broken(Lost, "%s by transaction %d, committed at %s, before one of transaction %d at %s", e.kind, e.xid, clock(t), n.XID, clock(n.At))
			return
		}
	}
}

// parts judges what batches say of their last transaction.
func (c *one) parts(n *Note) {
	if n.Batch == 0 {
		return
	}
	if c.open != 0 && c.open != n.XID && c.batch != n.Batch {
		c.broken(Parts, "transaction %d was to go on, and %d came at %s", c.open, n.XID, clock(n.At))
	}
	c.batch, c.open = n.Batch, n.XID
	if n.Complete {
		c.open = 0
	}
}

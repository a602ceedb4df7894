package nemesis

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

func (c *one) expired(n *Note) {
	lost := slices.ContainsFunc(c.truth.Lost, func(at time.Time) bool { return at.Before(n.At) })
	if n.Cause == Unknown || n.Cause == LostTail && !lost {
		c.broken(NoCause, "at %s: %s", clock(n.At), n.Said)
	}
	for _, p := range c.phantom { // seen, lost, and withdrawn
		if !slices.ContainsFunc(c.truth.Lost, func(at time.Time) bool { return at.After(p.At.Add(-OnTheWay)) && at.Before(n.At) }) {
			c.broken(Phantom, "row %d at %s: it was never committed", keyOf(p.Old, p.New).id, clock(p.At))
		}
	}
	if len(c.phantom) == 0 {
		c.upTo()
	}
	c.whole(true)
	c.begun, c.synced = false, time.Time{}
}

// upTo looks for changes that came not, although a transaction did that wrote after their commit.
func (c *one) upTo() {
	var newest Snapshot
	for _, x := range c.xids {
		if s := c.truth.Txns[x].Before; s.Xmax > newest.Xmax {
			newest = s
		}
	}
	for id, ds := range c.rows {
		for _, d := range ds[c.next[id]:] {
			if t := c.truth.Txns[d.xid].Committed; newest.sees(d.xid) && t.After(c.synced) {
				c.broken(Lost, "row %d: %s by transaction %d, committed at %s; a later one came", id, d.kind, d.xid, clock(t))
				break
			}
		}
	}
}

// end judges a segment that ends at the end of all.
func (c *one) end() {
	for _, p := range c.phantom {
		c.broken(Phantom, "row %d, transaction %d, at %s: the database does not have it", keyOf(p.Old, p.New).id, p.XID, clock(p.At))
	}
	c.whole(false)
}

// whole judges a segment's transactions. cut: the last may have been cut short.
func (c *one) whole(cut bool) {
	for i, x := range c.xids {
		if cut && (i == len(c.xids)-1 || len(c.phantom) > 0) {
			break
		}
		if got := c.gotTxn[x]; got < c.ofTxn[x] {
			c.broken(Lost, "%d of %d changes of transaction %d, committed at %s", c.ofTxn[x]-got, c.ofTxn[x], x, clock(c.truth.Txns[x].Committed))
		}
	}
	done := map[uint64]bool{}
	for i, x := range c.xids {
		if done[x] {
			c.broken(Split, "transaction %d, by %d", x, c.xids[i-1])
		}
		done[x] = true
	}
	var later []uint64 // than the one looked at; descending
	for _, x := range slices.Backward(c.xids) {
		before := c.truth.Txns[x].Before
		for i := len(later) - 1; i >= 0 && later[i] < before.Xmax; i-- {
			if later[i] != x && before.sees(later[i]) {
				c.broken(Before, "%d came after %d, which wrote when that had committed", later[i], x)
			}
		}
		i, _ := slices.BinarySearchFunc(later, x, func(a, b uint64) int { return cmp.Compare(b, a) })
		later = slices.Insert(later, i, x)
	}
}

// isLast reports whether it is an event that tells subscribers that they may go. Some come after they went.
func (d *due) isLast() bool { return d.kind == Event && d.new.Group == Marker }

// atRest compares the end with the truth.
func (c *one) atRest() {
	for id, ds := range c.rows {
		next, known := c.next[id]
		for _, d := range ds[next:] {
			if t := c.truth.Txns[d.xid].Committed; (known || t.After(c.synced)) && !d.isLast() {
				c.broken(Lost, "row %d: %s by transaction %d, committed at %s; the rows were complete at %s", id, d.kind, d.xid, clock(t), clock(c.synced))
				break
			}
		}
	}
	if c.s.Channel {
		return
	}
	want := map[int64]*Row{}
	for i := range c.truth.Rows[c.s.Table] {
		if r := &c.truth.Rows[c.s.Table][i]; c.s.match(r) {
			want[r.ID] = r
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got := c.set[id]; got == nil || *got != *want[id] {
			c.broken(SetDiffers, "%s is missing, or is %s", show(want[id]), show(got))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.set)) {
		if want[id] == nil {
			c.broken(SetDiffers, "%s is too much", show(c.set[id]))
		}
	}
}

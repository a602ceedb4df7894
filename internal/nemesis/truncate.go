package nemesis

import (
	"cmp"
	"math"
	"slices"
)

// A TRUNCATE must come to everybody who watches the table: as such it is of a row of its own. And it is the end of each row that there
// was, which is a place among the changes of that row.

const noRow = math.MinInt64

func truncation(xid uint64) dueKey { return dueKey{id: noRow, new: int64(xid)} }

// truncations adds those of the table to what must come.
func (c *one) truncations(is []int) {
	slices.SortFunc(is, func(a, b int) int { return cmp.Compare(c.truth.Written[a].Seq, c.truth.Written[b].Seq) })
	var all []*due
	for _, i := range is {
		w := &c.truth.Written[i]
		d := &due{kind: Truncate, xid: w.XID, seq: w.Seq}
		c.owe(noRow, truncation(w.XID), d)
		all = append(all, d)
	}
	if len(all) == 0 {
		return
	}
	for id, ds := range c.rows {
		if id == noRow {
			continue
		}
		var with []*due
		for i, d := range ds {
			d.place = len(with)
			with = append(with, d)
			if d.kind == Delete {
				continue
			}
			next := int64(math.MaxInt64)
			if i+1 < len(ds) {
				next = ds[i+1].seq
			}
			k, _ := slices.BinarySearchFunc(all, d.seq, func(t *due, seq int64) int { return cmp.Compare(t.seq, seq) })
			if k < len(all) && all[k].seq < next {
				with = append(with, &due{kind: Truncate, xid: all[k].xid, seq: all[k].seq, place: len(with)})
			}
		}
		c.rows[id] = with
	}
}

// emptied takes a TRUNCATE for the end of each row that stands.
func (c *one) emptied(n *Note) {
	for id := range c.set {
		ds, next := c.rows[id], c.next[id]
		end := slices.IndexFunc(ds, func(d *due) bool { return d.kind == Truncate && d.xid == n.XID })
		switch {
		case c.astray[id]:
		case end < next: // it is not that row's end
			c.broken(Order, "row %d came before the TRUNCATE of transaction %d, and was written after it", id, n.XID)
		case end > next:
			c.broken(Lost, "row %d: %d changes before the TRUNCATE of transaction %d at %s", id, end-next, n.XID, clock(n.At))
		}
		c.next[id] = max(next, end+1)
	}
	clear(c.set)
}

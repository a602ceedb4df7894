package pg

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// pageRanges reads what is in ranges of transactions, up to a seq.
const pageRanges = pageOf + `
			select c.* from rows from (pg_catalog.unnest($6::xid8[]), pg_catalog.unnest($7::xid8[])) r (lo, hi)
			cross join lateral (
				select c.* from notifyql.change c where c.xid >= r.lo and c.xid <= r.hi and c.seq <= $1::bigint` + pageFilter + `
				order by c.xid, c.seq limit $5::bigint
			) c
			limit $5::bigint` + pageBy

// chunk reads the next transactions of an interval from a place in its order on, each whole, as many as are likely to fill the
// page. The first one was not delivered.
func (r *catchUp) chunk(ctx context.Context, iv *interval, next int) error {
	if first := iv.nth(next); first.large() {
		return r.inside(ctx, first.xid, math.MaxInt64)
	}
	var chunk []listed
	var xids []change.XID
	rows := int64(0)
	for ; next < len(iv.order); next++ {
		t := iv.nth(next)
		if len(chunk) > 0 && (t.large() || rows+t.rows > r.chunkRows) {
			break
		}
		if !r.has(t.xid) {
			rows += t.rows
			chunk, xids = append(chunk, *t), append(xids, t.xid)
		}
	}
	last := chunk[len(chunk)-1].last
	slices.Sort(xids)
	los, his := iv.cover(xids)
	p := r.left()
	p.limit += wholeRows
	var f found
	var marks []change.Mark
	err := r.ask(ctx, func(batch *pgx.Batch) {
		p.ask(pageRanges, last, los, his)(batch, &f)
		if r.at.Upper.ID == 0 { // who is behind them lists them
			queueMarks(batch, xids, &marks)
		}
	})
	if err != nil {
		return err
	}
	if f.more { // of the transactions before the next one all was read
		n := slices.IndexFunc(chunk, func(t listed) bool { return t.xid >= f.next })
		if n == 0 {
			return r.inside(ctx, chunk[0].xid, math.MaxInt64)
		}
		if n > 0 {
			chunk = chunk[:n]
		}
	}
	return r.take(ctx, chunk, &f, marks)
}

// take passes whole transactions, of which the changes wanted were found.
func (r *catchUp) take(ctx context.Context, chunk []listed, f *found, marks []change.Mark) error {
	parts := make(map[change.XID][]change.Change, len(chunk))
	for cs := f.changes; len(cs) > 0; {
		n := 1
		for n < len(cs) && cs[n].XID == cs[0].XID {
			n++
		}
		parts[cs[0].XID], cs = cs[:n:n], cs[n:]
	}
	if len(f.unordered) > 0 {
		orders, err := r.ordersOf(ctx, f.unordered)
		if err != nil {
			return err
		}
		for x, order := range orders {
			inPlaces(parts[x], order)
		}
	}
	marked := make(map[change.XID]change.Mark, len(marks))
	for _, m := range marks {
		marked[m.XID] = m
	}
	before, rows := r.count, int64(0)
	for _, t := range chunk {
		mark, found := change.Mark{XID: t.xid, Seq: t.last}, true
		if r.at.Upper.ID == 0 {
			mark, found = marked[t.xid]
		}
		if !found {
			return gone(t.xid)
		}
		r.pass(parts[t.xid], t.rows, true)
		r.at = r.at.Past(mark)
		if rows += t.rows; r.count >= r.limit || r.bytes >= wholeBytes {
			break
		}
	}
	// So many rows are likely to bring what is missing.
	found := max(int64(r.count-before), 1)
	r.chunkRows = min(max(rows*int64(r.limit-r.count)/found, int64(r.limit)), 16*r.chunkRows, r.lookRows)
	return nil
}

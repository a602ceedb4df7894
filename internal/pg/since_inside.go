package pg

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

const (
	// pageWithin reads what is in a transaction behind a seq, up to another one, and looks at $8 rows at most.
	pageWithin = pageOf + `
			select c.* from (
				select c.* from notifyql.change c
				where c.xid = $1::xid8 and c.seq > $6::bigint and c.seq <= $7::bigint
				order by c.xid, c.seq limit $8::bigint
			) c
			where true` + pageFilter + `
			order by c.xid, c.seq limit $5::bigint` + pageBy
	// lastLooked is the last row that pageWithin looks at where there are so many.
	lastLooked = `
	select c.seq, c.at from notifyql.change c
	where c.xid = $1::xid8 and c.seq > $2::bigint
	order by c.xid, c.seq offset $3::bigint - 1 limit 1`
	// txnHead counts the first rows of a transaction, and tells whether one of them may have another place than its seq gives it.
	txnHead = `
	select count(*), coalesce(pg_catalog.bool_or(c.flags & 2 <> 0), false)
	from (select c.flags from notifyql.change c where c.xid = $1::xid8 order by c.xid, c.seq limit 1001) c`
)

// inside is what was read of one transaction in one go.
type inside struct {
	xid       change.XID
	after     int64
	rows      int64 // wholeRows+1: or more
	unordered bool  // among those rows there is one whose place may be another
	found     found
	marks     []change.Mark // its own
}

// queueInside reads on in a transaction behind a seq, as if its order were that of seq.
func (r *catchUp) queueInside(batch *pgx.Batch, xid change.XID, after, last int64) *inside {
	in := &inside{xid: xid, after: after}
	batch.Queue(txnHead, uint64(xid)).QueryRow(func(row pgx.Row) error { return row.Scan(&in.rows, &in.unordered) })
	r.left().ask(pageWithin, uint64(xid), after, last, r.lookRows)(batch, &in.found)
	queueMarks(batch, []change.XID{xid}, &in.marks)
	return in
}

// left is the page, with what is left of its limit.
func (r *catchUp) left() *page {
	p := r.page
	p.limit = max(1, p.limit-r.count)
	return &p
}

// inside reads on in a transaction, from its beginning or from the place in it, up to the change with seq last in its order.
func (r *catchUp) inside(ctx context.Context, xid change.XID, last int64) error {
	after := int64(0)
	if r.at.Part.XID == xid {
		after = r.at.Part.Seq
	}
	in := r.begun
	read := func(batch *pgx.Batch) { in = r.queueInside(batch, xid, after, last) }
	if r.begun = nil; in == nil || in.xid != xid || in.after != after {
		if err := r.ask(ctx, read); err != nil {
			return err
		}
	}
	if len(in.marks) == 0 {
		return gone(xid)
	}
	var order []int64
	var err error
	switch {
	case in.rows > wholeRows:
		order, err = r.orderOf(ctx, xid, read)
	case in.unordered:
		var orders map[change.XID][]int64
		orders, err = r.ordersOf(ctx, []change.XID{xid})
		order = orders[xid]
	}
	switch {
	case err != nil:
		return err
	case len(in.marks) == 0:
		return gone(xid)
	}
	if order != nil {
		return r.insideOrder(ctx, in, last, order)
	}
	return r.insideSeqs(ctx, in, last)
}

// gone says that a transaction is not in the log that was there, or that a cursor says was there.
func gone(xid change.XID) error {
	return fmt.Errorf("%w: transaction %d is not in the log", change.ErrCursorExpired, xid)
}

// orderOf is the canonical order of a large transaction. Where it must be read first, what is read of the transaction is read again
// behind it, so that one answer says of both that nothing was gone.
func (r *catchUp) orderOf(ctx context.Context, xid change.XID, again func(*pgx.Batch)) ([]int64, error) {
	r.fresh = false
	if order, found := r.orders.look(orderKey{r.to.Era, xid, 0}); found {
		return *order, nil
	}
	order, err := r.order(ctx, r.to.Era, xid, 0)
	if err == nil {
		err = r.ask(ctx, again)
	}
	return order, err
}

// ordersOf reads the canonical orders of small transactions.
func (r *catchUp) ordersOf(ctx context.Context, xids []change.XID) (orders map[change.XID][]int64, err error) {
	err = r.ask(ctx, func(batch *pgx.Batch) {
		batch.Queue(orderKeys, uints(xids), int64(0)).Query(func(rows pgx.Rows) error {
			orders, err = scanOrders(rows)
			return err
		})
	})
	return orders, err
}

func uints(xids []change.XID) []uint64 {
	out := make([]uint64, len(xids))
	for i, x := range xids {
		out[i] = uint64(x)
	}
	return out
}

// insideSeqs moves on in a transaction whose order is that of seq.
func (r *catchUp) insideSeqs(ctx context.Context, in *inside, last int64) error {
	if in.after > last {
		return errAhead
	}
	cs, mark := in.found.changes, in.marks[0]
	end := min(last, mark.Seq)
	if in.found.more {
		part := change.PartOf(&cs[len(cs)-1])
		r.pass(cs, r.lookedAt(in, part.Seq), false)
		r.at = r.at.In(part)
		return nil
	}
	var edge *change.Mark
	if end-in.after > r.lookRows { // there may be more rows than were looked at
		if err := r.ask(ctx, func(batch *pgx.Batch) { queueMark(batch, &edge, lastLooked, in.xid, in.after, r.lookRows) }); err != nil {
			return err
		}
	}
	if edge != nil && edge.Seq < end {
		r.pass(cs, r.lookRows, false)
		r.at = r.at.In(change.Part{XID: in.xid, Seq: edge.Seq, Sum: edge.Sum()})
		return nil
	}
	r.passEnd(cs, r.lookedAt(in, end), mark, last)
	return nil
}

// lookedAt is about how many rows there are up to a seq.
func (r *catchUp) lookedAt(in *inside, seq int64) int64 { return min(max(seq-in.after, 0), r.lookRows) }

// insideOrder moves on in a transaction with another order.
func (r *catchUp) insideOrder(ctx context.Context, in *inside, last int64, order []int64) error {
	at, end := 0, len(order)
	if in.after != 0 {
		if at = slices.Index(order, in.after) + 1; at == 0 {
			return fmt.Errorf("%w: it is in no place of transaction %d", change.ErrCursorInvalid, in.xid)
		}
	}
	if last != math.MaxInt64 {
		if end = slices.Index(order, last) + 1; end < at {
			return errAhead
		}
	}
	cs, behind, err := r.left().inOrder(in.xid, order, at, min(end, at+int(r.lookRows)), func(a ask) (f found, err error) {
		err = r.ask(ctx, func(batch *pgx.Batch) { a(batch, &f) })
		return f, err
	})
	if err != nil {
		return err
	}
	looked := int64(behind - at)
	if behind == end {
		r.passEnd(cs, looked, in.marks[0], last)
		return nil
	}
	part := change.Part{XID: in.xid, Seq: order[behind-1]}
	var mark *change.Mark
	if err := r.ask(ctx, func(batch *pgx.Batch) { queuePart(batch, part, &mark) }); err != nil {
		return err
	}
	if mark == nil {
		return gone(in.xid)
	}
	part.Sum = mark.Sum()
	r.pass(cs, looked, false)
	r.at = r.at.In(part)
	return nil
}

// pass takes changes of one transaction into the page. The place is moved by the caller.
func (r *catchUp) pass(cs []change.Change, looked int64, whole bool) {
	r.looked += looked
	if len(cs) == 0 {
		return
	}
	r.out.Txns = append(r.out.Txns, change.Passed{Before: change.PointAt(r.at), Changes: cs, Whole: whole})
	r.count += len(cs)
	for i := range cs {
		r.bytes += len(cs[i].Old) + len(cs[i].New)
	}
}

// passEnd takes the last changes of a transaction, or of the part of it that leads to the target.
func (r *catchUp) passEnd(cs []change.Change, looked int64, mark change.Mark, last int64) {
	whole := last == math.MaxInt64
	r.pass(cs, looked, whole)
	if whole {
		if n := len(r.out.Txns); n > 0 && r.out.Txns[n-1].Changes[0].XID == mark.XID {
			r.out.Txns[n-1].Whole = true
		}
		r.at = r.at.Past(mark)
	} else {
		r.at = r.at.In(r.to.Part)
	}
}

func queueMark(batch *pgx.Batch, into **change.Mark, query string, xid change.XID, args ...any) {
	batch.Queue(query, append([]any{uint64(xid)}, args...)...).Query(func(rows pgx.Rows) error {
		m := change.Mark{XID: xid}
		_, err := pgx.ForEachRow(rows, []any{&m.Seq, &m.At}, func() error {
			*into = &m
			return nil
		})
		return err
	})
}

package pg

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/change"
)

// maxPage bounds the rows of one page, whatever is asked for.
const maxPage = 5000

// maxOrder bounds the rows of a transaction whose canonical order is not that of seq: the order is kept in memory.
const maxOrder = 1_000_000

// history reads the log for readers. Many call it; so many at a time read as leaves connections of the pool for the sweeper and
// the heartbeat.
type history struct {
	pool  *pgxpool.Pool
	slots chan struct{}
	rows  chan struct{} // of them, those that may be held for as long as somebody takes to read the rows of a table

	rowsTime time.Duration // which that may take

	orders    *shelf[orderKey, []int64] // canonical; nil: that of seq
	ticks     *shelf[change.Stamp, *change.Tick]
	steps     *shelf[change.Stamp, *change.Tick] // up to where is read next behind a tick
	intervals *shelf[intervalKey, interval]

	lookRows int64 // see sinceRows
	listMost int   // see mostListed
}

// orderKey names the changes of one transaction behind a seq. In another era its xid may be another one's.
type orderKey struct {
	era   change.Era
	xid   change.XID
	after int64
}

// What is kept is read page by page, by many, at about the same time.
const (
	keptOrders    = 8
	keptTicks     = 200
	keptIntervals = 20
	keptBytes     = 32 << 20 // of each kind, and one more
)

func newHistory(pool *pgxpool.Pool, slots int32) *history {
	tickBytes := func(t **change.Tick) int64 { return 8*int64(len((*t).Snapshot.Xip)) + 100 }
	return &history{
		pool: pool, slots: make(chan struct{}, slots), rows: make(chan struct{}, max(1, slots/2)), rowsTime: rowsTimeout,
		orders:    newShelf[orderKey](keptOrders, keptBytes, func(seqs *[]int64) int64 { return 8 * int64(cap(*seqs)) }),
		ticks:     newShelf[change.Stamp](keptTicks, keptBytes, tickBytes),
		steps:     newShelf[change.Stamp](keptTicks, keptBytes, tickBytes),
		intervals: newShelf[intervalKey](keptIntervals, keptBytes, (*interval).bytes),
		lookRows:  sinceRows, listMost: mostListed,
	}
}

// enter waits for a turn to read. Whoever has it calls leave.
func (h *history) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// order returns the seqs of the changes of a transaction behind a seq in canonical order; nil if that is the order of seq.
func (h *history) order(ctx context.Context, era change.Era, xid change.XID, after int64) ([]int64, error) {
	seqs, err := h.orders.get(ctx, orderKey{era, xid, after}, func(seqs *[]int64) (err error) {
		*seqs, err = readOrder(ctx, h.pool, xid, after)
		return err
	})
	if err != nil {
		return nil, err
	}
	return *seqs, nil
}

const (
	// isUnordered looks whether any change of a transaction may have another place than its seq gives it.
	isUnordered = `
	select exists (select from notifyql.change c where c.xid = $1::xid8 and c.seq > $2::bigint and c.flags & 2 <> 0)`
	// orderKeys are what the canonical order is made from.
	orderKeys = `
	select c.xid, c.seq, c.op::text, c.watch, c.leaf, c.old_leaf, c.old_ctid, c.new_ctid
	from notifyql.change c
	where c.xid = any($1::xid8[]) and c.seq > $2::bigint
	order by c.xid, c.seq`
)

func readOrder(ctx context.Context, pool *pgxpool.Pool, xid change.XID, after int64) ([]int64, error) {
	var unordered bool
	if err := pool.QueryRow(ctx, isUnordered, uint64(xid), after).Scan(&unordered); err != nil || !unordered {
		return nil, err
	}
	rows, err := pool.Query(ctx, orderKeys, []uint64{uint64(xid)}, after)
	if err != nil {
		return nil, err
	}
	orders, err := scanOrders(rows)
	return orders[xid], err
}

// scanOrders makes the canonical orders of transactions from their keys.
func scanOrders(rows pgx.Rows) (map[change.XID][]int64, error) {
	orders := map[change.XID][]int64{}
	var keys []change.Change
	put := func() {
		if len(keys) == 0 {
			return
		}
		change.Canonical(keys)
		seqs := make([]int64, len(keys))
		for i := range keys {
			seqs[i] = keys[i].Seq
		}
		orders[keys[0].XID] = seqs
		keys = keys[:0]
	}
	defer rows.Close()
	for rows.Next() {
		var xid uint64
		var seq int64
		var op string
		var watch int32
		var leaf, oldLeaf pgtype.Uint32
		var oldTID, newTID pgtype.TID
		if err := rows.Scan(&xid, &seq, &op, &watch, &leaf, &oldLeaf, &oldTID, &newTID); err != nil {
			return nil, err
		}
		if len(keys) > 0 && keys[0].XID != change.XID(xid) {
			put()
		}
		if len(keys) == maxOrder {
			return nil, fmt.Errorf("it has more than %d changes, out of order among themselves", maxOrder)
		}
		keys = append(keys, change.Change{
			XID: change.XID(xid), Seq: seq, Op: opOf(op), Topic: change.Topic{Watch: change.WatchID(watch)},
			Leaf: leaf.Uint32, OldLeaf: oldLeaf.Uint32, OldTID: tid(oldTID), NewTID: tid(newTID),
		})
	}
	put()
	return orders, rows.Err()
}

func tid(t pgtype.TID) change.TID { return change.TID{Block: t.BlockNumber, Offset: t.OffsetNumber} }

// Txn implements subs.History. It waits for its turn; ctx bounds that too. The error wraps change.ErrDropped if some of the
// transaction may be gone from the log.
func (s *Source) Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, topics []change.Topic, tenants []string, limit int) (cs []change.Change, more bool, err error) {
	h := s.history
	leave, err := h.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	p := page{topics: topics, tenants: tenants, limit: min(max(limit, 1), maxPage)}
	order, err := h.order(ctx, stub.Era, xid, stub.AfterSeq)
	switch {
	case err != nil:
	case order == nil:
		from := stub.AfterSeq
		if after != nil {
			from = after.Seq
		}
		var f found
		f, err = h.whole(ctx, xid, stub.Era, p.ask(pageBehind, uint64(xid), from))
		cs, more = f.changes, f.more
	default:
		at := 0
		if after != nil {
			if at = slices.Index(order, after.Seq) + 1; at == 0 {
				err = fmt.Errorf("it has no change with seq %d", after.Seq)
				break
			}
		}
		cs, at, err = p.inOrder(xid, order, at, len(order), func(a ask) (found, error) { return h.whole(ctx, xid, stub.Era, a) })
		more = at < len(order)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading transaction %d from the log: %w", xid, explain(err, h.pool.Config().ConnConfig))
	}
	return cs, more, nil
}

// whole asks for changes of a transaction of which nothing may have been dropped, in an era; zero: any.
func (h *history) whole(ctx context.Context, xid change.XID, era change.Era, a ask) (f found, err error) {
	var batch pgx.Batch
	beginReading(&batch)
	a(&batch, &f)
	batch.Queue(endReading)
	var gone dropped
	askDropped(&batch, &gone)
	err = h.pool.SendBatch(ctx, &batch).Close()
	switch {
	case err != nil:
	case era != 0 && era != gone.era:
		err = change.ErrOtherEra
	case xid <= gone.last:
		err = change.ErrDropped // perhaps not of it, but of what is as old
	}
	return f, err
}

// page is what is wanted in one page.
type page struct {
	topics  []change.Topic
	tenants []string
	limit   int
}

// ask is a question for a page, and found is the answer.
type ask func(batch *pgx.Batch, f *found)

type found struct {
	changes   []change.Change
	more      bool         // there are more, too many for the page or too large
	next      change.XID   // of the first of those
	unordered []change.XID // of changes that may have another place than their seq gives them
}

// The pages read rows of some topics and tenants, in the order of xid and seq. From where the images weigh too much rows
// are cut off, but never the first.
const (
	pageOf = `
	select ` + logColumns + `, case when c.nth = 1 or not c.heavy then c.old end, case when c.nth = 1 or not c.heavy then c.new end,
	       c.nth > 1 and c.heavy
	from (
		select c.*, row_number() over (order by c.xid, c.seq) as nth,
		       sum(` + logWeight + `) over (order by c.xid, c.seq) > 4194304 as heavy
		from (`
	pageFilter = `
			  and c.watch = any($2::integer[]) and (c.channel is null or c.channel = any($3::text[]))
			  and (c.shared or c.op = 'T' or c.tenant = any($4::text[]) or c.old_tenant = any($4::text[]))`
	pageBy = `
		) c
	) c
	order by c.xid, c.seq`

	// pageBehind reads what is in a transaction behind a seq.
	pageBehind = pageOf + `
			select c.* from notifyql.change c
			where c.xid = $1::xid8 and c.seq > $6::bigint` + pageFilter + `
			order by c.xid, c.seq limit $5::bigint` + pageBy
	// pageAmong reads what of a transaction has one of some seqs.
	pageAmong = pageOf + `
			select c.* from pg_catalog.unnest($6::bigint[]) among (seq)
			cross join lateral (
				select c.* from notifyql.change c where c.xid = $1::xid8 and c.seq = among.seq limit 1 -- one look-up each
			) c
			where true` + pageFilter + `
			limit $5::bigint` + pageBy
)

// ask makes the question of a query whose first parameter and whose sixth and later ones are given.
func (p *page) ask(query string, first any, more ...any) ask {
	var watches []int32
	var channels []string
	for _, t := range p.topics {
		watches = append(watches, int32(t.Watch))
		if t.Channel != "" {
			channels = append(channels, t.Channel)
		}
	}
	args := append([]any{first, watches, channels, p.tenants, int64(p.limit) + 1}, more...)
	limit := p.limit
	return func(batch *pgx.Batch, f *found) {
		batch.Queue(query, args...).Query(func(rows pgx.Rows) error { return f.scan(rows, limit) })
	}
}

// scan takes the page out of the rows, which may be more than it holds.
func (f *found) scan(rows pgx.Rows, limit int) error {
	var row logRow
	var cut bool
	bytes := 0
	for rows.Next() {
		if err := row.scan(rows, &cut); err != nil {
			return err
		}
		xid := change.XID(row.xid)
		if n := len(f.changes); cut || n == limit || n > 0 && bytes > rawBytes {
			f.more, f.next = true, xid
			return nil
		}
		bytes += len(row.old) + len(row.new)
		f.changes = append(f.changes, row.change())
		if n := len(f.unordered); row.flags&flagUnordered != 0 && (n == 0 || f.unordered[n-1] != xid) {
			f.unordered = append(f.unordered, xid)
		}
	}
	return rows.Err()
}

// lookPlaces is how many places of a canonical order are looked at in one go: most of them may be others'.
const lookPlaces = 1000

// inOrder reads the page's changes that have a place in the order given, from at up to end. It returns the place behind what
// was looked at: where nothing was found, end.
func (p *page) inOrder(xid change.XID, order []int64, at, end int, read func(ask) (found, error)) ([]change.Change, int, error) {
	look := *p
	for look.limit = lookPlaces; at < end; {
		places := order[at:min(at+look.limit, end)]
		f, err := read(look.ask(pageAmong, uint64(xid), places))
		if err != nil {
			return nil, at, err
		}
		if f.more { // they weigh too much; one alone never does
			look.limit = max(1, look.limit/2)
			continue
		}
		if len(f.changes) == 0 {
			at += len(places)
			continue
		}
		inPlaces(f.changes, places)
		if len(f.changes) > p.limit {
			f.changes = f.changes[:p.limit]
			return f.changes, at + slices.Index(places, f.changes[p.limit-1].Seq) + 1, nil
		}
		return f.changes, at + len(places), nil
	}
	return nil, at, nil
}

// inPlaces sorts changes in the order of their seqs that is given.
func inPlaces(cs []change.Change, order []int64) {
	place := make(map[int64]int, len(order))
	for i, seq := range order {
		place[seq] = i
	}
	slices.SortFunc(cs, func(a, b change.Change) int { return place[a.Seq] - place[b.Seq] })
}

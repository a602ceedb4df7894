package pg

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/change"
)

// maxPage bounds the rows of one page, whatever is asked for.
const maxPage = 5000

// maxOrder bounds the rows of a transaction whose canonical order is not that of seq: the order is kept in memory.
const maxOrder = 1_000_000

// history reads transactions of the log for readers. Many call it; so many at a time read as leaves connections of the pool
// for the sweeper and the heartbeat.
type history struct {
	pool  *pgxpool.Pool
	slots chan struct{}

	mu     sync.Mutex
	orders []*txnOrder // the newest last
}

func newHistory(pool *pgxpool.Pool, poolSize int32) *history {
	return &history{pool: pool, slots: make(chan struct{}, max(1, poolSize-2))}
}

// txnOrder is the canonical order of one transaction's changes from a place on.
type txnOrder struct {
	xid   change.XID
	after int64

	mu   sync.Mutex // held while it is read: who comes meanwhile waits for the same
	read bool
	seqs []int64 // nil: the order is that of seq
}

// keptOrders is for how many transactions the order is kept. They are read page by page, by many, at about the same time.
const keptOrders = 8

// order returns the seqs of the changes that stub means in canonical order; nil if that is the order of seq.
func (h *history) order(ctx context.Context, xid change.XID, stub *change.Stub) ([]int64, error) {
	o := h.kept(xid, stub.AfterSeq)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.read {
		seqs, err := readOrder(ctx, h.pool, xid, stub.AfterSeq)
		if err != nil {
			return nil, err
		}
		o.seqs, o.read = seqs, true
	}
	return o.seqs, nil
}

// kept is the order's place, the same for all who ask for it while it is kept.
func (h *history) kept(xid change.XID, after int64) *txnOrder {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, o := range h.orders {
		if o.xid == xid && o.after == after {
			h.orders = append(slices.Delete(h.orders, i, i+1), o)
			return o
		}
	}
	o := &txnOrder{xid: xid, after: after}
	if len(h.orders) == keptOrders {
		h.orders = slices.Delete(h.orders, 0, 1)
	}
	h.orders = append(h.orders, o)
	return o
}

const (
	// isUnordered looks whether any change of a transaction may have another place than its seq gives it.
	isUnordered = `
	select exists (select from notifyql.change c where c.xid = $1::xid8 and c.seq > $2::bigint and c.flags & 2 <> 0)`
	// orderKeys are what the canonical order is made from.
	orderKeys = `
	select c.seq, c.op::text, c.watch, c.leaf, c.old_leaf, c.old_ctid, c.new_ctid
	from notifyql.change c
	where c.xid = $1::xid8 and c.seq > $2::bigint
	order by c.xid, c.seq`
)

func readOrder(ctx context.Context, pool *pgxpool.Pool, xid change.XID, after int64) ([]int64, error) {
	var unordered bool
	if err := pool.QueryRow(ctx, isUnordered, uint64(xid), after).Scan(&unordered); err != nil || !unordered {
		return nil, err
	}
	rows, err := pool.Query(ctx, orderKeys, uint64(xid), after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []change.Change
	for rows.Next() {
		var seq int64
		var op string
		var watch int32
		var leaf, oldLeaf pgtype.Uint32
		var oldTID, newTID pgtype.TID
		if err := rows.Scan(&seq, &op, &watch, &leaf, &oldLeaf, &oldTID, &newTID); err != nil {
			return nil, err
		}
		if len(keys) == maxOrder {
			return nil, fmt.Errorf("it has more than %d changes, out of order among themselves", maxOrder)
		}
		keys = append(keys, change.Change{
			XID: xid, Seq: seq, Op: opOf(op), Topic: change.Topic{Watch: change.WatchID(watch)},
			Leaf: leaf.Uint32, OldLeaf: oldLeaf.Uint32, OldTID: tid(oldTID), NewTID: tid(newTID),
		})
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	change.Canonical(keys)
	seqs := make([]int64, len(keys))
	for i := range keys {
		seqs[i] = keys[i].Seq
	}
	return seqs, nil
}

func tid(t pgtype.TID) change.TID { return change.TID{Block: t.BlockNumber, Offset: t.OffsetNumber} }

// Txn implements subs.History. It waits for its turn; ctx bounds that too. The error wraps change.ErrDropped if some of the
// transaction may be gone from the log.
func (s *Source) Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, topic change.Topic, tenants []string, limit int) (cs []change.Change, more bool, err error) {
	h := s.history
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	p := page{xid: xid, topic: topic, tenants: tenants, limit: min(max(limit, 1), maxPage)}
	order, err := h.order(ctx, xid, stub)
	switch {
	case err != nil:
	case order == nil:
		from := stub.AfterSeq
		if after != nil {
			from = after.Seq
		}
		cs, more, err = p.rows(ctx, h.pool, pageBehind, from)
	default:
		cs, more, err = p.inOrder(ctx, h.pool, order, after)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading transaction %d from the log: %w", xid, explain(err, h.pool.Config().ConnConfig))
	}
	return cs, more, nil
}

// page is a question for one page of a transaction.
type page struct {
	xid     change.XID
	topic   change.Topic
	tenants []string
	limit   int
}

// pageBehind and pageAmong read rows of one topic and some tenants, behind a seq or with one of some seqs. From where the images
// weigh too much rows are cut off, but never the first.
const (
	pageOf = `
	select ` + logColumns + `, case when c.nth = 1 or not c.heavy then c.old end, case when c.nth = 1 or not c.heavy then c.new end,
	       c.nth > 1 and c.heavy
	from (
		select c.*, row_number() over (order by c.seq) as nth, sum(` + logWeight + `) over (order by c.seq) > 4194304 as heavy
		from (`
	pageFilter = `
			  and c.watch = $2::integer and c.channel is not distinct from $3::text
			  and (c.shared or c.op = 'T' or c.tenant = any($4::text[]) or c.old_tenant = any($4::text[]))`
	pageBy = `
		) c
	) c
	order by c.seq`
	pageBehind = pageOf + `
			select c.* from notifyql.change c
			where c.xid = $1::xid8 and c.seq > $6::bigint` + pageFilter + `
			order by c.xid, c.seq limit $5::bigint` + pageBy
	pageAmong = pageOf + `
			select c.* from pg_catalog.unnest($6::bigint[]) among (seq)
			cross join lateral (
				select c.* from notifyql.change c where c.xid = $1::xid8 and c.seq = among.seq limit 1 -- one look-up each
			) c
			where true` + pageFilter + `
			limit $5::bigint` + pageBy
)

// rows reads the page's changes that are of the range, in the order of seq.
func (p *page) rows(ctx context.Context, pool *pgxpool.Pool, query string, of any) (cs []change.Change, more bool, err error) {
	var channel *string
	if p.topic.Channel != "" {
		channel = &p.topic.Channel
	}
	var batch pgx.Batch
	beginReading(&batch)
	batch.Queue(query, uint64(p.xid), int32(p.topic.Watch), channel, p.tenants, int64(p.limit)+1, of).Query(func(rows pgx.Rows) error {
		cs, more, err = p.scan(rows)
		return err
	})
	batch.Queue(endReading)
	var gone dropped
	askDropped(&batch, &gone)
	if err = pool.SendBatch(ctx, &batch).Close(); err == nil && p.xid <= gone.last {
		err = change.ErrDropped // perhaps not of it, but of what is as old
	}
	return cs, more, err
}

// scan takes the page out of the rows, which may be more than it holds.
func (p *page) scan(rows pgx.Rows) (cs []change.Change, more bool, err error) {
	var row logRow
	var cut bool
	bytes := 0
	for rows.Next() {
		if err := row.scan(rows, &cut); err != nil {
			return nil, false, err
		}
		if cut || len(cs) == p.limit || len(cs) > 0 && bytes > rawBytes {
			return cs, true, nil
		}
		bytes += len(row.old) + len(row.new)
		cs = append(cs, row.change())
	}
	return cs, false, rows.Err()
}

// lookPlaces is how many places of a canonical order are looked at in one go: most of them may be others'.
const lookPlaces = 1000

// inOrder reads the page's changes in the order given.
func (p *page) inOrder(ctx context.Context, pool *pgxpool.Pool, order []int64, after *change.Change) (cs []change.Change, more bool, err error) {
	next := 0
	if after != nil {
		if next = slices.Index(order, after.Seq) + 1; next == 0 {
			return nil, false, fmt.Errorf("it has no change with seq %d", after.Seq)
		}
	}
	look := *p
	for look.limit = lookPlaces; next < len(order); {
		places := order[next:min(next+look.limit, len(order))]
		found, cut, err := look.rows(ctx, pool, pageAmong, places)
		if err != nil {
			return nil, false, err
		}
		if cut { // they weigh too much; one alone never does
			look.limit = max(1, look.limit/2)
			continue
		}
		next += len(places)
		if len(found) == 0 {
			continue
		}
		place := make(map[int64]int, len(places))
		for i, seq := range places {
			place[seq] = i
		}
		slices.SortFunc(found, func(a, b change.Change) int { return place[a.Seq] - place[b.Seq] })
		if len(found) > p.limit {
			return found[:p.limit], true, nil
		}
		return found, next < len(order), nil
	}
	return nil, false, nil
}

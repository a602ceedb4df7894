package pg

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// maxScopes is how many topics and tenants a stub names; one that concerns more concerns anybody.
const maxScopes = 64

// listed is a transaction that the frontier lacks, before it is read.
type listed struct {
	xid   change.XID
	last  int64 // seq of its last row
	rows  int64
	bytes int64 // weight of its images
}

func (t *listed) large() bool { return t.rows > wholeRows || t.bytes > wholeBytes }

// sweepLarge sweeps whatever there is, in parts: first it lists the transactions, then it reads them in order, the small
// ones several at a time, and makes stubs of the large ones.
func (s *sweeper) sweepLarge(ctx context.Context, conn *pgx.Conn, a *feed.Sweep, l *lacking, emit func(feed.Input)) error {
	var batch pgx.Batch
	beginHolding(&batch)
	swept := feed.Swept{ID: a.ID}
	batch.Queue(sweepSnapshot, l.xmin).QueryRow(func(row pgx.Row) error { return scanSnapshot(row, &swept) })
	var gone dropped // as of the snapshot; nothing more is dropped while the transaction lasts
	askDropped(&batch, &gone)
	defer func() {
		if conn.PgConn().TxStatus() != 'I' { // an error; on a connection that is lost this does no harm
			_, _ = conn.Exec(context.WithoutCancel(ctx), endReading)
		}
	}()
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if err := gone.judge(a); err != nil {
		return err
	}
	list, err := listTxns(ctx, conn, l)
	if err != nil {
		return err
	}
	var txns []change.Txn // of the last part, which ends the answer
	for len(list) > 0 {
		if txns != nil {
			part := swept
			part.Txns, part.More = txns, true
			emit(part)
		}
		if txns, list, err = readPart(ctx, conn, l, list); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, endReading); err != nil {
		return err
	}
	swept.Txns = txns
	emit(swept)
	return nil
}

// listRunning and listLater sum up the next rows behind ($5, $6) by transaction, of those that ran when the frontier's snapshot
// was taken, and of the later ones.
const (
	listNext = `
	select p.xid, count(*), max(p.seq), sum(p.weight)
	from (select c.xid, c.seq, ` + logWeight + ` as weight from notifyql.change c
	      where ` + logLacks + ` and (c.xid, c.seq) > ($5::xid8, $6::bigint)`
	listBy = `
	      order by c.xid, c.seq limit 5000) p
	group by p.xid order by p.xid`
	listRunning = listNext + ` and c.xid = any($7::xid8[])` + listBy
	listLater   = listNext + listBy
)

// listTxns lists the transactions that the frontier lacks, in the order in which they are to be dispatched.
func listTxns(ctx context.Context, conn *pgx.Conn, l *lacking) ([]listed, error) {
	list, err := listRange(nil, 0, 0, func(xid uint64, seq int64) (pgx.Rows, error) {
		from, _ := slices.BinarySearch(l.xip, xid)
		return conn.Query(ctx, listRunning, l.args(xid, seq, l.xip[from:])...)
	}, lastOf(ctx, conn))
	if err == nil {
		list, err = listRange(list, l.xmax-1, math.MaxInt64, func(xid uint64, seq int64) (pgx.Rows, error) {
			return conn.Query(ctx, listLater, l.args(xid, seq)...)
		}, lastOf(ctx, conn))
	}
	slices.SortFunc(list, func(a, b listed) int { return l.order(a.xid, a.last, b.xid, b.last) })
	return list, err
}

// listRange appends the transactions of one range. Of a large one not every row is looked at.
func listRange(list []listed, xid uint64, seq int64, next func(xid uint64, seq int64) (pgx.Rows, error), lastOf func(xid uint64) (int64, error)) ([]listed, error) {
	for {
		looked, n := int64(0), len(list)
		rows, err := next(xid, seq)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var t listed
			if err := rows.Scan((*uint64)(&t.xid), &t.rows, &t.last, &t.bytes); err != nil {
				rows.Close()
				return nil, err
			}
			looked += t.rows
			if n > 0 && list[n-1].xid == t.xid { // it goes on from the page before
				last := &list[n-1]
				last.rows, last.last, last.bytes = last.rows+t.rows, t.last, last.bytes+t.bytes
				continue
			}
			list = append(list, t)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		if looked < listRows {
			return list, nil
		}
		last := &list[len(list)-1]
		xid, seq = uint64(last.xid), last.last
		if last.large() {
			if last.last, err = lastOf(xid); err != nil {
				return nil, err
			}
			seq = math.MaxInt64
		}
	}
}

// lastOf finds a transaction's last seq by the index.
func lastOf(ctx context.Context, conn *pgx.Conn) func(xid uint64) (int64, error) {
	return func(xid uint64) (last int64, err error) {
		err = conn.QueryRow(ctx, lastSeq, xid).Scan(&last)
		return last, err
	}
}

const lastSeq = `select c.seq from notifyql.change c where c.xid = $1::xid8 order by c.xid desc, c.seq desc limit 1`

// readPart reads the first transactions of the list, as many as make a part of the answer, and returns the rest of it.
func readPart(ctx context.Context, conn *pgx.Conn, l *lacking, list []listed) ([]change.Txn, []listed, error) {
	if list[0].large() {
		t, err := readStub(ctx, conn, l, list[0])
		return []change.Txn{t}, list[1:], err
	}
	var xids []uint64
	var rows, bytes int64
	for _, t := range list {
		rows, bytes = rows+t.rows, bytes+t.bytes
		if len(xids) > 0 && (t.large() || rows > wholeRows || bytes > wholeBytes) {
			break
		}
		xids = append(xids, uint64(t.xid))
	}
	var read txnReader
	if err := read.xids(ctx, conn, l, xids); err != nil {
		return nil, nil, err
	}
	if read.cut {
		// The images are much larger than they are stored.
		t, err := readStub(ctx, conn, l, list[0])
		return []change.Txn{t}, list[1:], err
	}
	return read.txns(l), list[len(xids):], nil
}

// sweepWhole reads transactions whole.
const sweepWhole = `
	select ` + logColumns + `, c.old, c.new, false
	from notifyql.change c
	where c.xid = any($5::xid8[]) and ` + logLacks + `
	order by c.xid, c.seq`

func (r *txnReader) xids(ctx context.Context, conn *pgx.Conn, l *lacking, xids []uint64) error {
	rows, err := conn.Query(ctx, sweepWhole, l.args(xids)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	return r.rows(rows)
}

// stubScopes are the topics and tenants that a transaction concerns, one more of them than a stub can name.
const stubScopes = `
	select distinct c.watch, c.channel, c.shared or c.op = 'T', c.tenant, c.old_tenant
	from notifyql.change c
	where c.xid = $1::xid8 and c.seq > $2::bigint
	limit $3`

func readStub(ctx context.Context, conn *pgx.Conn, l *lacking, t listed) (change.Txn, error) {
	txn := change.Txn{XID: t.xid, Continued: l.continues(t.xid), Stub: &change.Stub{LastSeq: t.last}}
	if txn.Continued {
		txn.Stub.AfterSeq = l.openSeq
	}
	if err := conn.QueryRow(ctx, selectPart, uint64(t.xid), t.last).Scan(&txn.Stub.LastSeq, &txn.Stub.LastAt); err != nil {
		return txn, err
	}
	rows, err := conn.Query(ctx, stubScopes, uint64(t.xid), txn.Stub.AfterSeq, maxScopes+1)
	if err != nil {
		return txn, err
	}
	defer rows.Close()
	scopes, n := map[change.Scope]struct{}{}, 0
	for ; rows.Next(); n++ {
		var watch int32
		var channel, tenant, oldTenant *string
		var shared bool
		if err := rows.Scan(&watch, &channel, &shared, &tenant, &oldTenant); err != nil {
			return txn, err
		}
		topic := change.Topic{Watch: change.WatchID(watch)}
		if channel != nil {
			topic.Channel = *channel
		}
		if shared {
			scopes[change.Scope{Topic: topic}] = struct{}{}
			continue
		}
		for _, name := range []*string{tenant, oldTenant} {
			if name != nil && *name != "" { // else that image belongs to nobody
				scopes[change.Scope{Topic: topic, Tenant: *name}] = struct{}{}
			}
		}
	}
	if n > maxScopes || rows.Err() != nil {
		return txn, rows.Err()
	}
	txn.Stub.Scopes = make([]change.Scope, 0, len(scopes))
	for scope := range scopes {
		txn.Stub.Scopes = append(txn.Stub.Scopes, scope)
	}
	return txn, nil
}

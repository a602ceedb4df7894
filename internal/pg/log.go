package pg

import (
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/notifyql/notifyql/internal/change"
)

// logColumns are the columns of the log that make a change, but for its images, old and new, which follow them.
const logColumns = `c.xid, c.seq, c.at, c.watch, c.op::text, c.flags, c.shared, c.tenant, c.old_tenant,
	c.leaf, c.old_leaf, c.old_ctid, c.new_ctid, c.channel, c.event_type`

// logWeight is about how many bytes a row's images take as they are stored: what the server can say without unpacking them.
const logWeight = `coalesce(pg_catalog.pg_column_size(c.old), 0) + coalesce(pg_catalog.pg_column_size(c.new), 0)`

// beginReading begins the transaction in which the log is read, of one snapshot and without an xid. The log has next to no
// statistics, and is read by ranges of its index in their order whatever they say: a plan that sorts, or that collects a range
// before it is read, reads all of it for each page.
func beginReading(batch *pgx.Batch) {
	batch.Queue(beginTransaction)
	batch.Queue(readingSettings) // which takes the snapshot
}

// beginHolding is beginReading for a transaction of several answers: while it lasts no slot of the log is emptied, so that
// what its snapshot says was dropped is all that is missing from it. The lock comes before the snapshot.
func beginHolding(batch *pgx.Batch) {
	batch.Queue(beginTransaction)
	batch.Queue("lock table notifyql.change in access share mode")
	batch.Queue(readingSettings)
}

const (
	beginTransaction = "begin isolation level repeatable read, read only"
	readingSettings  = `
	select pg_catalog.set_config(name, value, true)
	from (values ('enable_sort', 'off'), ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('jit', 'off'), ('plan_cache_mode', 'force_generic_plan')) s (name, value)`
	endReading = "commit"
)

// logRow takes rows of the log out of a result, one after the other.
type logRow struct {
	xid                                   uint64
	seq                                   int64
	at                                    time.Time
	watch                                 int32
	op                                    string
	flags                                 int16
	shared                                bool
	tenant, oldTenant, channel, eventType pgtype.Text
	leaf, oldLeaf                         pgtype.Uint32
	oldTID, newTID                        pgtype.TID
	old, new                              []byte
	into                                  []any
}

// scan reads a row that has logColumns, old and new, and then what more goes into extra.
func (r *logRow) scan(rows pgx.Rows, extra ...any) error {
	if r.into == nil {
		r.into = append([]any{
			&r.xid, &r.seq, &r.at, &r.watch, &r.op, &r.flags, &r.shared, &r.tenant, &r.oldTenant,
			&r.leaf, &r.oldLeaf, &r.oldTID, &r.newTID, &r.channel, &r.eventType, &r.old, &r.new,
		}, extra...)
	}
	return rows.Scan(r.into...)
}

// change is the row last scanned. It owns its images.
func (r *logRow) change() change.Change {
	return change.Change{
		XID: change.XID(r.xid), Seq: r.seq, At: r.at.UTC(), Op: opOf(r.op),
		Topic:          change.Topic{Watch: change.WatchID(r.watch), Channel: r.channel.String},
		Unserializable: r.flags&flagUnserializable != 0,
		Shared:         r.shared, Tenant: r.tenant.String, OldTenant: r.oldTenant.String, EventType: r.eventType.String,
		Leaf: r.leaf.Uint32, OldLeaf: r.oldLeaf.Uint32,
		OldTID: tid(r.oldTID), NewTID: tid(r.newTID),
		Old: r.old, New: r.new,
	}
}

// opOf is the log's op. The log's own constraints leave nothing else, but a log can be damaged.
func opOf(text string) change.Op {
	if text == "" {
		return 0
	}
	return change.Op(text[0])
}

// lacking is a frontier in the form in which the log is asked for what it lacks.
type lacking struct {
	xmin    uint64
	xmax    uint64
	xip     []uint64
	done    string // as a pg_snapshot that sees all below doneEnd but these: Postgres finds an xid in it by bisection
	doneEnd uint64
	open    uint64
	openSeq int64
}

func lackingIn(f *change.Frontier) lacking {
	l := lacking{xmin: uint64(f.Snapshot.Xmin), xmax: uint64(f.Snapshot.Xmax), xip: make([]uint64, 0, len(f.Snapshot.Xip)), done: "1:1:", doneEnd: 1}
	for _, x := range f.Snapshot.Xip {
		l.xip = append(l.xip, uint64(x))
	}
	open, openSeq := f.Open()
	l.open, l.openSeq = uint64(open), openSeq
	done := f.Done()
	if len(done) == 0 {
		return l
	}
	l.doneEnd = uint64(done[len(done)-1]) + 1
	var b strings.Builder
	b.WriteString(strconv.FormatUint(uint64(done[0]), 10))
	b.WriteByte(':')
	b.WriteString(strconv.FormatUint(l.doneEnd, 10))
	sep := byte(':')
	for _, x := range done {
		b.WriteByte(sep)
		b.WriteString(strconv.FormatUint(uint64(x), 10))
		sep = ','
	}
	l.done = b.String()
	return l
}

// logLacks is the condition, beside a range of xids, on rows that are visible in the transaction's snapshot and that the
// frontier of $1 … $4 (done, doneEnd, open, openSeq) lacks. A restored dump has rows whose xids are still to come: they are
// there, but not visible.
const logLacks = `
	pg_catalog.pg_visible_in_snapshot(c.xid, (select pg_catalog.pg_current_snapshot()))
	and (c.xid >= $2::xid8 or pg_catalog.pg_visible_in_snapshot(c.xid, $1::pg_snapshot))
	and not (c.xid = $3::xid8 and c.seq <= $4::bigint)`

func (l *lacking) args(more ...any) []any {
	return append([]any{l.done, l.doneEnd, l.open, l.openSeq}, more...)
}

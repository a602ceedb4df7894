package pg

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// goneError says that the log was emptied past the place from which it was read: changes may be missing there, and no answer is
// better than one with a hole.
type goneError struct {
	now change.Snapshot // from where the log is whole
}

func (*goneError) Error() string { return change.ErrDropped.Error() }
func (*goneError) Unwrap() error { return change.ErrDropped }

// dropped is how far the log has been emptied.
type dropped struct {
	last change.XID      // the greatest xid of all rows that were ever dropped
	now  change.Snapshot // of the statement that said so
}

const selectDropped = `select r.dropped, pg_catalog.pg_current_snapshot()::text from notifyql.retention r`

// askDropped asks how far the log has been emptied: in a statement after the transaction that read it, since a slot can be
// emptied while it is read, and a truncated table is empty for older snapshots too; or in a transaction that holds the log.
func askDropped(batch *pgx.Batch, d *dropped) {
	batch.Queue(selectDropped).QueryRow(func(row pgx.Row) (err error) {
		var last uint64
		var now string
		if err = row.Scan(&last, &now); err == nil {
			d.last = change.XID(last)
			d.now, err = change.ParseSnapshot(now)
		}
		return err
	})
}

// holed reports whether rows that the frontier lacks may have been dropped.
func (d *dropped) holed(f *change.Frontier) bool {
	return d.last >= f.Snapshot.Xmax || slices.ContainsFunc(f.Snapshot.Xip, func(x change.XID) bool {
		return x <= d.last && d.now.Sees(x) && !f.Contains(x)
	})
}

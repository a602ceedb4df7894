package pg

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// goneError says that the log was emptied past the place from which it was read: changes may be missing there, and no answer is
// better than one with a hole.
type goneError struct{}

func (*goneError) Error() string { return change.ErrDropped.Error() }
func (*goneError) Unwrap() error { return change.ErrDropped }

// dropped is how far the log has been emptied, and in which life of the server that was said.
type dropped struct {
	last change.XID      // the greatest xid of all rows that were ever dropped
	now  change.Snapshot // of the statement that said so
	era  change.Era      // zero: a new one that no node has entered yet
}

const selectDropped = `select r.dropped, pg_catalog.pg_current_snapshot()::text, coalesce(notifyql.era(), 0) from notifyql.retention r`

// askDropped asks how far the log has been emptied: in a statement after the transaction that read it, since a slot can be
// emptied while it is read, and a truncated table is empty for older snapshots too; or in a transaction that holds the log.
func askDropped(batch *pgx.Batch, d *dropped) {
	batch.Queue(selectDropped).QueryRow(func(row pgx.Row) (err error) {
		var last uint64
		var now string
		var era int64
		if err = row.Scan(&last, &now, &era); err == nil {
			d.last, d.era = change.XID(last), change.Era(era)
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

// judge says whether what was read for a sweep counts: the log was whole, and of the life of the server that was meant.
func (d *dropped) judge(a *feed.Sweep) error {
	switch {
	case d.era != a.Era:
		return change.ErrOtherEra
	case d.holed(&a.From):
		return &goneError{}
	}
	return nil
}

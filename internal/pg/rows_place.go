package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/notifyql/notifyql/internal/change"
)

// maxBeyond is how many logged transactions there may be that a snapshot sees and its newest tick does not: a cursor lists them.
const maxBeyond = 500

// rowsMoment is the moment of a reading transaction's snapshot.
type rowsMoment struct {
	era     *int64 // nil: nobody has entered it since a crash
	standby bool
	tick    *change.Tick  // the newest one visible; nil: none
	marks   []change.Mark // of what the tick does not see
	gone    dropped       // how far the log has been emptied
}

// fit reports whether a cursor can be made of it, from which can be read on: a tick that nothing was logged after can be one that
// nothing can be read from any more.
func (m *rowsMoment) fit() bool {
	if m.era == nil || m.tick == nil || len(m.marks) > maxBeyond {
		return false
	}
	from := change.NewFrontier(m.tick.Snapshot)
	for _, mark := range m.marks {
		from.Add(mark.XID)
	}
	return !m.gone.holed(&from)
}

func (m *rowsMoment) cursor() change.Cursor {
	return change.NewPosition(change.Era(*m.era), *m.tick, m.marks).Point().Cursor()
}

const (
	selectMoment = `
	select notifyql.era(), pg_is_in_recovery(), t.id, t.bits, t.snapshot::text
	from (select) one left join (select t.id, t.bits, t.snapshot from notifyql.tick t order by t.id desc limit 1) t on true`

	// selectBeyond finds the last rows of the visible transactions that ran when the tick was taken, and of the first $3 later
	// ones: each by a look into the index, however many rows there are.
	selectBeyond = `
	with recursive later (xid) as (
	  (select c.xid from notifyql.change c where c.xid >= $1::xid8 order by c.xid, c.seq limit 1)
	  union all
	  select (select c.xid from notifyql.change c where c.xid > l.xid order by c.xid, c.seq limit 1) from later l where l.xid is not null
	)
	select x.xid, m.seq, m.at
	from (select unnest($2::xid8[]) as xid
	      union all
	      (select l.xid from later l where pg_visible_in_snapshot(l.xid, pg_current_snapshot()) limit $3::bigint)) x
	cross join lateral (select c.seq, c.at from notifyql.change c where c.xid = x.xid order by c.xid desc, c.seq desc limit 1) m`
)

// queueMoment asks for all but the marks.
func (m *rowsMoment) queue(batch *pgx.Batch) {
	askDropped(batch, &m.gone)
	batch.Queue(selectMoment).QueryRow(func(row pgx.Row) error {
		var id, bits pgtype.Int8
		var snapshot pgtype.Text
		if err := row.Scan(&m.era, &m.standby, &id, &bits, &snapshot); err != nil || !id.Valid {
			return err
		}
		m.tick = &change.Tick{Stamp: change.Stamp{ID: id.Int64, Bits: uint64(bits.Int64)}}
		var err error
		m.tick.Snapshot, err = change.ParseSnapshot(snapshot.String)
		return err
	})
}

// readMarks reads the marks, one more than fit at most. The settings by which the log is read end with the savepoint.
func (m *rowsMoment) readMarks(ctx context.Context, conn *pgx.Conn) error {
	s := m.tick.Snapshot
	xip := make([]uint64, len(s.Xip))
	for i, x := range s.Xip {
		xip[i] = uint64(x)
	}
	var batch pgx.Batch
	batch.Queue("savepoint log")
	batch.Queue(readingSettings)
	batch.Queue(selectBeyond, uint64(s.Xmax), xip, maxBeyond+1).Query(func(rows pgx.Rows) error {
		var mark change.Mark
		_, err := pgx.ForEachRow(rows, []any{(*uint64)(&mark.XID), &mark.Seq, &mark.At}, func() error {
			m.marks = append(m.marks, mark)
			return nil
		})
		return err
	})
	batch.Queue("rollback to savepoint log")
	return conn.SendBatch(ctx, &batch).Close()
}

// enterHistory does what a fit moment needs: it begins the era, and makes a tick if there is none newer than the one given.
func enterHistory(ctx context.Context, conn *pgx.Conn, than *change.Tick) error {
	if _, err := enter(ctx, conn); err != nil {
		return err
	}
	var after *int64
	if than != nil {
		after = &than.ID
	}
	var newest int64
	return inWriting(ctx, conn, makeTick, &newest, after)
}

package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// place is a moment of the history: a snapshot, the newest tick visible in it, the marks of the logged transactions that the
// snapshot sees and the tick does not, and the mode of the stream.
type place struct {
	snapshot change.Snapshot
	tick     change.Tick
	done     []change.Mark
	mode     feed.ModeRow
}

// readPlace is one statement, and so of one snapshot, that gives one text.
const readPlace = `
	with tick as (select t.id, t.bits, t.snapshot from notifyql.tick t order by t.id desc limit 1),
	     later as (
	       select distinct c.xid from notifyql.change c where c.xid >= (select pg_catalog.pg_snapshot_xmax(snapshot) from tick)
	       union
	       select distinct c.xid from notifyql.change c where c.xid = any(array(select pg_catalog.pg_snapshot_xip(snapshot) from tick)))
	select pg_catalog.json_build_object(
	  'snapshot', pg_catalog.pg_current_snapshot()::text,
	  'busy', (select m.busy from notifyql.mode m), 'number', (select m.number from notifyql.mode m),
	  'id', (select id from tick), 'bits', (select bits from tick), 'tick', (select snapshot::text from tick),
	  'done', (select pg_catalog.json_agg(pg_catalog.json_build_object('xid', x.xid::text::bigint, 'seq', l.seq, 'at', ` + microseconds + `))
	           from later x
	           cross join lateral (select l.seq, l.at from notifyql.change l where l.xid = x.xid order by l.xid desc, l.seq desc limit 1) l
	           where pg_catalog.pg_visible_in_snapshot(x.xid, pg_catalog.pg_current_snapshot())))::text`

const microseconds = `(pg_catalog.date_part('epoch', l.at) * 1000000)::bigint`

func parsePlace(text string) (p place, err error) {
	var raw struct {
		Snapshot string
		ID, Bits int64
		Tick     string
		Busy     bool
		Number   int64
		Done     []struct {
			XID     uint64
			Seq, At int64
		}
	}
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return p, fmt.Errorf("reading where the history is: %w", err)
	}
	if raw.ID == 0 {
		return p, errors.New("reading where the history is: there is no tick")
	}
	if p.snapshot, err = change.ParseSnapshot(raw.Snapshot); err != nil {
		return p, err
	}
	p.mode = modeRow(raw.Busy, raw.Number)
	p.tick.Stamp = change.Stamp{ID: raw.ID, Bits: uint64(raw.Bits)}
	if p.tick.Snapshot, err = change.ParseSnapshot(raw.Tick); err != nil {
		return p, err
	}
	for _, m := range raw.Done {
		p.done = append(p.done, change.Mark{XID: change.XID(m.XID), Seq: m.Seq, At: time.UnixMicro(m.At).UTC()})
	}
	return p, nil
}

func modeRow(busy bool, number int64) feed.ModeRow {
	if busy {
		return feed.ModeRow{Mode: feed.Busy, Number: number}
	}
	return feed.ModeRow{Mode: feed.Quiet, Number: number}
}

// What writes says so, whatever the login's defaults are.
const (
	beginWriting = "begin isolation level read committed, read write"
	enterEra     = `select notifyql.enter()`
	makeTick     = `select notifyql.tick($1)`
)

// enter begins what must be there before the history is read, and returns the era.
func enter(ctx context.Context, conn *pgx.Conn) (change.Era, error) {
	var era *int64
	if err := inWriting(ctx, conn, enterEra, &era); err != nil {
		return 0, fmt.Errorf("entering the history: %w", err)
	}
	if era == nil {
		return 0, errors.New("entering the history: it has no era")
	}
	return change.Era(*era), nil
}

// batcher is a connection or a pool.
type batcher interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// inWriting runs a query of one value in a transaction of its own.
func inWriting(ctx context.Context, on batcher, query string, into any, args ...any) error {
	var batch pgx.Batch
	batch.Queue(beginWriting)
	batch.Queue(query, args...).QueryRow(func(row pgx.Row) error { return row.Scan(into) })
	batch.Queue("commit")
	return on.SendBatch(ctx, &batch).Close()
}

// verify looks whether what a place stands for is still there, in an era that has just begun: nil, or an error that wraps
// change.ErrCursorExpired, or another one if it can't be told.
func verify(ctx context.Context, conn *pgx.Conn, at *change.Point) error {
	c := at.Cursor()
	var tick *change.Tick
	var marks []change.Mark
	var part *change.Mark
	var s dropped
	var batch pgx.Batch
	beginReading(&batch)
	queueTick(&batch, c.Tick.ID, &tick)
	queueMarks(&batch, c.Done, &marks)
	queuePart(&batch, c.Part, &part)
	batch.Queue(endReading)
	askDropped(&batch, &s)
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("looking whether the server has lost something: %w", err)
	}
	recheck, err := c.Check(tick, nil, change.Standing{Era: s.era, Now: s.now, Dropped: s.last})
	if err == nil && recheck {
		err = c.Recheck(marks, part)
	}
	return err
}

const selectTick = `select t.bits, t.snapshot::text from notifyql.tick t where t.id = $1`

// queueTick reads the tick with an id; nil if there is none.
func queueTick(batch *pgx.Batch, id int64, into **change.Tick) {
	batch.Queue(selectTick, id).Query(func(rows pgx.Rows) error {
		var bits int64
		var text string
		_, err := pgx.ForEachRow(rows, []any{&bits, &text}, func() (err error) {
			t := &change.Tick{Stamp: change.Stamp{ID: id, Bits: uint64(bits)}}
			t.Snapshot, err = change.ParseSnapshot(text)
			*into = t
			return err
		})
		return err
	})
}

// selectMarks reads the marks of transactions that are visible: each the last row's, by the index.
const selectMarks = `
	select x.xid, l.seq, l.at
	from pg_catalog.unnest($1::text::xid8[]) x (xid)
	cross join lateral (select l.seq, l.at from notifyql.change l where l.xid = x.xid order by l.xid desc, l.seq desc limit 1) l
	where pg_catalog.pg_visible_in_snapshot(x.xid, pg_catalog.pg_current_snapshot())`

func queueMarks(batch *pgx.Batch, xids []change.XID, into *[]change.Mark) {
	list := []byte{'{'}
	for i, x := range xids {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendUint(list, uint64(x), 10)
	}
	batch.Queue(selectMarks, string(append(list, '}'))).Query(func(rows pgx.Rows) error {
		var xid uint64
		var m change.Mark
		_, err := pgx.ForEachRow(rows, []any{&xid, &m.Seq, &m.At}, func() error {
			m.XID = change.XID(xid)
			*into = append(*into, m)
			return nil
		})
		return err
	})
}

const selectPart = `select l.seq, l.at from notifyql.change l where l.xid = $1::xid8 and l.seq = $2`

// queuePart reads the mark of the change at a place inside of a transaction; nil if it is not there.
func queuePart(batch *pgx.Batch, p change.Part, into **change.Mark) {
	batch.Queue(selectPart, uint64(p.XID), p.Seq).Query(func(rows pgx.Rows) error {
		m := change.Mark{XID: p.XID}
		_, err := pgx.ForEachRow(rows, []any{&m.Seq, &m.At}, func() error {
			*into = &m
			return nil
		})
		return err
	})
}

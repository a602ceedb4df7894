package pg

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// chooseTick chooses the tick up to which is read next behind tick $1 of xmax $2 on the way to tick $3: the furthest one behind
// which there are not too many rows, or else the next one. Of those that would do it is the one with the roundest id, and more than
// half as far: so those who come from different ticks soon go by the same ones. It tells whether it depends on $3. Too many are $4.
const chooseTick = `
	with far as materialized (
	  select c.xid from notifyql.change c where c.xid >= $2::xid8 order by c.xid, c.seq offset $4 limit 1
	), beyond as materialized (
	  select t.id, 64 - pg_catalog."position"(($1::bigint # (t.id - 1))::bit(64), b'1') as zeros
	  from notifyql.tick t, far
	  where t.id > $1 and t.id <= $3 and pg_catalog.pg_snapshot_xmax(t.snapshot) > far.xid
	  order by t.id limit 1
	)
	select t.id, t.bits, t.snapshot::text, not exists (select from beyond)
	from notifyql.tick t
	where t.id = coalesce(
	  (select max(b.id) from notifyql.tick b, beyond where b.id > $1 and b.id <= (beyond.id - 1) >> zeros << zeros),
	  (select max(b.id) from notifyql.tick b, beyond where b.id > $1 and b.id < beyond.id),
	  (select id from beyond), $3)`

// begin chooses the next interval.
func (r *catchUp) begin(ctx context.Context) error {
	if u, found := r.steps.look(r.at.Tick); found && (*u).ID <= r.to.Tick.ID {
		r.above = *u
	} else if err := r.choose(ctx); err != nil {
		return err
	}
	r.at = r.at.Toward(r.above.Stamp)
	return nil
}

func (r *catchUp) choose(ctx context.Context) error {
	var u *change.Tick
	var depends bool
	err := r.ask(ctx, func(batch *pgx.Batch) {
		batch.Queue(chooseTick, r.at.Tick.ID, uint64(r.below.Snapshot.Xmax), r.to.Tick.ID, r.lookRows).Query(func(rows pgx.Rows) (err error) {
			u, err = scanTick(rows, &depends)
			return err
		})
	})
	if err != nil {
		return err
	}
	if u == nil {
		return errNoTick
	}
	r.ticks.put(u.Stamp, u)
	if !depends {
		r.steps.put(r.at.Tick, u)
	}
	r.above = u
	return nil
}

// scanTick reads the one tick that there is in a result; nil if there is none.
func scanTick(rows pgx.Rows, more ...any) (*change.Tick, error) {
	var t *change.Tick
	var id, bits int64
	var text string
	_, err := pgx.ForEachRow(rows, append([]any{&id, &bits, &text}, more...), func() (err error) {
		t = &change.Tick{Stamp: change.Stamp{ID: id, Bits: uint64(bits)}}
		t.Snapshot, err = change.ParseSnapshot(text)
		return err
	})
	return t, err
}

// between reads the next transactions of the interval, or ends it.
func (r *catchUp) between(ctx context.Context) error {
	iv, err := r.interval(ctx)
	if err != nil {
		return err
	}
	next := iv.behind(r.at.Last)
	for next < len(iv.order) && r.has(iv.nth(next).xid) {
		next++
	}
	switch {
	case next < len(iv.order) && r.at.Part.XID != 0:
		return errAhead
	case next < len(iv.order):
		return r.chunk(ctx, iv, next)
	case iv.upTo < math.MaxInt64:
		r.at.Last = iv.upTo
		return nil
	}
	var beyond []change.Mark
	if xids := r.at.Beyond(r.above); len(xids) > 0 {
		if err := r.ask(ctx, func(batch *pgx.Batch) { queueMarks(batch, xids, &beyond) }); err != nil {
			return err
		}
		if len(beyond) < len(xids) {
			return fmt.Errorf("%w: the log has no longer what was delivered", change.ErrCursorExpired)
		}
	}
	r.at, r.below, r.above = r.at.At(r.above, beyond), r.above, nil
	return nil
}

// interval is the list of the one that the place is in, as far as it is needed there.
func (r *catchUp) interval(ctx context.Context) (*interval, error) {
	r.fresh = false
	key := intervalKey{below: r.at.Tick, above: r.at.Upper}
	iv, found := r.intervals.find(func(k intervalKey, iv *interval) bool {
		return k.below == key.below && k.above == key.above && iv.follows(r.at.Last)
	})
	for !found {
		var err error
		iv, err = r.intervals.get(ctx, key, func(iv *interval) error {
			iv.begin(r.below, r.above, key.from, r.listMost)
			return iv.read(ctx, r.pool, r.lookRows)
		})
		if err != nil {
			return nil, err
		}
		found = iv.follows(r.at.Last)
		key.from = r.at.Last // it is too large a one to be listed whole
	}
	return iv, nil
}

// has reports whether a transaction is listed as delivered.
func (r *catchUp) has(x change.XID) bool {
	_, found := slices.BinarySearch(r.at.Done, x)
	return found
}

// end goes from the target's tick to the target.
func (r *catchUp) end(ctx context.Context) error {
	var lacking []change.XID
	for _, x := range r.to.Done {
		if !r.has(x) {
			lacking = append(lacking, x)
		}
	}
	if len(lacking) == 0 {
		if r.to.Part.XID == 0 || r.at.Part == r.to.Part {
			return fmt.Errorf("%w: what it says was delivered is not what there was", change.ErrCursorInvalid)
		}
		return r.inside(ctx, r.to.Part.XID, r.to.Part.Seq)
	}
	if r.at.Part.XID != 0 {
		return errAhead
	}
	r.fresh = false
	var iv interval
	iv.single(lacking)
	if err := iv.read(ctx, r.pool, r.lookRows); err != nil {
		return err
	}
	if len(iv.list) < len(lacking) {
		return fmt.Errorf("%w: the log does not reach back so far", change.ErrCursorExpired)
	}
	return r.chunk(ctx, &iv, 0)
}

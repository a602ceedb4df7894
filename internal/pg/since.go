package pg

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// What one call of Since does, about: it ends with the step that reaches one of these, or the limit, or wholeBytes.
const (
	sinceRows = 20_000 // of the log, looked at; an interval has about so many at most, if ticks are that near
	sinceTime = 250 * time.Millisecond
)

// What is wrong with a place to be reached.
var (
	errAhead  = fmt.Errorf("%w: the cursor is ahead of this node, which must catch up first", change.ErrTarget)
	errNoTick = fmt.Errorf("%w: its tick is not in the log any more", change.ErrTarget)
)

// Since implements subs.History. It waits for its turn; ctx bounds that too.
func (s *Source) Since(ctx context.Context, from, to change.Cursor, topics []change.Topic, tenants []string, limit int) (change.Page, error) {
	h := s.history
	leave, err := h.enter(ctx)
	if err != nil {
		return change.Page{}, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	limit = min(max(limit, 1), maxPage)
	r := catchUp{
		history: h, from: from, to: to, at: from, began: time.Now(), chunkRows: int64(max(limit, 200)),
		page: page{topics: topics, tenants: tenants, limit: limit},
	}
	r.at.Era = to.Era
	err = r.run(ctx)
	switch {
	case err == nil:
		return r.out, nil
	case isPlace(err):
		return change.Page{}, err
	}
	return change.Page{}, fmt.Errorf("reading what follows a cursor: %w", explain(err, h.pool.Config().ConnConfig))
}

// isPlace reports whether an error is one of the place, and not of the database.
func isPlace(err error) bool {
	return errors.Is(err, change.ErrCursorExpired) || errors.Is(err, change.ErrCursorInvalid) || errors.Is(err, change.ErrOtherEra) || errors.Is(err, change.ErrTarget)
}

// catchUp is one call of Since: step by step it moves a place, at, along the history, and collects what that passes. None of it
// counts before it was judged.
type catchUp struct {
	*history
	page
	from, to, at change.Cursor

	out       change.Page
	count     int // changes in out
	bytes     int // of their images
	looked    int64
	chunkRows int64 // how many rows are to be looked at in one go
	began     time.Time

	// The ticks of at, of its Upper, and of to.
	below, above, target *change.Tick

	fresh       bool    // nothing was read since the standing was asked for
	standing    dropped // and with it the ticks of from
	tick, upper *change.Tick
	torn        bool          // the transaction that from is in: its rest does not follow its beginning
	marks       []change.Mark // of from, if it is of another era
	part        *change.Mark

	begun *inside // what the first question brought of the transaction that from is in
}

func (r *catchUp) run(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	for !sameCursor(&r.at, &r.to) {
		if err := r.step(ctx); err != nil {
			if isPlace(err) {
				if better := r.judge(ctx); better != nil {
					return better
				}
			}
			return err
		}
		if r.full() && !sameCursor(&r.at, &r.from) && r.mayRest() {
			break
		}
	}
	r.out.Next, r.out.Arrived = r.at, sameCursor(&r.at, &r.to)
	return r.judge(ctx)
}

func sameCursor(a, b *change.Cursor) bool {
	return a.Tick == b.Tick && a.Era == b.Era && slices.Equal(a.Done, b.Done) && a.Sum == b.Sum && a.Part == b.Part && a.Upper == b.Upper && a.Last == b.Last
}

// full reports whether the page is.
func (r *catchUp) full() bool {
	return r.count >= r.limit || r.bytes >= wholeBytes || r.looked >= r.lookRows || time.Since(r.began) >= sinceTime
}

// mayRest reports whether a cursor can stand for where the page is. It names one transaction delivered in part only; inside of
// an interval that is one of the interval.
func (r *catchUp) mayRest() bool { return r.at.Upper.ID == 0 || !r.atTarget() }

// atTarget reports whether the place is inside of the transaction that the target is inside of.
func (r *catchUp) atTarget() bool { return r.at.Part.XID != 0 && r.at.Part.XID == r.to.Part.XID }

// step does one thing on the way: reads on in a transaction, reads the next ones of an interval, begins one or ends one.
func (r *catchUp) step(ctx context.Context) error {
	switch at := &r.at; {
	case at.Part.XID != 0 && !r.atTarget():
		return r.inside(ctx, at.Part.XID, math.MaxInt64)
	case at.Upper.ID != 0:
		return r.between(ctx)
	case at.Tick.ID < r.to.Tick.ID:
		return r.begin(ctx)
	}
	return r.end(ctx)
}

// ask reads the log in a transaction, and then asks for the standing.
func (r *catchUp) ask(ctx context.Context, queue func(batch *pgx.Batch)) error {
	var batch pgx.Batch
	beginReading(&batch)
	queue(&batch)
	batch.Queue(endReading)
	askDropped(&batch, &r.standing)
	r.tick, r.upper = nil, nil
	queueTick(&batch, r.from.Tick.ID, &r.tick)
	if r.from.Upper.ID != 0 {
		queueTick(&batch, r.from.Upper.ID, &r.upper)
	}
	err := r.pool.SendBatch(ctx, &batch).Close()
	r.fresh = err == nil
	return err
}

// judge says whether all was still there that was to be read from the cursor on, and whether it was what it had been.
func (r *catchUp) judge(ctx context.Context) error {
	if !r.fresh {
		if err := r.ask(ctx, func(*pgx.Batch) {}); err != nil {
			return err
		}
	}
	s := change.Standing{Era: r.standing.era, Now: r.standing.now, Dropped: r.standing.last}
	if s.Era == 0 || s.Era != r.to.Era {
		return change.ErrOtherEra
	}
	recheck, err := r.from.Check(r.tick, r.upper, s)
	if err == nil && recheck {
		err = r.from.Recheck(r.marks, r.part)
	}
	return err
}

// look finds out what must be known before anything is read: the ticks, whether the cursor is good, and whether it is behind the
// target. Where the ticks are known it asks nothing: who goes on is judged when he has read.
func (r *catchUp) look(ctx context.Context) error {
	known := r.know(&r.below, r.from.Tick) && r.know(&r.above, r.from.Upper) && r.know(&r.target, r.to.Tick)
	if !known || r.from.Era != r.to.Era || r.from.Part.XID != 0 || sameCursor(&r.at, &r.to) {
		if err := r.lookUp(ctx); err != nil {
			return err
		}
	}
	err := r.valid()
	if err != nil && !r.fresh {
		if err := r.lookUp(ctx); err != nil {
			return err
		}
		return r.valid()
	}
	return err
}

// know finds a tick that is known. There may be none to find.
func (r *catchUp) know(into **change.Tick, s change.Stamp) bool {
	if s.ID == 0 {
		return true
	}
	t, found := r.ticks.look(s)
	if found {
		*into = *t
	}
	return found
}

// selectTorn says whether what follows a place in a transaction is behind others that come first.
const selectTorn = `select exists (select from notifyql.torn t where t.xid = $1::xid8)`

// lookUp asks the database, and reads on in the transaction that the cursor is in.
func (r *catchUp) lookUp(ctx context.Context) error {
	var target *change.Tick
	err := r.ask(ctx, func(batch *pgx.Batch) {
		if r.from.Era != r.to.Era {
			queueMarks(batch, r.from.Done, &r.marks)
			queuePart(batch, r.from.Part, &r.part)
		}
		if r.from.Part.XID != 0 {
			batch.Queue(selectTorn, uint64(r.from.Part.XID)).QueryRow(func(row pgx.Row) error { return row.Scan(&r.torn) })
		}
		if r.from.Part.XID != 0 && !r.atTarget() {
			r.begun = r.queueInside(batch, r.from.Part.XID, r.from.Part.Seq, math.MaxInt64)
		}
		queueTick(batch, r.to.Tick.ID, &target)
	})
	if err == nil {
		err = r.judge(ctx)
	}
	if err != nil {
		return err
	}
	if target == nil || target.Stamp != r.to.Tick {
		return errNoTick
	}
	if r.torn {
		return fmt.Errorf("%w: it is inside of a transaction that went on behind others", change.ErrCursorExpired)
	}
	r.below, r.above, r.target = r.tick, r.upper, target
	for _, t := range []*change.Tick{r.tick, r.upper, target} {
		if t != nil {
			r.ticks.put(t.Stamp, t)
		}
	}
	return nil
}

// valid says whether the cursor makes sense, and is behind the target.
func (r *catchUp) valid() error {
	from, claims := &r.from, r.from.Done
	bad := from.Upper.ID != 0 && from.Upper.ID <= from.Tick.ID
	if x := from.Part.XID; x != 0 {
		bad = bad || r.below.Snapshot.Sees(x) || slices.Contains(from.Done, x) || r.above != nil && !r.above.Snapshot.Sees(x)
		if !r.atTarget() {
			claims = append(slices.Clone(claims), x)
		}
	}
	if bad || slices.ContainsFunc(from.Done, r.below.Snapshot.Sees) {
		return fmt.Errorf("%w: it contradicts itself", change.ErrCursorInvalid)
	}
	ahead := from.Tick.ID > r.to.Tick.ID || from.Upper.ID > r.to.Tick.ID
	for _, x := range claims {
		if r.fresh && !r.standing.now.Sees(x) {
			return fmt.Errorf("%w: it names a transaction that has not ended", change.ErrCursorInvalid)
		}
		_, done := slices.BinarySearch(r.to.Done, x)
		ahead = ahead || !done && !r.target.Snapshot.Sees(x)
	}
	if ahead {
		return errAhead
	}
	return nil
}

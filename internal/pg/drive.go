package pg

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// drive serves one machine of the feed: it tells it what happens in the database, and carries out what it asks for.
type drive struct {
	pool     *pgxpool.Pool
	state    *state
	listener *listener // nil: what is new is relayed by another node
	sweeper  *sweeper
	ticker   *ticker
	every    time.Duration // a heartbeat
	beats    atomic.Bool   // heartbeats are wanted
}

func newDrive(pool *pgxpool.Pool, st *state, seen *atomic.Int64, beat time.Duration) *drive {
	return &drive{
		pool: pool, state: st, every: beat,
		sweeper: newSweeper(pool, st, seen),
		ticker:  &ticker{pool: pool, state: st, asks: make(chan int64, 1)},
	}
}

// run serves emit until ctx is done. Of what a session of the listener tells, on has what concerns others than the machine.
func (d *drive) run(ctx context.Context, emit func(feed.Input), on sessionEvents) {
	var wg sync.WaitGroup
	if d.listener != nil {
		on.emit = func(in feed.Input) {
			if _, ok := in.(feed.Opened); ok {
				d.pool.Reset() // what the listener has found dead is most likely dead for all
				d.sweeper.hurry()
				on.catalog()
			}
			emit(in)
		}
		on.unreadable, on.seen = d.state.unreadable, d.sweeper.seen
		d.listener.on = on
		wg.Go(func() { d.listener.run(ctx) })
	}
	wg.Go(func() { d.sweeper.run(ctx, emit) })
	wg.Go(func() { d.ticker.run(ctx, emit) })
	wg.Go(func() { d.beat(ctx, emit) })
	wg.Wait()
}

func (d *drive) do(a feed.Action) {
	switch a := a.(type) {
	case feed.Sweep:
		d.sweeper.ask(a)
	case feed.Tick:
		d.ticker.ask(a.After)
	case feed.Reopen:
		if d.listener != nil {
			d.state.log.Warn("the listener connection is replaced", "reason", a.Reason)
			d.listener.reopen(a.Reason)
		}
	}
}

func (d *drive) settle() bool { return d.listener != nil && d.listener.settle() }

// heartbeat is one statement: what it reads, it reads in one snapshot, of a transaction without an xid. After that it tries the
// gate, which it gives back as it ends.
const heartbeat = `
	select s.last_value, pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_is_in_recovery(),
	  m.number, pg_catalog.pg_try_advisory_xact_lock_shared(m.gate)
	from notifyql.change_seq s, notifyql.mode m`

// beatTimeout bounds what is asked every second.
const beatTimeout = 3 * time.Second

// beat emits heartbeats, as long as they are wanted. Without a database there are none. After one that failed it goes on, wanted or not, until
// one does not: else it would be said for good what was wrong.
func (d *drive) beat(ctx context.Context, emit func(feed.Input)) {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !d.beats.Load() && !failed {
			continue
		}
		b, err := d.heartbeat(ctx)
		failed = err != nil
		if ctx.Err() != nil {
			return
		}
		err = explain(err, d.pool.Config().ConnConfig)
		d.state.problem("heartbeat", err)
		if d.listener == nil {
			d.state.listening(err)
		}
		if err == nil && d.beats.Load() {
			if d.listener == nil { // the mode is of no concern, nor who keeps it
				b.Number, b.Free = 0, false
			}
			emit(b)
		}
	}
}

func (d *drive) heartbeat(ctx context.Context) (b feed.Beat, err error) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	var snapshot string
	var standby bool
	if err := d.pool.QueryRow(ctx, heartbeat).Scan(&b.LastSeq, &snapshot, &standby, &b.Number, &b.Free); err != nil {
		return b, err
	}
	if standby {
		return b, errStandby
	}
	b.Snapshot, err = change.ParseSnapshot(snapshot)
	return b, err
}

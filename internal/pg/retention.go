package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// turnTimeout bounds a turn of the log's ring, which may look at all rows of a slot.
const turnTimeout = 10 * time.Minute

// turner turns the log's ring. Each node has one; the database lets one of them at a time do it.
type turner struct {
	pool  *pgxpool.Pool
	state *state
	pause time.Duration // after something stood in the way
}

// run turns the ring at once and then at intervals, until ctx is done.
func (t *turner) run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		again, err := t.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		t.state.problem("retention", explain(err, t.pool.Config().ConnConfig))
		if again {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// The turn is a transaction of its own, of the kind that it demands, whatever the login's defaults are.
const (
	beginTurn = "begin isolation level read committed, read write"
	noLimit   = `select pg_catalog.set_config('statement_timeout', '0', true)`
	turn      = `select slot, outcome, detail from notifyql.turn($1)`
)

// turn empties at most one slot, and reports whether it did. The error says what stands in the way of one whose turn has come.
func (t *turner) turn(ctx context.Context) (emptied bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	var blocked []error
	var batch pgx.Batch
	batch.Queue(beginTurn)
	batch.Queue(noLimit)
	batch.Queue(turn, t.pause).Query(func(rows pgx.Rows) error {
		var slot int16
		var outcome, detail string
		_, err := pgx.ForEachRow(rows, []any{&slot, &outcome, &detail}, func() error {
			switch outcome {
			case "emptied":
				emptied = true
				t.state.log.Info("a slot of the log was emptied", "slot", slot, "why", detail)
			case "blocked":
				blocked = append(blocked, fmt.Errorf("slot %d of the log can't be emptied, so the log grows: something holds a lock on notifyql.change_%d, "+
					"a dump, or a transaction that does not end (see pg_locks)", slot, slot))
			}
			return nil
		})
		return err
	})
	batch.Queue("commit")
	if err := t.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return false, err
	}
	return emptied, errors.Join(blocked...)
}

package pg

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/feed"
)

// ticker answers Tick, one at a time.
type ticker struct {
	pool  *pgxpool.Pool
	state *state
	asks  chan int64
	retry backoff
}

// ask hands over that a tick newer than after is wanted. The machine has at most one asked for.
func (t *ticker) ask(after int64) {
	select {
	case t.asks <- after:
	default:
	}
}

func (t *ticker) run(ctx context.Context, emit func(feed.Input)) {
	for {
		select {
		case <-ctx.Done():
			return
		case after := <-t.asks:
			err := t.tick(ctx, after)
			if ctx.Err() != nil {
				return
			}
			t.state.problem("tick", explain(err, t.pool.Config().ConnConfig))
			if err == nil {
				t.retry.tries = 0
			} else {
				t.retry.wait(ctx)
			}
			emit(feed.Ticked{})
		}
	}
}

// tick waits as long as a commit does: where a standby must confirm it, for that.
func (t *ticker) tick(ctx context.Context, after int64) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var newest int64
	return inWriting(ctx, t.pool, makeTick, &newest, after)
}

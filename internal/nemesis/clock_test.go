package nemesis

import (
	"context"
	"time"
)

// steppable makes the database's clock, as SQL reads it, one that steps: it must be there before anything that reads it. What Postgres
// itself reads, the times of commits above all, stays as it is, so that the truth is told by a steady clock.
const steppable = `
	create table step (by interval not null);
	insert into step values ('0');
	alter function pg_catalog.clock_timestamp() rename to steady_timestamp;
	create function pg_catalog.clock_timestamp() returns timestamptz language plpgsql volatile parallel safe as
	$$ begin return pg_catalog.steady_timestamp() + (select s.by from public.step s); end $$;
	grant select on step to public`

// stepClock lets the clock step forward or back, by up to a minute in all: the log reaches back for less.
func (w *world) stepClock(ctx context.Context) (time.Time, error) {
	return time.Time{}, w.db.insist(ctx, "update step set by = $1", w.some(0, 60_000)-30*time.Second)
}

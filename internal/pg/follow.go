package pg

import (
	"context"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/catalog"
)

// follower notices when the watched tables change: a notification tells at once of watch and unwatch, and for DDL, which
// tells nobody, it compares a fingerprint now and then. Its run loop calls back.
type follower struct {
	pool  *pgxpool.Pool
	state *state
	tell  func(catalog.Catalog)
	now   chan struct{}
}

func newFollower(pool *pgxpool.Pool, st *state, tell func(catalog.Catalog)) *follower {
	return &follower{pool: pool, state: st, tell: tell, now: make(chan struct{}, 1)}
}

// look makes the follower look without waiting for its time.
func (f *follower) look() {
	select {
	case f.now <- struct{}{}:
	default:
	}
}

// run returns when ctx is done.
func (f *follower) run(ctx context.Context, interval time.Duration) {
	if f.tell == nil {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var known catalog.Catalog
	version := "" // of known; empty: nothing was read yet
	for {
		read, now, err := f.changed(ctx, version)
		if ctx.Err() != nil {
			return
		}
		f.state.problem("catalog", explain(err, f.pool.Config().ConnConfig))
		if err == nil && now != version {
			if version == "" || !reflect.DeepEqual(read, known) {
				f.tell(read)
			}
			known, version = read, now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.now:
		}
	}
}

// changed reads the catalog if its version is not this one, and returns its version.
func (f *follower) changed(ctx context.Context, version string) (read catalog.Catalog, now string, err error) {
	if version != "" {
		queryCtx, cancel := context.WithTimeout(ctx, beatTimeout)
		defer cancel()
		if err := f.pool.QueryRow(queryCtx, catalogVersion).Scan(&now); err != nil || now == version {
			return read, now, err
		}
	}
	return readCatalog(ctx, f.pool)
}

package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// bursts are times in which many connections commit small transactions as fast as they can, so that writers who notify wait for each
// other, and times of rest between them. On the average they make rate changes a second.
type bursts struct {
	db     *database
	rnd    *rand.Rand
	rate   int
	failed *atomic.Int64
}

const burstConns = 6

func (b *bursts) run(ctx context.Context) {
	var changes atomic.Int64
	for began := time.Now(); pass(ctx, time.Duration(changes.Load())*time.Second/time.Duration(b.rate)-time.Since(began)+time.Millisecond); {
		burst, end := context.WithTimeout(ctx, time.Duration(300+b.rnd.IntN(1500))*time.Millisecond)
		var conns sync.WaitGroup
		for range burstConns {
			rnd := rand.New(rand.NewPCG(b.rnd.Uint64(), 1))
			conns.Go(func() { b.burst(burst, ctx, rnd, &changes) })
		}
		conns.Wait()
		end()
		began = later(began, time.Now().Add(-time.Minute)) // what was not made while the database was down is not made up for
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// burst writes until burst is over. A transaction under way is ended.
func (b *bursts) burst(burst, ctx context.Context, rnd *rand.Rand, changes *atomic.Int64) {
	conn, err := b.db.connect(burst)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	for burst.Err() == nil && !conn.IsClosed() {
		n, err := b.transaction(ctx, conn, rnd)
		if err != nil {
			b.failed.Add(1)
		}
		changes.Add(n)
	}
}

// transaction is one round trip, and returns how many rows it changed.
func (b *bursts) transaction(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand) (int64, error) {
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tenant := tenants[rnd.IntN(len(tenants))]
	sql := fmt.Sprintf(`update items set v = v + 1, stamp = stamp(), n = floor(random() * 100) where id in (
	  select id from items where tenant_id = '%s' and id > (select last_value from item_id) * %f order by id limit %d for update skip locked)`,
		tenant, rnd.Float64(), 1+rnd.IntN(8+b.rate/80))
	if rnd.IntN(5) == 0 {
		sql = fmt.Sprintf("insert into items (id, tenant_id, n, grp) values (nextval('item_id'), '%s', 1, 'g2'); select tell(%d)", tenant, rnd.IntN(12))
	}
	results, err := conn.PgConn().Exec(limit, "begin; insert into begun default values; "+sql+"; commit").ReadAll()
	if err != nil {
		return 0, err
	}
	n := int64(-1) // the row of begun
	for _, r := range results {
		n += r.CommandTag.RowsAffected()
	}
	return n, nil
}

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

// writer commits transactions of all sizes, some of which it rolls back, as a whole or to a savepoint.
type writer struct {
	db     *database
	rnd    *rand.Rand
	slow   bool          // its transactions last seconds, and are small
	heavy  *sync.RWMutex // shared by what takes long, see world.lulls
	long   bool          // it is shared now
	pause  time.Duration
	failed *atomic.Int64
}

// run writes until ctx is done. A connection that breaks is made anew: what became of its transaction only the truth knows.
func (w *writer) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
		}
	}()
	for pass(ctx, time.Duration(w.rnd.Int64N(int64(w.pause)+1))) {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = w.db.connect(ctx); err != nil {
				conn = nil
				continue
			}
		}
		if w.long = w.heavy.TryRLock(); !w.long && w.slow {
			continue
		}
		if err := w.transaction(ctx, conn); err != nil {
			w.failed.Add(1)
		}
		if w.long {
			w.heavy.RUnlock()
		}
	}
}

const doom = "select set_config('nemesis.doomed', '1', true)"

func (w *writer) transaction(ctx context.Context, conn *pgx.Conn) error {
	limit, cancel := context.WithTimeout(ctx, 20*time.Second) // a server that is gone without a word
	defer cancel()
	tx, err := conn.Begin(limit)
	if err != nil {
		return err
	}
	defer tx.Rollback(limit) //nolint:errcheck // after a commit it does nothing
	doomed := w.rnd.IntN(8) == 0
	if doomed {
		if _, err := tx.Exec(limit, doom); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(limit, "insert into begun default values"); err != nil {
		return err
	}
	for range 1 + w.rnd.IntN(3) {
		if err := w.write(limit, tx); err != nil {
			return err
		}
		if w.rnd.IntN(6) == 0 {
			if err := w.savepoint(limit, tx); err != nil {
				return err
			}
		}
		if w.slow && !pass(limit, time.Duration(w.rnd.IntN(2000))*time.Millisecond) {
			return limit.Err()
		}
	}
	if doomed {
		return tx.Rollback(limit)
	}
	return tx.Commit(limit)
}

// savepoint writes something and takes it back.
func (w *writer) savepoint(ctx context.Context, tx pgx.Tx) error {
	sub, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := sub.Exec(ctx, doom); err != nil {
		return err
	}
	if err := w.write(ctx, sub); err != nil {
		return err
	}
	return sub.Rollback(ctx)
}

// size is how many rows a statement is to change.
func (w *writer) size() int {
	n := 1 + w.rnd.IntN(4)
	switch w.rnd.IntN(60) {
	case 0:
		n = 1000 + w.rnd.IntN(4000)
	case 1, 2, 3:
		n = 1 + w.rnd.IntN(500)
	case 4, 5, 6, 7, 8, 9, 10:
		n = 1 + w.rnd.IntN(50)
	}
	switch {
	case w.slow:
		n = min(n, 20)
	case !w.long:
		n = min(n, 4)
	}
	return n
}

func (w *writer) write(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, w.statement())
	return err
}

// statement changes rows of one tenant. Rows are locked in the order of their ids.
func (w *writer) statement() string {
	tenant, size := tenants[w.rnd.IntN(len(tenants))], w.size()
	rows := fmt.Sprintf(` id in (select id from %%[1]s where tenant_id = '%s' and id > (select last_value from %%[2]s) * %f order by id limit %d for update)`,
		tenant, w.rnd.Float64(), size)
	table, sequence := "items", "item_id"
	if w.rnd.IntN(3) == 0 {
		table, sequence = "lines", "line_id"
	}
	rows = fmt.Sprintf(rows, table, sequence)
	var sql string
	switch w.rnd.IntN(12) {
	case 10, 11:
		sql = fmt.Sprintf("select tell(id) from (select id from desks where id >= %d order by id limit %d for update skip locked) d", w.rnd.IntN(12), 1+w.rnd.IntN(3))
	case 0, 1:
		sql = fmt.Sprintf(`insert into %s (id, tenant_id, n, grp) select nextval('%s'), '%s', floor(random() * 100), 'g' || floor(random() * 4) from generate_series(1, %d)`,
			table, sequence, tenant, size)
	case 2, 3:
		sql = "delete from " + table + " where" + rows + " and id > 100"
	case 4:
		sql = fmt.Sprintf("update %s set v = v + 1, stamp = stamp(), tenant_id = '%s' where", table, tenants[w.rnd.IntN(len(tenants))]) + rows
	case 5:
		sql = "update " + table + " set v = v + 1, stamp = stamp(), grp = 'g' || floor(random() * 4) where" + rows
	case 6:
		sql = "update " + table + " set v = v + 1, stamp = stamp(), note = repeat('x', 9000) where" + rows + " and n % 20 = 7" // too large for a notification
	default:
		sql = "update " + table + " set v = v + 1, stamp = stamp(), n = floor(random() * 100) where" + rows
	}
	return sql
}

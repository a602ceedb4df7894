package feed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// The tests of the facts (facts_test.go) hold the simulator's model, and all that docs/delivery.md rests on, to real
// Postgres. They use a log of their own, as plain as the facts are: what is tested is Postgres, not our schema.

func TestMain(m *testing.M) { pgtest.Main(m, nil) }

const schema = `
	create sequence log_seq cache 1;
	create table log (
	  xid  xid8   not null default pg_current_xact_id(),
	  seq  bigint not null default nextval('log_seq'),
	  row  int,
	  ver  int,
	  saw  pg_snapshot,
	  primary key (xid, seq));
	create table item (id int primary key, ver int not null default 0);
	insert into item select n from generate_series(1, 4) n;
	create function touch(r int, saw pg_snapshot default null) returns bigint language plpgsql as $$
	declare v int; s bigint;
	begin
	  update item set ver = ver + 1 where id = r returning ver into v;
	  insert into log (row, ver, saw) values (r, v, touch.saw) returning seq into s;
	  perform pg_notify('log', pg_current_xact_id() || ' ' || s || ' ' || r || ' ' || v);
	  return s;
	end $$;`

func database(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.Bare(t)
	db.Exec(t, schema)
	return db
}

// client is a connection that fails its test.
type client struct {
	*pgx.Conn
	t *testing.T
}

func connect(t *testing.T, db *pgtest.DB) client {
	t.Helper()
	return client{db.Conn(t, "postgres"), t}
}

func (c client) exec(sql string, args ...any) {
	c.t.Helper()
	if _, err := c.Exec(c.t.Context(), sql, args...); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

func (c client) text(sql string, args ...any) string {
	c.t.Helper()
	var s string
	if err := c.QueryRow(c.t.Context(), sql, args...).Scan(&s); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func (c client) xid() change.XID {
	c.t.Helper()
	return parseXID(c.t, c.text("select pg_current_xact_id()::text"))
}

func (c client) snapshot() change.Snapshot {
	c.t.Helper()
	return parse(c.t, c.text("select pg_current_snapshot()::text"))
}

// next gives the payload of the next notification.
func (c client) next() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	n, err := c.WaitForNotification(ctx)
	if err != nil {
		c.t.Fatalf("waiting for a notification: %v", err)
	}
	return n.Payload
}

func parse(t *testing.T, text string) change.Snapshot {
	t.Helper()
	s, err := change.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parseXID(t *testing.T, text string) change.XID {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return change.XID(n)
}

// told is a payload of touch.
type told struct {
	xid      change.XID
	seq      int64
	row, ver int
}

func tell(t *testing.T, payload string) (n told) {
	t.Helper()
	if _, err := fmt.Sscan(payload, &n.xid, &n.seq, &n.row, &n.ver); err != nil {
		t.Fatalf("payload %q: %v", payload, err)
	}
	return n
}

// writers run transactions of touches until each has done n, and return how many touches were committed. Some roll back,
// in whole or to a savepoint; deadlocks happen.
func writers(t *testing.T, db *pgtest.DB, count, n int) (wait func() int) {
	t.Helper()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total int
	)
	for w := range count {
		conn, r := connect(t, db), rand.New(rand.NewPCG(uint64(w), 7))
		conn.exec("set deadlock_timeout = '10ms'")
		wg.Go(func() {
			for range n {
				touched, err := write(t.Context(), conn.Conn, r)
				var pg *pgconn.PgError
				if err != nil && !(errors.As(err, &pg) && pg.Code == "40P01") && !errors.Is(err, errRollback) {
					t.Error(err)
					return
				}
				mu.Lock()
				total += touched
				mu.Unlock()
			}
		})
	}
	return func() int {
		wg.Wait()
		return total
	}
}

var errRollback = errors.New("rolled back on purpose")

func write(ctx context.Context, conn *pgx.Conn, r *rand.Rand) (touched int, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var saw string
		if err := tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&saw); err != nil {
			return err
		}
		for range 1 + r.IntN(3) {
			if _, err := tx.Exec(ctx, "select touch($1, $2::text::pg_snapshot)", 1+r.IntN(4), saw); err != nil {
				return err
			}
			touched++
			if r.IntN(4) == 0 {
				_, err := tx.Exec(ctx, "savepoint s; select touch(1); rollback to s; savepoint s; select touch("+strconv.Itoa(1+r.IntN(4))+"); release s")
				if err != nil {
					return err
				}
				touched++
			}
		}
		if r.IntN(5) == 0 {
			return errRollback
		}
		return nil
	})
	if err != nil {
		touched = 0
	}
	return touched, err
}

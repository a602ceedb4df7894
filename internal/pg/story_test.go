package pg

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// story writes random transactions from many connections, and ticks and notes moments meanwhile.
func story(t testing.TB, c *chronicle, seed uint64, writers, each int) {
	t.Helper()
	c.Exec(t, `
		create table ledger (id int primary key, tenant_id text not null, version int not null, fill text);
		create table notes (id int primary key, tenant_id text, n int);
		create function ripple() returns trigger language plpgsql as $$
		begin
		  if pg_trigger_depth() < 3 and new.id % 5 = 0 then
		    update ledger set version = version + 1 where id in (new.id, new.id + 1);
		  end if;
		  return null;
		end $$;
		create trigger a after insert on ledger for each row execute function ripple();
		select notifyql.watch('ledger');
		select notifyql.watch('notes');`)
	c.findTopics(t)
	c.tick(t)
	c.spot(t)
	var wg sync.WaitGroup
	for i := range writers {
		conn, err := pgx.Connect(t.Context(), c.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "set deadlock_timeout = '10ms'"); err != nil {
			t.Fatal(err)
		}
		w := &writer{Rand: rand.New(rand.NewPCG(seed, uint64(i))), conn: conn, ids: 30}
		wg.Go(func() {
			defer conn.Close(context.Background())
			for range each {
				if err := w.transaction(t.Context()); err != nil && !retry(err) {
					t.Errorf("a writer failed: %v", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	rnd := rand.New(rand.NewPCG(seed, 99))
	long := c.Conn(t, "postgres")
	var tx pgx.Tx
	for i := 0; ; i++ {
		select {
		case <-done:
			if tx != nil {
				_ = tx.Commit(t.Context())
			}
			c.tick(t)
			c.spot(t)
			c.learn(t)
			return
		default:
		}
		var err error
		if rnd.IntN(3) > 0 {
			c.spot(t)
		}
		switch rnd.IntN(4) {
		case 0:
			c.tick(t)
		case 1:
			c.Exec(t, "select notifyql.publish('news', '{}', tenant => $1)", []string{"a", "b"}[rnd.IntN(2)])
			if rnd.IntN(20) == 0 {
				c.Exec(t, "insert into notes select 10000 * $1 + i, case i % 3 when 0 then 'a' when 1 then 'b' end, 1 from generate_series(1, 1500) i", i)
			}
		case 2:
			if tx == nil {
				tx, err = long.Begin(t.Context())
			} else {
				_, err = tx.Exec(t.Context(), "insert into notes values ($1, 'a', 0)", -i)
			}
		case 3:
			if tx != nil && rnd.IntN(6) == 0 {
				err, tx = tx.Commit(t.Context()), nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// findTopics finds what was watched.
func (c *chronicle) findTopics(t testing.TB) {
	t.Helper()
	rows, err := c.Pool(t).Query(t.Context(), "select id from notifyql.watch order by id")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		t.Fatal(err)
	}
	c.topics = []change.Topic{{Channel: "news"}}
	for _, id := range ids {
		c.topics = append(c.topics, change.Topic{Watch: change.WatchID(id)})
	}
	c.ledger = c.topics[1]
}

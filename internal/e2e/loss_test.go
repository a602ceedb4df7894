package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

const countersTable = `
	create table counters (id int primary key, tenant_id text not null, version int not null);
	insert into counters select i, 'acme', 0 from generate_series(1, 12) i;
	select notifyql.watch('counters');`

var counters = subscription{Query: `subscription { countersChanged { kind new { id version } old { version } } }`}

// versions checks that each row's versions come one by one, none left out and none twice.
type versions map[string]int

func (v versions) take(t *testing.T, payload string) {
	t.Helper()
	var r struct {
		Data struct {
			C struct {
				Kind string
				New  struct {
					ID      json.Number
					Version int
				}
			} `json:"countersChanged"`
		}
	}
	if err := json.Unmarshal([]byte(payload), &r); err != nil || r.Data.C.Kind != "UPDATE" {
		t.Fatalf("got %s (%v)", payload, err)
	}
	id, version := r.Data.C.New.ID.String(), r.Data.C.New.Version
	if version != v[id]+1 {
		t.Fatalf("row %s: version %d after %d", id, version, v[id])
	}
	v[id] = version
}

// write commits transactions of one to four updates, some of them rolled back, until stop, and returns how many
// updates are committed. A connection that breaks is made anew: whether the commit it broke in counts is asked of the table.
func write(ctx context.Context, url string, seed uint64, txns int) error {
	r := rand.New(rand.NewPCG(seed, 1))
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
		}
	}()
	for n := 0; n < txns; {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, url); err != nil {
				if ctx.Err() != nil {
					return err
				}
				continue // the database is restarting
			}
		}
		err := transaction(ctx, conn, r)
		if err == nil {
			n++
		} else if !conn.IsClosed() {
			return err
		}
	}
	return nil
}

func transaction(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after a commit it does nothing
	first := 1 + r.IntN(9)
	for id := first; id <= first+r.IntN(4); id++ { // ascending: no deadlock
		if _, err := tx.Exec(ctx, `update counters set version = version + 1 where id = $1`, id); err != nil {
			return err
		}
	}
	if r.IntN(5) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// total is how many updates are committed.
func total(t *testing.T, db *pgtest.DB) (n int) {
	t.Helper()
	if err := db.Pool(t).QueryRow(t.Context(), `select sum(version) from counters`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// terminate ends the listener's backend, and returns how many there were.
func terminate(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	var pids []int32
	if err := db.Pool(t).QueryRow(t.Context(), `
		select coalesce(array_agg(pid), '{}') from pg_stat_activity where application_name = 'notifyql listener' and datname = current_database()`).Scan(&pids); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `select pg_terminate_backend(pid) from unnest($1::int[]) pid`, pids)
	eventually(t, "the listener's backend to end", func() bool {
		var left int
		if err := db.Pool(t).QueryRow(t.Context(), `select count(*) from pg_stat_activity where pid = any ($1)`, pids).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
	return len(pids)
}

// connectedOnce fails if the client's socket was ever closed.
func connectedOnce(t *testing.T, c *client, take func(payload string) bool) {
	t.Helper()
	connected := false
	for {
		switch s := c.said(t); s.Type {
		case "connected":
			if connected {
				t.Fatal("the client had to connect again")
			}
			connected = true
		case "next":
			if take(string(s.Payload)) {
				return
			}
		default:
			t.Fatalf("the client got %+v", s)
		}
	}
}

func TestTheListenersBackendIsTerminated(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, countersTable)
	srv := serve(t, db.URL, freeAddr(t))
	c := connect(t, srv.addr, map[string]any{"tenantId": "acme"}, counters)
	srv.await(t, "to have the subscription", func(h health) bool { return h.Subscriptions == 1 })

	// Between two commits.
	db.Exec(t, `update counters set version = version + 1 where id = 1`)
	terminate(t, db)
	db.Exec(t, `update counters set version = version + 1 where id = 1`)

	// In the middle of bursts.
	var wg sync.WaitGroup
	var writing atomic.Int32
	for seed := range uint64(4) {
		writing.Add(1)
		wg.Go(func() {
			defer writing.Add(-1)
			if err := write(t.Context(), db.URL, seed, 150); err != nil {
				t.Error(err)
			}
		})
	}
	kills := 0
	for writing.Load() > 0 {
		kills += terminate(t, db)
		srv.await(t, "to listen again", func(h health) bool { return h.Listening })
	}
	wg.Wait()
	want, got, v := total(t, db), 0, versions{}
	connectedOnce(t, c, func(payload string) bool {
		v.take(t, payload)
		got++
		return got == want
	})
	db.Exec(t, `update counters set version = version + 1 where id = 12`)
	v.take(t, c.next(t)) // nothing else came before it
	t.Logf("%d updates arrived, each once and in order, over %d terminated listeners", got, kills)
	if kills < 2 {
		t.Errorf("only %d listeners were terminated", kills)
	}
}

func TestPostgresIsRestarted(t *testing.T) {
	t.Parallel()
	own := pgtest.Server(t, localpg.Options{})
	db := pgtest.NewOn(t, own)
	db.Exec(t, countersTable)
	srv := serve(t, db.URL, freeAddr(t))
	c := connect(t, srv.addr, map[string]any{"tenantId": "acme"}, counters)
	srv.await(t, "to have the subscription", func(h health) bool { return h.Subscriptions == 1 })

	var wg sync.WaitGroup
	for seed := range uint64(3) {
		wg.Go(func() {
			if err := write(t.Context(), db.URL, seed, 200); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		before := total(t, db)
		eventually(t, "writers to write", func() bool { return total(t, db) > before+50 })
		if err := own.Restart(t.Context(), localpg.Fast); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the database to answer", func() bool { return db.Pool(t).Ping(t.Context()) == nil })
	}
	wg.Wait()
	want, got, v := total(t, db), 0, versions{}
	connectedOnce(t, c, func(payload string) bool {
		v.take(t, payload)
		got++
		return got == want
	})
	db.Exec(t, `update counters set version = version + 1 where id = 12`)
	v.take(t, c.next(t))
	t.Logf("%d updates arrived, each once and in order, over two restarts", got)
}

func TestSizes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create table docs (id int primary key, tenant_id text not null, body text not null);
		select notifyql.watch('docs');`)
	srv := serve(t, db.URL, freeAddr(t))
	c := connect(t, srv.addr, map[string]any{"tenantId": "acme"},
		subscription{Query: `subscription { docsChanged { kind new { id body } old { id body } } }`})
	srv.await(t, "to have the subscription", func(h health) bool { return h.Subscriptions == 1 })
	type doc struct {
		ID   int
		Body string
	}
	type result struct {
		Data struct {
			D struct {
				Kind     string
				New, Old *doc
			} `json:"docsChanged"`
		}
	}
	next := func() (r result) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.next(t)), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for id, size := range []int{0, 1, 7_000, 7_999, 8_000, 9_000, 1_000_000} {
		db.Exec(t, `insert into docs values ($1, 'acme', repeat('é', $2 / 2) || repeat('x', $2 % 2))`, id, size)
		db.Exec(t, `update docs set body = body || '!' where id = $1`, id)
		in := next().Data.D
		if in.Kind != "INSERT" || in.New == nil || in.New.ID != id || len(in.New.Body) != size {
			t.Fatalf("the insert of %d bytes came as %s of %d bytes", size, in.Kind, len(in.New.Body))
		}
		up := next().Data.D
		if up.Kind != "UPDATE" || up.New == nil || up.Old == nil || up.New.Body != up.Old.Body+"!" || up.Old.Body != in.New.Body {
			t.Fatalf("the update of %d bytes came as %s", size, up.Kind)
		}
	}
}

func TestManyRowsInOneTransactionArriveInOrderInBoundedMemory(t *testing.T) {
	t.Parallel()
	const rows = 100_000
	db := pgtest.New(t)
	db.Exec(t, fmt.Sprintf(`
		create table many (id int primary key, tenant_id text not null, n int not null);
		insert into many select i, 'acme', 0 from generate_series(1, %d) i;
		select notifyql.watch('many');`, rows))
	srv := serve(t, db.URL, freeAddr(t))
	c := connect(t, srv.addr, map[string]any{"tenantId": "acme"}, subscription{Query: `subscription { manyChanged { new { id n } } }`})
	other := connect(t, srv.addr, map[string]any{"tenantId": "zeta"}, subscription{Query: `subscription { manyChanged { new { id n } } }`})
	srv.await(t, "to have the subscriptions", func(h health) bool { return h.Subscriptions == 2 })
	before := srv.peak(t)
	db.Exec(t, `with o as (select id from many order by id) update many m set n = n + 1 from o where m.id = o.id`)
	db.Exec(t, `insert into many values (0, 'zeta', 7)`)
	if got, want := other.next(t), `{"data":{"manyChanged":{"new":{"id":0,"n":7}}}}`; got != want {
		t.Fatalf("the other tenant got %s, want %s", got, want)
	}
	// The order in the transaction is the order of the writes, which the log has.
	ids, err := db.Pool(t).Query(t.Context(), `select new->>'id' from notifyql.change where op = 'U' order by seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer ids.Close()
	n := 0
	for ids.Next() {
		var id string
		if err := ids.Scan(&id); err != nil {
			t.Fatal(err)
		}
		if got, want := c.next(t), fmt.Sprintf(`{"data":{"manyChanged":{"new":{"id":%s,"n":1}}}}`, id); got != want {
			t.Fatalf("change %d: got %s, want %s", n, got, want)
		}
		n++
	}
	if err := ids.Err(); err != nil || n != rows {
		t.Fatalf("the log has %d changes (%v)", n, err)
	}
	grown := srv.peak(t) - before
	t.Logf("%d rows arrived; the server's peak memory grew by %d MiB", n, grown>>20)
	if grown > 256<<20 {
		t.Errorf("the server's memory grew by %d MiB", grown>>20)
	}
}

package pg

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// terminate ends all backends of an application name in the database of db.
func terminate(t testing.TB, db *pgtest.DB, name string) int {
	t.Helper()
	var n int
	err := db.Pool(t).QueryRow(context.Background(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
		where datname = current_database() and application_name = $1 and pid <> pg_backend_pid()`, name).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestChangesArriveInline(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	db.Exec(t, `insert into ledger values (1, 'a', 1), (2, 'b', 1);`)
	db.Exec(t, `begin; update ledger set version = 2 where id = 1; savepoint s; update ledger set version = 3; rollback to s; delete from ledger where id = 2; commit`)
	db.Exec(t, `begin; update ledger set version = 9; rollback`)
	n.caughtUp(db)
	var got []string
	for _, txn := range n.all() {
		for _, c := range txn.Changes {
			got = append(got, fmt.Sprintf("%c%s%s", c.Op, c.OldTenant, c.Tenant))
		}
	}
	if want := []string{"Ia", "Ib", "Uaa", "Db"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if st := n.stats(); st.Anomalies > 0 || st.LeftToSweep > 0 {
		t.Errorf("not all came inline: %+v", st)
	}
	checkLedger(t, db, n)
}

// Rows around the size that fits into a notification, and a large one.
func TestChangesOfAnySizeArrive(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	sizes := []int{7000, 7999, 8000, 9000, 1_000_000}
	for i, size := range sizes {
		db.Exec(t, `insert into ledger values ($1, 'a', 1, repeat('é', $2 / 2))`, i, size)
		db.Exec(t, `update ledger set version = 2 where id = $1`, i)
	}
	n.caughtUp(db)
	checkLedger(t, db, n)
}

// A large transaction comes as a stub, to be read from the log, and in little memory. It runs beside no other test, which
// would use the same heap.
func TestManyRowsTakeLittleMemory(t *testing.T) {
	db := pgtest.New(t)
	ledger(t, db)
	db.Exec(t, `
		select notifyql.unwatch('ledger');
		insert into ledger select i, 'a', 1, repeat('x', 500) from generate_series(1, 40000) i;
		select notifyql.watch('ledger')`)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	peak := watchHeap(t)
	db.Exec(t, `update ledger set version = 2`)
	n.until("the update is there", func() bool { return len(n.txns) > 0 && n.txns[len(n.txns)-1].Stub != nil })
	all := n.all()
	last := all[len(all)-1]
	count, seq := 0, int64(0)
	for _, txn := range all[:len(all)-1] { // what came inline before
		count += len(txn.Changes)
		seq = txn.Changes[len(txn.Changes)-1].Seq
	}
	if last.Stub.AfterSeq != seq || count == 0 || !last.Continued {
		t.Errorf("the stub begins behind %d, after %d changes up to %d", last.Stub.AfterSeq, count, seq)
	}
	topic := n.topic()
	var after *change.Change
	for more := true; more; {
		var page []change.Change
		var err error
		if page, more, err = n.Txn(t.Context(), last.XID, after, last.Stub, []change.Topic{topic}, []string{"a"}, 1000); err != nil {
			t.Fatal(err)
		}
		for i := range page {
			if page[i].Seq <= seq || page[i].Op != change.Update || len(page[i].New) < 500 {
				t.Fatalf("after %d came %d: %.100s", seq, page[i].Seq, page[i].New)
			}
			seq = page[i].Seq
			count++
		}
		after = &page[len(page)-1]
	}
	if count != 40000 || seq != last.Stub.LastSeq {
		t.Errorf("got %d changes up to %d, want 40000 up to %d", count, seq, last.Stub.LastSeq)
	}
	mb := peak() >> 20
	t.Logf("the heap grew by %d MB; the images are 44", mb)
	if mb > 20 {
		t.Error("that is too much")
	}
}

// Postgres is restarted, in good order and by a crash, while changes are written.
func TestServerRestarted(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{})
	db := pgtest.NewOn(t, srv)
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	write := func(i int) {
		conn, err := pgx.Connect(t.Context(), db.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "insert into ledger values (1, 'a', 1) on conflict (id) do update set version = ledger.version + 1"); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	for i := range 6 {
		write(2 * i)
		var err error
		if i%2 == 0 {
			err = srv.Restart(t.Context(), localpg.Fast)
		} else if err = srv.Kill(t.Context()); err == nil {
			err = srv.Resume(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		write(2*i + 1) // most likely before the listener is back
		n.until("the listener is back", func() bool { return count[feed.Opened](n) >= i+2 })
	}
	db.Pool(t).Reset()
	n.caughtUp(db)
	checkLedger(t, db, n)
}

// writeLedger starts writers of random transactions, so many each. The function it returns waits for them.
func writeLedger(t *testing.T, db *pgtest.DB, writers, each int) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range writers {
		conn, err := pgx.Connect(t.Context(), db.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "set deadlock_timeout = '10ms'"); err != nil {
			t.Fatal(err)
		}
		w := &writer{Rand: rand.New(rand.NewPCG(17, uint64(i))), conn: conn, ids: 10}
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
	return wg.Wait
}

// The listener's backend is terminated between commits, in the middle of bursts, and while it reconnects; the pool's too.
// There are no heartbeats, which would find what was lost.
func TestNothingLostNothingTwice(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL, Beat: time.Hour})
	n.opened(1)
	wait := writeLedger(t, db, 4, 300)
	over := make(chan struct{})
	var killer sync.WaitGroup
	kills := 0
	killer.Go(func() {
		for opened := 1; ; opened++ {
			select {
			case <-over:
				return
			default:
			}
			kills += terminate(t, db, listenerName)
			if opened%3 == 0 {
				terminate(t, db, poolName)
			}
			n.until("the listener is open again", func() bool { return count[feed.Opened](n) > opened })
		}
	})
	wait()
	close(over)
	killer.Wait()
	n.caughtUp(db)
	t.Logf("%d kills, %+v", kills, n.stats())
	if kills < 5 {
		t.Errorf("only %d listener backends were terminated while the writers ran", kills)
	}
	checkLedger(t, db, n)
}

// Nodes that start while others write get all that their snapshot does not see, and nothing that it sees, without any heartbeat.
func TestStartWhileOthersWrite(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	wait := writeLedger(t, db, 3, 300)
	var nodes []*node
	for range 12 {
		n := startNode(t, Config{DatabaseURL: db.URL, Beat: time.Hour})
		n.opened(1)
		nodes = append(nodes, n)
	}
	wait()
	for _, n := range nodes {
		n.caughtUp(db)
		for _, txn := range n.all() {
			if n.start.Sees(txn.XID) {
				t.Errorf("%v sees transaction %d, which was dispatched", n.start, txn.XID)
			}
		}
		if st := n.stats(); st.SweepsFailed > 0 {
			t.Errorf("%+v", st)
		}
	}
}

// Whatever commits around LISTEN and the snapshot, before, between or after them, is seen by the snapshot or dispatched.
func TestStartAndCommitMeet(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	wire := newWire(t, db.URL)
	id := 0
	commit := func() {
		id++
		if _, err := db.Pool(t).Exec(context.Background(), "insert into ledger values ($1, 'a', 1)", id); err != nil {
			t.Error(err)
		}
	}
	wire.passing = func(fromClient bool, b []byte) {
		switch {
		case fromClient && bytes.Contains(b, []byte("listen ")):
			commit() // before LISTEN
		case fromClient && bytes.Contains(b, []byte("json_build_object")):
			commit() // between the two
		case !fromClient && bytes.Contains(b, []byte("json_build_object\x00")):
			commit() // behind the snapshot, the answer not here yet
		}
	}
	n := startNode(t, Config{DatabaseURL: through(t, db.URL, wire.addr), PoolURL: db.URL, Beat: time.Hour})
	n.opened(1)
	n.caughtUp(db)
	if all := n.all(); len(all) != 1 || id != 3 {
		t.Errorf("of %d transactions %d were dispatched, want the last one of three", id, len(all))
	}
}

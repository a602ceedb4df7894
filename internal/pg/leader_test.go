package pg

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// pin sets the mode of a database for all its servers.
func pin(t testing.TB, db *pgtest.DB, mode Mode) {
	t.Helper()
	db.Exec(t, "update notifyql.setting set mode = '"+mode.String()+"'")
}

func TestALeaderMakesTheStreamQuiet(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	n := startNodeIn(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	n.enters(Quiet)
	db.Exec(t, `insert into ledger values (1, 'a', 1)`)
	n.caughtUp(db)
	if st := n.stats(); st.Dispatched != 1 || st.Ignored != 0 || !n.Status().Leader {
		t.Errorf("it did not come inline: %+v, %+v", st, n.Status())
	}

	pin(t, db, Busy)
	n.enters(Busy)
	db.Exec(t, `update ledger set version = 2`)
	n.caughtUp(db)
	pin(t, db, Auto)
	n.enters(Quiet)
	db.Exec(t, `update ledger set version = 3`)
	n.caughtUp(db)
	if st := n.stats(); st.Deserted != 0 || st.Anomalies != 0 {
		t.Errorf("%+v", st)
	}
	checkLedger(t, db, n)
}

// While no server runs, and where busy is pinned, transactions can be prepared, and nothing is lost, by a crash of Postgres neither.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{Settings: map[string]string{"max_prepared_transactions": "5"}})
	db := pgtest.NewOn(t, srv)
	ledger(t, db)
	conn := db.Conn(t, "postgres")
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`insert into ledger values (1, 'a', 1), (2, 'a', 1)`)
	exec(`begin; update ledger set version = 2 where id = 1; prepare transaction 'before'`)
	if err := srv.Restart(t.Context(), localpg.Immediate); err != nil { // a prepared transaction keeps what it holds
		t.Fatal(err)
	}
	db.Pool(t).Reset()
	conn = db.Conn(t, "postgres")
	n := startNodeIn(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	if !n.isNow(Busy) {
		t.Error("the stream is quiet although a silent transaction is prepared")
	}
	exec(`commit prepared 'before'`)
	n.enters(Quiet)
	pin(t, db, Busy)
	n.enters(Busy)
	gateOpens(t, db)
	exec(`begin; update ledger set version = 3 where id = 1; update ledger set version = 2 where id = 2; prepare transaction 'with'`)
	exec(`insert into ledger values (3, 'a', 1)`)
	exec(`commit prepared 'with'`)
	n.caughtUp(db)
	var got []string
	for _, txn := range n.all() {
		for _, c := range txn.Changes {
			got = append(got, fmt.Sprintf("%c %s", c.Op, c.New))
		}
	}
	want := `U {"id":1,"tenant_id":"a","version":2,"fill":null}
I {"id":3,"tenant_id":"a","version":1,"fill":null}
U {"id":1,"tenant_id":"a","version":3,"fill":null}
U {"id":2,"tenant_id":"a","version":2,"fill":null}`
	// The one that was prepared drew its numbers before the other.
	other := `U {"id":1,"tenant_id":"a","version":2,"fill":null}
U {"id":1,"tenant_id":"a","version":3,"fill":null}
U {"id":2,"tenant_id":"a","version":2,"fill":null}
I {"id":3,"tenant_id":"a","version":1,"fill":null}`
	if all := strings.Join(got, "\n"); all != want && all != other {
		t.Errorf("got\n%s", all)
	}
}

// The mode goes back and forth while the sessions of leaders and listeners are terminated.
func TestModesUnderTrouble(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	nodes := []*node{startNodeIn(t, Config{DatabaseURL: db.URL}), startNodeIn(t, Config{DatabaseURL: db.URL})}
	for _, n := range nodes {
		n.opened(1)
	}
	over := make(chan struct{})
	var trouble sync.WaitGroup
	rounds := 0
	trouble.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			switch pin(t, db, [...]Mode{Quiet, Busy}[rounds%2]); rounds % 6 {
			case 1, 4:
				terminate(t, db, leaderName)
			case 5:
				terminate(t, db, listenerName)
			}
			// The mode is there, or not yet: both may be.
			changed := nodes[rounds%2].stats()
			nodes[rounds%2].until("the node has swept", func() bool {
				st := nodes[rounds%2].machine.Stats()
				return st.Sweeps > changed.Sweeps || st.Dispatched > changed.Dispatched+20
			})
			rounds++
		}
	})
	writeLedger(t, db, 4, 400)()
	close(over)
	trouble.Wait()
	for _, n := range nodes {
		n.caughtUp(db)
		checkLedger(t, db, n)
		t.Logf("%d rounds, %+v", rounds, n.stats())
	}
}

// When the leader's session ends, another node takes its place. What is written between is found all the same.
func TestTheNextLeader(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	a, b := startNode(t, Config{DatabaseURL: db.URL}), startNode(t, Config{DatabaseURL: db.URL})
	number := func() (n int64) {
		if err := db.Pool(t).QueryRow(t.Context(), "select number from notifyql.mode").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for version := 1; version < 5; version++ {
		a.opened(1)
		b.opened(1)
		if a.Status().Leader == b.Status().Leader {
			t.Errorf("of two nodes %v and %v lead", a.Status().Leader, b.Status().Leader)
		}
		before := number()
		if terminate(t, db, leaderName) == 0 {
			t.Error("there was no session of a leader")
		}
		db.Exec(t, `insert into ledger values (1, 'a', 1) on conflict (id) do update set version = $1`, version) // the gate is open
		a.caughtUp(db)
		b.caughtUp(db)
		a.until("the next leader has said that it is busy and that it is quiet", func() bool {
			return number() >= before+2 && a.is(Quiet)
		})
	}
	checkLedger(t, db, a)
	checkLedger(t, db, b)
}

// A transaction that has notified finds its leader gone: it says so, and what it changes from there is found.
func TestATransactionOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL, Beat: time.Hour}) // nobody tries the gate
	n.opened(1)
	conn := db.Conn(t, "postgres")
	if _, err := conn.Exec(t.Context(), `begin; insert into ledger values (1, 'a', 1)`); err != nil {
		t.Fatal(err)
	}
	hold := stranger(t, db, "lead") // nobody takes the place
	if _, err := conn.Exec(t.Context(), `update ledger set version = 2; savepoint s; update ledger set version = 3; rollback to s; update ledger set version = 3; commit`); err != nil {
		t.Fatal(err)
	}
	n.caughtUp(db)
	checkLedger(t, db, n)
	if st := n.stats(); st.Deserted != 1 {
		t.Errorf("%+v", st)
	}
	n.until("it is said that a stranger has the place", func() bool {
		return strings.Contains(n.Status().Problems["leader"], "no server of ours")
	})
	hold()
	n.enters(Quiet)
}

// stranger ends the leader's session and takes one of its locks, until release is called.
func stranger(t testing.TB, db *pgtest.DB, key string) (release func()) {
	t.Helper()
	conn := db.Conn(t, "postgres")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_advisory_lock("+key+") from notifyql.mode")
		done <- err
	}()
	for {
		terminate(t, db, leaderName)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := conn.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A login may take the gate. Nothing is lost by it, and it is said.
func TestAStrangerHasTheGate(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"pg_advisory_lock", "pg_advisory_lock_shared"} {
		t.Run(lock, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			ledger(t, db)
			n := startNodeIn(t, Config{DatabaseURL: db.URL})
			n.opened(1)
			n.enters(Quiet)
			pin(t, db, Busy)
			n.enters(Busy)
			conn, err := pgx.Connect(t.Context(), db.URL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), `select `+lock+`(gate) from notifyql.mode`); err != nil {
				t.Fatal(err)
			}
			pin(t, db, Quiet)
			n.until("it is said who has the gate", func() bool { return strings.Contains(n.Status().Problems["gate"], "(no writer)") })
			writeLedger(t, db, 2, 50)()
			n.caughtUp(db)
			checkLedger(t, db, n)
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.enters(Quiet)
			if why := n.Status().Problems["gate"]; why != "" {
				t.Errorf("it is still said: %s", why)
			}
		})
	}
}

// gateOpens waits until nobody holds the gate, which is a moment after busy was announced.
func gateOpens(t testing.TB, db *pgtest.DB) {
	t.Helper()
	waitFor(t, "the gate is open", func() (open bool) {
		if err := db.Pool(t).QueryRow(t.Context(), `select pg_try_advisory_xact_lock_shared(gate) from notifyql.mode`).Scan(&open); err != nil {
			t.Fatal(err)
		}
		return open
	})
}

func (n *node) isNow(mode Mode) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.is(mode)
}

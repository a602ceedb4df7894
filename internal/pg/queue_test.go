package pg

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A session that listens and does not end its transaction keeps the whole cluster's queue of notifications from being emptied. When
// it is full nobody can notify. Our writers go on, and what they write arrives.
func TestAStrangerFillsTheQueue(t *testing.T) {
	t.Parallel()
	srv := pgtest.Server(t, localpg.Options{Version: "18", Settings: map[string]string{"max_notify_queue_pages": "64"}})
	db := pgtest.NewOn(t, srv)
	ledger(t, db)
	n := startNodeIn(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	n.enters(Quiet)
	idle := db.Conn(t, "postgres")
	if _, err := idle.Exec(t.Context(), `listen stranger`); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Exec(t.Context(), `begin`); err != nil {
		t.Fatal(err)
	}
	noisy := db.Conn(t, "postgres")
	fill := func(until float64) (err error) {
		for used := 0.0; used < until && err == nil; {
			if err = noisy.QueryRow(t.Context(), `select pg_notification_queue_usage()`).Scan(&used); err == nil {
				_, err = noisy.Exec(t.Context(), `select pg_notify('stranger', repeat('x', 7900))`)
			}
		}
		return err
	}
	if err := fill(queueFull); err != nil {
		t.Fatal(err)
	}
	n.enters(Busy)
	if err := fill(2); err == nil || !strings.Contains(err.Error(), "NOTIFY queue") {
		t.Fatalf("the queue can't be filled: %v", err)
	}
	writeLedger(t, db, 4, 100)() // it fails the test if a write fails
	n.caughtUp(db)
	checkLedger(t, db, n)

	if _, err := idle.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	n.enters(Quiet)
	writeLedger(t, db, 1, 5)()
	n.caughtUp(db)
	checkLedger(t, db, n)
}

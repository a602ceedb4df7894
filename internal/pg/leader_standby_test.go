package pg

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// stalling is a database whose standby does not answer from stall on.
type stalling struct {
	*pgtest.DB
	stalled *pgx.Conn
	done    chan error
}

func newStalling(t *testing.T) *stalling {
	t.Helper()
	srv := pgtest.Server(t, localpg.Options{Settings: map[string]string{"synchronous_standby_names": ""}})
	db := pgtest.NewOn(t, srv)
	ledger(t, db)
	db.Exec(t, `insert into ledger values (1, 'a', 1), (2, 'a', 1), (3, 'a', 1)`)
	return &stalling{DB: db, stalled: db.Conn(t, "postgres"), done: make(chan error, 1)}
}

func (s *stalling) standby(t *testing.T, name string) {
	s.Exec(t, `alter system set synchronous_standby_names = '`+name+`'`)
	s.Exec(t, `select pg_reload_conf()`)
}

// stall returns when a commit waits for the standby.
func (s *stalling) stall(t *testing.T) {
	t.Helper()
	s.standby(t, "nobody")
	t.Cleanup(func() { s.standby(t, "") })
	s.inForce(t)
	go func() {
		_, err := s.stalled.Exec(context.Background(), `update ledger set version = 2 where id = 1`)
		s.done <- err
	}()
	s.waits(t, s.stalled, "SyncRep")
}

// inForce returns when commits wait. The server takes a new setting up when it comes to it.
func (s *stalling) inForce(t *testing.T) {
	t.Helper()
	conn := s.Conn(t, "postgres")
	var seen atomic.Bool
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := conn.Exec(context.Background(), `select pg_current_xact_id(), pg_logical_emit_message(true, 'test', '')`); err != nil || seen.Load() {
				done <- err
				return
			}
		}
	}()
	s.waits(t, conn, "SyncRep")
	seen.Store(true)
	s.Exec(t, `select pg_cancel_backend($1)`, conn.PgConn().PID())
	if err := <-done; err != nil { // it is no error, but a warning
		t.Fatal(err)
	}
}

// waits returns when a session waits for something.
func (s *stalling) waits(t *testing.T, conn *pgx.Conn, event string) {
	t.Helper()
	waitFor(t, "a session waits: "+event, func() (waits bool) {
		err := s.Pool(t).QueryRow(t.Context(), `select exists (select from pg_stat_activity where pid = $1 and wait_event = $2)`,
			conn.PgConn().PID(), event).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
}

// goOn ends the wait: what was stalled is committed here.
func (s *stalling) goOn(t *testing.T) {
	t.Helper()
	s.Exec(t, `select pg_cancel_backend($1)`, s.stalled.PgConn().PID())
	if err := <-s.done; err != nil { // it is no error, but a warning
		t.Fatal(err)
	}
}

// local is a session that does not wait for a standby, nor for a lock.
func (s *stalling) local(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := s.Conn(t, "postgres")
	if _, err := conn.Exec(t.Context(), `set synchronous_commit = local; set lock_timeout = 1`); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A commit that waits for a standby holds the lock under which notifying transactions commit. Where busy is pinned, nobody
// waits for it.
func TestAStandbyStalls(t *testing.T) {
	t.Parallel()
	db := newStalling(t)
	pin(t, db.DB, Busy)
	n := startNodeIn(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	db.stall(t)
	local := db.local(t)
	for version := 2; version < 50; version++ {
		if _, err := local.Exec(t.Context(), `update ledger set version = $1 where id = 2`, version); err != nil {
			t.Fatal(err)
		}
	}
	db.goOn(t)
	n.until("all versions are there", func() bool { return n.machine.Stats().Changes == 49 })
}

// Where it is not pinned, one who waits behind the stalled one is enough for the leader to see it, although nothing arrives then. He
// can't announce it, and lets the gate go without a word.
func TestAStandbyStallsInQuiet(t *testing.T) {
	t.Parallel()
	db := newStalling(t)
	n := startNodeIn(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	n.enters(Quiet)
	db.stall(t)
	behind := db.Conn(t, "postgres")
	done := make(chan error, 1)
	go func() {
		_, err := behind.Exec(context.Background(), `set synchronous_commit = local; update ledger set version = 2 where id = 2`)
		done <- err
	}()
	db.waits(t, behind, "object")
	n.enters(Busy)
	if _, err := db.local(t).Exec(t.Context(), `update ledger set version = 2 where id = 3`); err != nil {
		t.Error(err)
	}
	db.goOn(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
	n.until("all versions are there", func() bool { return n.machine.Stats().Changes == 3 })
	db.standby(t, "")
	n.enters(Quiet)
}

// Events that are published wait for the standby. They leave room for the sweeps that find what the others write.
func TestPublishersWaitForAStandby(t *testing.T) {
	t.Parallel()
	db := newStalling(t)
	pin(t, db.DB, Busy)
	n := startNodeIn(t, Config{DatabaseURL: db.URL, PoolSize: 4})
	n.opened(1)
	db.stall(t)
	ctx, cancel := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	var gaveUp atomic.Int32
	defer publishers.Wait()
	defer cancel()
	defer db.goOn(t)
	for range 10 {
		publishers.Go(func() {
			if err := n.Publish(ctx, Event{Channel: "chat", Shared: true}); err == nil {
				t.Error("an event was published without the standby")
			}
			gaveUp.Add(1)
		})
	}
	waitFor(t, "an event waits, and others for it", func() (waits bool) {
		err := db.Pool(t).QueryRow(t.Context(), `select count(*) > 0 from pg_stat_activity where datname = current_database()
			and application_name = $1 and wait_event = 'SyncRep' and query ~ 'publish'`, poolName).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
	local := db.local(t)
	for version := 2; version < 50; version++ {
		if _, err := local.Exec(t.Context(), `update ledger set version = $1 where id = 2`, version); err != nil {
			t.Fatal(err)
		}
	}
	n.until("all versions are there", func() bool { return n.machine.Stats().Changes >= 48 })
	if n := gaveUp.Load(); n > 0 {
		t.Errorf("not before %d publishers had given up", n)
	}
}

package pg

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// newTerm is a leader's session that nothing drives.
func newTerm(t *testing.T, databaseURL string) *term {
	t.Helper()
	src, err := New(Config{DatabaseURL: databaseURL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	config := src.leader.config
	conn, _, err := connectFit(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	term := &term{leader: src.leader, conn: conn}
	if err := term.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return term
}

// A candidate's statement begins, and takes its snapshot, while the leader has announced busy. Before it tries for the place, the
// leader announces quiet and is gone. Elected, it must not take its own snapshot's word for it that the stream is busy.
func TestElectedBehindAnAnnouncement(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	leader := newTerm(t, db.URL)
	if err := leader.exec(t.Context(), `begin isolation level repeatable read; select busy from notifyql.mode`); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `select notifyql.announce_mode(false)`)
	if err := leader.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	if leader.announced {
		t.Error("it takes the stream for busy")
	}
}

// What a login's transactions are by default, a leader's are not.
func TestALeaderWhoseLoginOnlyReads(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"default_transaction_read_only = on", "default_transaction_isolation = serializable"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			ledger(t, db)
			url := serverLogin(t, db)
			db.Exec(t, `alter role "server `+db.Name+`" set `+setting)
			n := startNodeIn(t, Config{DatabaseURL: url})
			n.opened(1)
			n.enters(Quiet)
			var isolation, readOnly string
			leader := newTerm(t, url)
			err := leader.ask(t.Context(), `select current_setting('transaction_isolation'), current_setting('transaction_read_only')`, &isolation, &readOnly)
			if err != nil || isolation != "read committed" || readOnly != "off" {
				t.Errorf("its transactions are %s, read only %s: %v", isolation, readOnly, err)
			}
			writeLedger(t, db, 2, 20)()
			n.caughtUp(db)
			checkLedger(t, db, n)
			if st := n.Status(); len(st.Problems) > 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A server that is stopped in the orderly way says that its writers are silent before they are.
func TestALeaderSaysGoodbye(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	n.stop()
	var busy, open bool
	err := db.Pool(t).QueryRow(t.Context(), `select busy, pg_try_advisory_xact_lock_shared(gate) from notifyql.mode`).Scan(&busy, &open)
	if err != nil || !busy || !open {
		t.Errorf("the row says busy: %v, the gate is open: %v, %v", busy, open, err)
	}
}

// It says its last word also if it is stopped while it waits for an answer, but not for long.
func TestALeaderIsStoppedAsItWaits(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	leader := newTerm(t, db.URL)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	words, end := outlive(ctx, time.Second)
	defer end()
	cancel()
	if err := leader.exec(words, `select 1`); err != nil {
		t.Errorf("it can't say anything more: %v", err)
	}
	if err := leader.exec(words, `select pg_sleep(60)`); !errors.Is(err, context.Canceled) {
		t.Errorf("it waits on: %v", err)
	}
}

// A transaction keeps the stream busy, which is said, until busy is what is wanted. What is wanted after that is tried at once.
func TestBusyIsWantedAfterAll(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	leader := newTerm(t, db.URL)
	holder := db.Conn(t, "postgres")
	exec := func(sql string) {
		t.Helper()
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(busy bool) {
		t.Helper()
		if err := leader.keep(t.Context(), leader.asked.Add(leader.wait), busy); err != nil {
			t.Fatal(err)
		}
	}
	problem := func() string { return leader.state.get().Problems["gate"] }
	exec(`begin; select pg_advisory_xact_lock_shared(gate) from notifyql.mode`)
	for leader.wait < 8*gatePause {
		keep(false)
	}
	if problem() == "" {
		t.Error("it is not said")
	}
	keep(true)
	if why := problem(); why != "" {
		t.Errorf("it is still said: %s", why)
	}
	exec(`commit`)
	if keep(false); !leader.holds {
		t.Errorf("it waits for %v", leader.wait)
	}
}

package pg

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// All but the listener goes through a transaction pooler that gives each transaction to another server.
func TestPoolThroughPooler(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	told := make(chan int, 100)
	n := startNode(t, Config{
		DatabaseURL: db.URL, PoolURL: through(t, db.URL, pgtest.Pooler(t, db.URL, 3)), Poll: 20 * time.Millisecond,
		OnCatalog: func(c catalog.Catalog) { told <- len(c.Tables) },
	})
	n.opened(1)
	for i := range 10 {
		db.Exec(t, "insert into ledger values ($1, 'a', 1, repeat('x', $2))", i, i*2000)
	}
	db.Exec(t, "update ledger set version = 2, fill = repeat('y', 1000000)")
	db.Exec(t, "insert into ledger select i, 'b', 1 from generate_series(100, 3000) i")
	n.caughtUp(db)
	checkLedger(t, db, n)
	db.Exec(t, "select notifyql.unwatch('ledger')")
	for tables := -1; tables != 0; {
		select {
		case tables = <-told:
		case <-time.After(10 * time.Second):
			t.Fatal("the catalog is not followed")
		}
	}
	if err := n.Publish(t.Context(), Event{Channel: "chat", Tenant: "a", Data: []byte(`{"text": "hi"}`)}); err != nil {
		t.Fatal(err)
	}
	n.caughtUp(db)
	if c := lastChange(n); c.Op != change.Event || c.Topic.Channel != "chat" || c.Tenant != "a" || string(c.New) != `{"text": "hi"}` {
		t.Errorf("the event came as %+v", c)
	}
	if stats := n.stats(); stats.SweepsFailed > 0 || stats.Anomalies > 0 {
		t.Errorf("%+v; %+v", stats, n.Status())
	}
}

func lastChange(n *node) change.Change {
	cs := lastOfAll(n).Changes
	return cs[len(cs)-1]
}

func lastOfAll(n *node) change.Txn {
	all := n.all()
	return all[len(all)-1]
}

// A connection over which nothing comes any more, and nobody says so, is replaced.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	wire := newWire(t, db.URL)
	said := &heardLog{testLog: testLog{t}}
	n := startNode(t, Config{DatabaseURL: through(t, db.URL, wire.addr), Log: slog.New(slog.NewTextHandler(said, nil))})
	n.opened(1)
	db.Exec(t, "insert into ledger values (1, 'a', 1)")
	n.caughtUp(db)
	began := time.Now()
	wire.cutOff()
	n.until("the loss is noticed", func() bool { return count[feed.Lost](n) == 1 })
	t.Logf("noticed after %v", time.Since(began))
	db.Exec(t, "update ledger set version = 2")
	n.opened(2)
	if !said.contains("the server has not answered") { // the status may have gone on already
		t.Error("nobody was told why")
	}
	n.caughtUp(db)
	checkLedger(t, db, n)
	waitFor(t, "all is well again", func() bool {
		st := n.Status()
		return st.Listening && len(st.Problems) == 0 && st.Lost == 1
	})
}

// heardLog is a testLog that remembers.
type heardLog struct {
	testLog
	mu   sync.Mutex
	text strings.Builder
}

func (l *heardLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	return l.testLog.Write(b)
}

func (l *heardLog) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// stuckConn is a connection of which nothing can be read. What is written to it, and its end, can be awaited.
type stuckConn struct {
	net.Conn
	written, closed chan struct{}
}

func (c stuckConn) Write(b []byte) (int, error)      { c.written <- struct{}{}; return len(b), nil }
func (c stuckConn) SetWriteDeadline(time.Time) error { return nil }
func (c stuckConn) Close() error                     { close(c.closed); return nil }

// Time in which the reader does not wait for the network is no sign of a dead connection: whoever takes its batches may be slow.
func TestSlowTakerIsNoHalfOpenConnection(t *testing.T) {
	t.Parallel()
	conn := stuckConn{written: make(chan struct{}), closed: make(chan struct{})}
	s := &session{conn: newBurst(conn, func() {})}
	const silence = 4 * time.Millisecond
	var pinger sync.WaitGroup
	pinger.Go(func() { s.ping(t.Context(), silence, silence) })
	select {
	case <-conn.written:
		t.Error("the server was asked for a sign of life while the reader was busy")
	case <-conn.closed:
		t.Fatal("the connection was given up while the reader was busy")
	case <-time.After(25 * silence):
	}
	s.conn.waiting.Store(true)
	<-conn.written
	<-conn.closed
	pinger.Wait()
}

// A notification that can't be read loses nothing: what it told of comes from the log, in order.
func TestUnreadableNotification(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	n := startNode(t, Config{DatabaseURL: db.URL, Beat: time.Hour})
	n.opened(1)
	db.Exec(t, "insert into ledger values (1, 'a', 1)")
	db.Exec(t, `begin;
		update ledger set version = 2;
		select pg_notify((select channel from notifyql.secret), '[1,"U",');
		update ledger set version = 3;
		commit`)
	db.Exec(t, "update ledger set version = 4")
	n.caughtUp(db)
	checkLedger(t, db, n)
	if st := n.Status(); st.Unreadable != 1 {
		t.Errorf("%d are counted", st.Unreadable)
	}
	if st := n.stats(); st.Sweeps == 0 {
		t.Error("there was no sweep")
	}
}

// The changes of a transaction whose order is not that of seq come in canonical order, whole and page by page.
func TestUnorderedTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	// Each insert is followed by an update from within: the update is logged first when the user's trigger sorts before ours.
	db.Exec(t, `
		create function again() returns trigger language plpgsql as $$
		begin
			update ledger set version = version + 1 where id = new.id;
			return null;
		end $$;
		create trigger "  first" after insert on ledger for each row execute function again();`)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	db.Exec(t, "insert into ledger select i, 'a', 1 from generate_series(1, 3) i")
	n.caughtUp(db)
	checkLedger(t, db, n)
	db.Exec(t, "insert into ledger select i, case i % 10 when 0 then 'b' else 'a' end, 1 from generate_series(10, 709) i")
	n.caughtUp(db)
	checkLedger(t, db, n)
	last := lastOfAll(n)
	if last.Stub == nil {
		t.Fatal("the second transaction is not a stub: this test needs a larger one")
	}
	var seqs pgtype.FlatArray[int64]
	if err := db.Pool(t).QueryRow(t.Context(), "select array_agg(seq order by seq) from notifyql.change where xid = $1 and tenant = 'b'", uint64(last.XID)).Scan(&seqs); err != nil {
		t.Fatal(err)
	}
	var after *change.Change
	var got []change.Change
	for more := true; more; { // pages as small as can be, of a tenant with few changes
		page, m, err := n.Txn(t.Context(), last.XID, after, last.Stub, []change.Topic{n.topic()}, []string{"b"}, 30)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page...)
		if more = m; len(got) > 0 {
			after = &got[len(got)-1]
		}
	}
	if len(got) != len(seqs) {
		t.Fatalf("got %d changes of the tenant, the log has %d", len(got), len(seqs))
	}
	for i := 0; i < len(got); i += 2 {
		if got[i].Op != change.Insert || got[i+1].Op != change.Update || got[i].NewTID != got[i+1].OldTID {
			t.Fatalf("changes %d and %d are %c and %c of %s and %s", i, i+1, got[i].Op, got[i+1].Op, got[i].New, got[i+1].Old)
		}
	}
}

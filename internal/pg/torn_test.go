package pg

import (
	"errors"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A transaction has notified more than comes at once, its leader dies, another one changes a row in silence, and then the first one
// does. What was sent of it can't be continued: its rest comes after the other. The node says so and goes on from there, and a cursor
// from its middle is refused.
func TestATornTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	db.Exec(t, `insert into ledger select i, 'a', 1 from generate_series(1, 101) i`)
	n := startNode(t, Config{DatabaseURL: db.URL, Beat: time.Hour})
	n.opened(1)
	n.enters(Quiet) // or the transaction is silent from its beginning
	conn := db.Conn(t, "postgres")
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`begin; update ledger set version = 2, fill = repeat('x', 3500) where id <= 90`)
	release := stranger(t, db, "lead")
	db.Exec(t, `update ledger set version = 2 where id = 101`)
	exec(`update ledger set version = 3 where id = 101; commit`)
	n.until("it goes on from another place", func() bool { return count[feed.Expired](n) == 1 })

	var inside change.Cursor
	for _, txn := range n.all() {
		for i := range txn.Changes {
			if txn.Changes[i].Op != change.Update || len(txn.Changes[i].New) < 3500 {
				t.Errorf("%s was sent", txn.Changes[i].New)
			}
			inside = txn.Before.Behind(&txn.Changes[i])
		}
	}
	if inside.Part.XID == 0 {
		t.Fatal("nothing was sent")
	}
	n.mu.Lock()
	now := n.machine.Place().Cursor()
	n.mu.Unlock()
	if _, err := n.Since(t.Context(), inside, now, []change.Topic{n.topic()}, []string{"a"}, 10); !errors.Is(err, change.ErrCursorExpired) {
		t.Errorf("a place inside of it is read on from: %v", err)
	}
	before := n.all()[0].Before.Cursor()
	page, err := n.Since(t.Context(), before, now, []change.Topic{n.topic()}, []string{"a"}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, p := range page.Txns {
		for _, c := range p.Changes {
			if len(c.New) < 3500 {
				versions = append(versions, string(c.New))
			}
		}
	}
	if len(versions) != 2 || versions[0] != `{"id":101,"tenant_id":"a","version":2,"fill":null}` || versions[1] != `{"id":101,"tenant_id":"a","version":3,"fill":null}` {
		t.Errorf("from before it is read: %q", versions)
	}

	release()
	n.enters(Quiet)
	db.Exec(t, `update ledger set version = 4 where id = 101`)
	n.until("what is written then arrives", func() bool {
		last := n.txns[len(n.txns)-1]
		return len(last.Changes) == 1 && string(last.Changes[0].New) == `{"id":101,"tenant_id":"a","version":4,"fill":null}`
	})
}

package pg

import (
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// serverLogin makes a login that may run the server and nothing else, and returns the database's URL for it.
func serverLogin(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	login := "server " + db.Name
	db.Exec(t, `create role "`+login+`" login`)
	t.Cleanup(func() { db.Exec(t, `drop role "`+login+`"`) })
	db.Exec(t, `do $$ begin
		execute format('grant %I to "`+login+`"', (select left(nspowner::regrole::text, -length('owner')) || 'server'
			from pg_namespace where nspname = 'notifyql'));
		end $$`)
	return db.URLAs(login)
}

// A member of the server's role may do all that a source does.
func TestServerRoleSuffices(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ledger(t, db)
	told := make(chan catalog.Catalog, 10)
	n := startNode(t, Config{DatabaseURL: serverLogin(t, db), OnCatalog: func(c catalog.Catalog) { told <- c }})
	n.opened(1)
	select {
	case c := <-told:
		if len(c.Tables) != 1 {
			t.Errorf("it sees %+v", c)
		}
	case <-time.After(10 * time.Second):
		t.Error("it does not see the catalog")
	}
	db.Exec(t, "insert into ledger values (1, 'a', 1, repeat('x', 9000))")
	db.Exec(t, "insert into ledger select i, 'b', 1 from generate_series(2, 2000) i")
	n.caughtUp(db)
	checkLedger(t, db, n)
	if err := n.Publish(t.Context(), Event{Channel: "chat", Shared: true}); err != nil {
		t.Error(err)
	}
	if _, err := n.drive.heartbeat(t.Context()); err != nil {
		t.Error(err)
	}
	if st := n.Status(); len(st.Problems) > 0 {
		t.Errorf("%+v", st)
	}
}

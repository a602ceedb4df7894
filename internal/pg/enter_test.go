package pg

import (
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Nodes that come to a database at the same moment, as the first, leave its log as it is.
func TestEnteringAtOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		db := pgtest.New(t)
		x := logRows(t, db, "a", 3, 10)
		var nodes sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			conn := db.Conn(t, "postgres")
			nodes.Go(func() {
				<-start
				if _, err := conn.Exec(t.Context(), "select notifyql.enter()"); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		nodes.Wait()
		if n := one[int](t, db, "select count(*) from notifyql.change where xid = $1::xid8", uint64(x)); n != 3 {
			t.Fatalf("%d rows of 3 are left", n)
		}
	}
}

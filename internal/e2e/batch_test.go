package e2e

import (
	"encoding/json"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

type batchResult struct {
	Data struct {
		B struct {
			Complete bool
			Changes  []struct {
				Kind string
				New  struct{ ID int }
			}
		} `json:"manyBatch"`
	}
}

func nextBatch(t *testing.T, c *client) (ids []int, complete bool) {
	t.Helper()
	var r batchResult
	if err := json.Unmarshal([]byte(c.next(t)), &r); err != nil {
		t.Fatal(err)
	}
	for _, ch := range r.Data.B.Changes {
		ids = append(ids, ch.New.ID)
	}
	return ids, r.Data.B.Complete
}

// A transaction is one message; one too large for that comes in parts that say so.
func TestATransactionIsOneMessage(t *testing.T) {
	overEachLibrary(t, func(t *testing.T, serve serving) {
		t.Parallel()
		db := pgtest.New(t)
		db.Exec(t, `
			create table many (id int primary key, tenant_id text not null, body text not null default '');
			select notifyql.watch('many');`)
		srv := serve(t, db.URL, freeAddr(t))
		c := connect(t, srv.addr, map[string]any{"tenantId": "acme"}, subscription{Query: `subscription { manyBatch { complete changes { kind new { id } } } }`})
		srv.await(t, "to have the subscription", func(h health) bool { return h.Subscriptions == 1 })

		db.Exec(t, `insert into many select i, case when i % 2 = 0 then 'acme' else 'zeta' end, repeat('x', 3000) from generate_series(1, 60) i`)
		ids, complete := nextBatch(t, c)
		if len(ids) != 30 || !complete || ids[0] != 2 || ids[29] != 60 {
			t.Fatalf("a transaction of 30 came as %d, complete: %v", len(ids), complete)
		}
		db.Exec(t, `insert into many values (101, 'acme')`)
		if ids, complete := nextBatch(t, c); len(ids) != 1 || !complete || ids[0] != 101 {
			t.Fatalf("got %v, complete: %v", ids, complete)
		}
		// Beyond a hundred the notifications are markers, and beyond a thousand the node reads it page by page.
		for _, rows := range []int{300, 5000} {
			db.Exec(t, `delete from many`)
			for n, parts := 0, 0; ; parts++ {
				ids, complete := nextBatch(t, c)
				n += len(ids)
				if complete {
					t.Logf("the deletes of %d rows came in %d parts", n, parts+1)
					break
				}
			}
			db.Exec(t, `insert into many select i, 'acme' from generate_series(1, $1) i`, rows)
			last := 0
			for complete := false; !complete; {
				var ids []int
				ids, complete = nextBatch(t, c)
				for _, id := range ids {
					if id != last+1 {
						t.Fatalf("row %d after %d", id, last)
					}
					last = id
				}
			}
			if last != rows {
				t.Fatalf("%d of %d rows came", last, rows)
			}
		}
	})
}

package pg

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// While a slot is being emptied, and while that waits for who reads it, nobody who writes waits: not for a moment.
func TestWritersDoNotWaitForATurn(t *testing.T) {
	t.Parallel()
	r := lonelyRing(t) // commits that notify wait for each other, on the whole server
	ledger(t, r.DB)
	r.log(4, "25 hours")
	r.log(5, "30 hours")
	r.log(6, "1 second")
	r.Exec(t, "select notifyql.tick()")
	turn := r.begin()
	var emptied int
	if err := turn.QueryRow(t.Context(), "select count(*) from notifyql.turn() where outcome = 'emptied'").Scan(&emptied); err != nil || emptied != 1 {
		t.Fatalf("%d slots were emptied (%v)", emptied, err)
	}
	// Another slot is to be emptied, and waits for who reads it.
	reader, other, leaf := r.begin(), r.Conn(t, "postgres"), r.leaf(5)
	if _, err := reader.Exec(t.Context(), "lock table only notifyql."+leaf+" in access share mode"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := other.Exec(t.Context(), "begin; lock table only notifyql."+leaf+" in access exclusive mode; commit", pgx.QueryExecModeSimpleProtocol)
		waits <- err
	}()
	r.waiting(1)

	w := r.Conn(t, "postgres")
	for _, sql := range []string{
		"set lock_timeout = '1ms'",
		"insert into ledger values (1, 'a', 1, null)",
		"insert into ledger select i, 'b', 1 from generate_series(2, 500) i",
		"update ledger set version = version + 1",
		"begin; insert into ledger select i, 'a', 1 from generate_series(501, 590) i; savepoint s; select nextval('notifyql.change_seq') from generate_series(1, 100)",
		"do $$ begin for i in 601..1000 loop insert into ledger values (i, 'a' || i, 1, null); end loop; end $$",
		"commit",
		"delete from ledger where id > 10",
		"select notifyql.publish('c', '1', shared => true)",
		"select notifyql.publish('c', to_jsonb(repeat('x', 9000)), 'a') from generate_series(1, 150)",
		"truncate ledger",
	} {
		if _, err := w.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := turn.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Error(err)
	}
}

// leaf is the table of a slot, counted from the one that is written to.
func (r ring) leaf(slot int) (name string) {
	r.t.Helper()
	if err := r.Pool(r.t).QueryRow(r.t.Context(), `select 'change_' || ((date_part('epoch', now())::bigint / 100000000) + $1) % 10`, slot).Scan(&name); err != nil {
		r.t.Fatal(err)
	}
	return name
}

// In a ring of ten seconds, turned several times a second, every change arrives once, and the log stays small.
func TestFastRing(t *testing.T) {
	t.Parallel()
	// A server of its own: a transaction of another database that lasts longer than the log is kept would be one that may be missed.
	db := pgtest.NewOn(t, pgtest.Server(t, localpg.Options{}))
	ledger(t, db)
	db.Exec(t, "update notifyql.setting set slot_seconds = 1, retention = '3 seconds'")
	n := startNode(t, Config{DatabaseURL: db.URL, Turn: 100 * time.Millisecond})
	n.opened(1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 2)
	some := make(chan struct{}, 1) // was written
	var written [2]int
	for i := range 2 {
		conn := db.Conn(t, "postgres")
		go func() {
			for id := i * 1_000_000; ctx.Err() == nil; id++ {
				if _, err := conn.Exec(context.WithoutCancel(ctx), "insert into ledger values ($1, 'a', 1, repeat('x', $2))", id, id%50*200); err != nil {
					done <- fmt.Errorf("writing row %d: %w", id, err)
					return
				}
				written[i]++
				if id%50 == 0 {
					select {
					case some <- struct{}{}:
					default:
					}
				}
			}
			done <- nil
		}()
	}
	ended := 0
	for emptied, at := 0, ""; emptied < 3 && ended == 0; {
		select {
		case <-some:
		case err := <-done:
			t.Error(err)
			ended++
			continue
		}
		was := at
		if err := db.Pool(t).QueryRow(t.Context(), "select coalesce(at::text, '') from notifyql.retention").Scan(&at); err != nil {
			t.Fatal(err)
		}
		if at != was {
			emptied++
		}
	}
	stop()
	for ; ended < 2; ended++ {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	missing, seen := written[0]+written[1], 0
	n.until("all is there", func() bool {
		for ; seen < len(n.txns); seen++ {
			missing -= len(n.txns[seen].Changes)
		}
		return missing <= 0
	})
	checkLedger(t, db, n)
	var left int
	if err := db.Pool(t).QueryRow(t.Context(), "select count(*) from notifyql.change").Scan(&left); err != nil {
		t.Fatal(err)
	}
	if total := written[0] + written[1]; left >= total*9/10 {
		t.Errorf("%d of %d rows are left in the log", left, total)
	}
	if st := n.stats(); st.Expired != 0 {
		t.Errorf("%+v", st)
	}
}

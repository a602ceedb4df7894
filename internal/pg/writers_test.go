package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// ledger makes a watched table in which each version of a row has a number, one above that of the version before. So what
// arrives can be held against the rows themselves: every version once, in order, the last one as SELECT shows it.
func ledger(t testing.TB, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, `
		create table ledger (id int primary key, tenant_id text not null, version int not null, fill text);
		select notifyql.watch('ledger')`)
}

type ledgerRow struct {
	ID      int    `json:"id"`
	Tenant  string `json:"tenant_id"`
	Version int    `json:"version"`
	Fill    string `json:"fill"`
}

// checkLedger replays what the node dispatched and compares it with the table.
func checkLedger(t testing.TB, db *pgtest.DB, n *node) {
	t.Helper()
	rows := map[int]ledgerRow{}
	seen := map[int64]bool{}
	for _, txn := range n.dispatched() {
		for _, c := range txn.Changes {
			if seen[c.Seq] {
				t.Errorf("seq %d of transaction %d came twice", c.Seq, c.XID)
			}
			seen[c.Seq] = true
			var old, now ledgerRow
			for _, i := range []struct {
				image []byte
				row   *ledgerRow
			}{{c.Old, &old}, {c.New, &now}} {
				if i.image == nil {
					continue
				}
				if err := json.Unmarshal(i.image, i.row); err != nil {
					t.Fatalf("seq %d: %v in %.100s", c.Seq, err, i.image)
				}
			}
			id := old.ID + now.ID
			if c.Op == change.Update {
				id = now.ID
			}
			if had := rows[id]; had != old {
				t.Errorf("seq %d, %c of row %d: the old row is %+v, but what came before made it %+v", c.Seq, c.Op, id, old, had)
			}
			if c.Op == change.Delete {
				delete(rows, id)
				continue
			}
			if now.Version != old.Version+1 {
				t.Errorf("seq %d, %c of row %d: version %d came after %d", c.Seq, c.Op, id, now.Version, old.Version)
			}
			rows[id] = now
		}
	}
	got, err := db.Pool(t).Query(context.Background(), "select id, tenant_id, version, coalesce(fill, '') from ledger")
	if err != nil {
		t.Fatal(err)
	}
	table, err := pgx.CollectRows(got, pgx.RowToStructByPos[ledgerRow])
	if err != nil {
		t.Fatal(err)
	}
	if len(table) != len(rows) {
		t.Errorf("%d rows were replayed, the table has %d", len(rows), len(table))
	}
	for _, row := range table {
		if rows[row.ID] != row {
			t.Errorf("row %d was replayed as %+v, the table has %+v", row.ID, rows[row.ID], row)
		}
	}
}

// dispatched are all transactions so far, those that are only in the log read from there.
func (n *node) dispatched() []change.Txn {
	n.t.Helper()
	txns := n.all()
	for i, txn := range txns {
		if txn.Stub == nil {
			continue
		}
		for more := true; more; {
			var after *change.Change
			if k := len(txns[i].Changes); k > 0 {
				after = &txns[i].Changes[k-1]
			}
			page, m, err := n.Txn(context.Background(), txn.XID, after, txn.Stub, []change.Topic{n.topic()}, []string{"a", "b"}, 1000)
			if err != nil {
				n.t.Fatal(err)
			}
			txns[i].Changes = append(txns[i].Changes, page...)
			more = m
		}
	}
	return txns
}

// topic is that of the only watched table.
func (n *node) topic() change.Topic {
	n.t.Helper()
	c, _, err := n.Catalog(context.Background())
	if err != nil || len(c.Tables) != 1 {
		n.t.Fatalf("%v, want one table in %+v", err, c)
	}
	return change.Topic{Watch: c.Tables[0].Watch}
}

// caughtUp waits until all that is committed now, and was after the node started, has been dispatched.
func (n *node) caughtUp(db *pgtest.DB) {
	n.t.Helper()
	rows, err := db.Pool(n.t).Query(context.Background(), "select xid, count(*), max(seq) from notifyql.change group by xid")
	if err != nil {
		n.t.Fatal(err)
	}
	missing := map[change.XID]int64{} // last seq
	var xid uint64
	var rowCount, last int64
	counts := map[change.XID]int64{}
	if _, err := pgx.ForEachRow(rows, []any{&xid, &rowCount, &last}, func() error {
		missing[change.XID(xid)], counts[change.XID(xid)] = last, rowCount
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	seen := 0
	n.until(fmt.Sprintf("all of %d transactions are dispatched", len(missing)), func() bool {
		for x := range missing {
			if n.start.Sees(x) {
				delete(missing, x)
			}
		}
		for ; seen < len(n.txns); seen++ {
			txn := n.txns[seen]
			if counts[txn.XID] -= int64(len(txn.Changes)); counts[txn.XID] <= 0 || txn.Stub != nil && txn.Stub.LastSeq >= missing[txn.XID] {
				delete(missing, txn.XID)
			}
		}
		return len(missing) == 0
	})
}

// writer writes random transactions into the ledger.
type writer struct {
	*rand.Rand
	conn *pgx.Conn
	ids  int
}

// transaction writes one of them; some are rolled back, or a part of them is.
func (w *writer) transaction(ctx context.Context) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	for range 1 + w.IntN(3)*w.IntN(3) {
		if w.IntN(4) > 0 {
			if err := w.write(ctx, tx); err != nil {
				return err
			}
			continue
		}
		part, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if err := w.write(ctx, part); err != nil {
			return err
		}
		if w.IntN(2) == 0 {
			err = part.Rollback(ctx)
		} else {
			err = part.Commit(ctx)
		}
		if err != nil {
			return err
		}
	}
	if w.IntN(8) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// write writes one or several rows in one statement.
func (w *writer) write(ctx context.Context, tx pgx.Tx) error {
	id := w.IntN(w.ids)
	fill := w.IntN(20)
	if w.IntN(30) == 0 {
		fill = 9000 // too large for a notification
	}
	var sql string
	switch w.IntN(8) {
	case 0:
		sql = "delete from ledger where id = $1 and $2 >= 0"
	case 1:
		sql = "update ledger set version = version + 1, fill = repeat('y', $2 / 10) where id between $1 and $1 + 3"
	default:
		sql = `insert into ledger values ($1, case $1 % 2 when 0 then 'a' else 'b' end, 1, repeat('x', $2))
		       on conflict (id) do update set version = ledger.version + 1, fill = excluded.fill`
	}
	_, err := tx.Exec(ctx, sql, id, fill)
	return err
}

// retry says whether a writer's error is one that writers must expect here: another had the row.
func retry(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40P01" || pgErr.Code == "23505")
}

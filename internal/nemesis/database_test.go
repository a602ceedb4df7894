package nemesis

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

const dbname = "nemesis"

// database is where the primary is just now.
type database struct {
	t testing.TB

	mu      sync.Mutex
	primary *localpg.Server
	lost    []time.Time // when commits may have been lost
}

// settings of all servers. With durable off the last seconds of commits are lost when a server dies.
func settings(durable bool) map[string]string {
	s := map[string]string{
		"track_commit_timestamp": "on", "deadlock_timeout": "100ms", "wal_keep_size": "512MB", "max_wal_size": "2GB",
		"hot_standby": "on", "max_prepared_transactions": "20",
	}
	if !durable {
		s["synchronous_commit"] = "off"
		s["wal_writer_delay"] = "10s"
	}
	return s
}

func newDatabase(t testing.TB, durable bool) *database {
	t.Helper()
	d := &database{t: t, primary: pgtest.Server(t, localpg.Options{Settings: settings(durable)})}
	if err := d.primary.CreateDatabase(t.Context(), dbname, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.exec(t.Context(), steppable); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Up(t.Context(), d.primary.URL(dbname)); err != nil {
		t.Fatal(err)
	}
	if err := d.exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *database) server() *localpg.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.primary
}

func (d *database) addr() string { return "127.0.0.1:" + strconv.Itoa(d.server().Port()) }

func (d *database) losing(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = append(d.lost, at)
}

func (d *database) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, d.server().URL(dbname))
}

// exec runs statements on a connection of its own.
func (d *database) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// insist is exec, again and again until the database is there.
func (d *database) insist(ctx context.Context, sql string, args ...any) error {
	var err error
	for range 600 {
		if err = d.exec(ctx, sql, args...); err == nil {
			return nil
		}
		if !pass(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	return err
}

// pass lets time go by, and reports whether ctx still lasts.
func pass(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// truth reads what the database did. Nobody may write any more.
func (d *database) truth(ctx context.Context) (*Truth, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	t := &Truth{Txns: map[uint64]Txn{}, Rows: map[string][]Row{}, Lost: d.lost}
	columns := func(prefix string) string {
		c := "coalesce((R->>'id')::bigint, 0), coalesce((R->>'v')::bigint, 0), coalesce((R->>'stamp')::bigint, 0), coalesce(R->>'tenant_id', ''), coalesce((R->>'n')::int, 0), coalesce(R->>'grp', '')"
		return strings.ReplaceAll(c, "R", prefix)
	}
	fields := func(r *Row) []any { return []any{&r.ID, &r.Version, &r.Stamp, &r.Tenant, &r.N, &r.Group} }
	rows, err := conn.Query(ctx, "select tbl, xid, seq, old is not null, new is not null, "+columns("old")+", "+columns("new")+" from ledger")
	if err != nil {
		return nil, err
	}
	var w Written
	var was, is bool
	var old, new Row
	into := append([]any{&w.Table, &w.XID, &w.Seq, &was, &is}, append(fields(&old), fields(&new)...)...)
	if _, err := pgx.ForEachRow(rows, into, func() error {
		c := Written{Table: w.Table, XID: w.XID, Seq: w.Seq}
		if was {
			o := old
			c.Old = &o
		}
		if is {
			n := new
			c.New = &n
		}
		t.Written = append(t.Written, c)
		return nil
	}); err != nil {
		return nil, err
	}
	if t.Txns, err = transactions(ctx, conn); err != nil {
		return nil, err
	}
	for _, table := range tables {
		rows, err := conn.Query(ctx, "select id, v, stamp, tenant_id, n, grp from "+table)
		if err != nil {
			return nil, err
		}
		var r Row
		if _, err := pgx.ForEachRow(rows, fields(&r), func() error {
			t.Rows[table] = append(t.Rows[table], r)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// prepared are the names of the prepared transactions.
func (d *database) prepared(ctx context.Context) ([]string, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	rows, err := conn.Query(ctx, "select gid from pg_prepared_xacts where database = current_database() order by gid")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// announced is how often a leader has said which mode the stream is in.
func (d *database) announced(ctx context.Context) (n int, err error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	err = conn.QueryRow(ctx, "select number from notifyql.mode").Scan(&n)
	return n, err
}

func transactions(ctx context.Context, conn *pgx.Conn) (map[uint64]Txn, error) {
	rows, err := conn.Query(ctx, `select xid, pg_snapshot_xmax(snapshot)::text::bigint, array(select pg_snapshot_xip(snapshot)::text::bigint),
	  coalesce(pg_xact_commit_timestamp(mod(xid, 4294967296)::text::xid), to_timestamp(0)) from begun`)
	if err != nil {
		return nil, err
	}
	txns := map[uint64]Txn{}
	var xid uint64
	var x Txn
	_, err = pgx.ForEachRow(rows, []any{&xid, &x.Before.Xmax, &x.Before.Xip, &x.Committed}, func() error {
		t := x
		t.Before.Xip = append([]uint64(nil), x.Before.Xip...)
		txns[xid] = t
		return nil
	})
	return txns, err
}

// why says what became of a place in the history whose tick has this id, and whether anything was ever dropped from the log.
func (d *database) why(ctx context.Context, tick int64) (cause Cause, emptied bool, err error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return Unknown, false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	var dropped uint64
	if err := conn.QueryRow(ctx, "select dropped::text::bigint from notifyql.retention").Scan(&dropped); err != nil || dropped == 0 {
		return Unknown, false, err
	}
	var s Snapshot
	err = conn.QueryRow(ctx, `select pg_snapshot_xmax(snapshot)::text::bigint, array(select pg_snapshot_xip(snapshot)::text::bigint)
	  from notifyql.tick where id = $1`, tick).Scan(&s.Xmax, &s.Xip)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Retention, true, nil
	case err != nil:
		return Unknown, true, err
	case dropped >= s.Xmax, slices.ContainsFunc(s.Xip, func(x uint64) bool { return x <= dropped }):
		return Retention, true, nil
	}
	return Unknown, true, nil
}

// torn says whether the transaction that a place is in can't be continued, or, of a node that gave up all that it should have sent,
// whether there is any such transaction.
func (d *database) torn(ctx context.Context, xid uint64, away bool) (Cause, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return Unknown, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	var torn bool
	err = conn.QueryRow(ctx, "select exists (select from notifyql.torn where $2 or xid = $1::text::xid8)", strconv.FormatUint(xid, 10), away).Scan(&torn)
	if torn {
		return Torn, err
	}
	return Unknown, err
}

func (d *database) lostSince(t time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.lost) > 0 && d.lost[len(d.lost)-1].After(t)
}

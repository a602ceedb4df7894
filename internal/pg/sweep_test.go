package pg

import (
	"fmt"
	"slices"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// logRows puts rows of a transaction of its own into the log and returns its xid. n of them, each with an image of so many bytes.
func logRows(t testing.TB, db *pgtest.DB, tenant string, n, bytes int) change.XID {
	t.Helper()
	var xid uint64
	err := db.Pool(t).QueryRow(t.Context(), `
		with logged as (
			insert into notifyql.change (slot, watch, op, shared, tenant, leaf, new_ctid, new)
			select i % 10, 7, 'I', false, $1, 4711, format('(%s,1)', i)::tid, json_build_object('n', i, 'fill', string_agg(md5(random()::text), ''))
			from generate_series(1, $2) i, generate_series(0, $3 / 32)
			group by i
			returning xid)
		select xid from logged limit 1`, tenant, n, bytes).Scan(&xid)
	if err != nil {
		t.Fatal(err)
	}
	return change.XID(xid)
}

// snapshot is the present one.
func snapshot(t testing.TB, db *pgtest.DB) change.Snapshot {
	t.Helper()
	var text string
	if err := db.Pool(t).QueryRow(t.Context(), "select pg_current_snapshot()::text").Scan(&text); err != nil {
		t.Fatal(err)
	}
	s, err := change.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sweepFrom sweeps and returns all parts of the answer as one.
func sweepFrom(t testing.TB, s *Source, f *change.Frontier) (feed.Swept, int) {
	t.Helper()
	var all feed.Swept
	parts := 0
	err := s.drive.sweeper.sweep(t.Context(), feed.Sweep{ID: 5, From: f.Clone(), Era: eraOf(t, s)}, func(in feed.Input) {
		swept := in.(feed.Swept)
		if parts > 0 && (!all.More || swept.Snapshot.String() != all.Snapshot.String()) {
			t.Errorf("part %d: after the last one, or of another snapshot", parts)
		}
		parts++
		swept.Txns = append(all.Txns, swept.Txns...)
		all = swept
	})
	if err != nil {
		t.Fatal(err)
	}
	if all.More || all.ID != 5 {
		t.Errorf("the last part says more=%v, id=%d", all.More, all.ID)
	}
	return all, parts
}

func xids(txns []change.Txn) (xs []change.XID) {
	for _, t := range txns {
		xs = append(xs, t.XID)
	}
	return xs
}

func TestSweepFindsWhatTheFrontierLacks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := testSource(t, db)
	before := logRows(t, db, "a", 3, 10)

	// A transaction that runs when the frontier's snapshot is taken, and commits after later ones.
	slow, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback(t.Context())
	var slowXID uint64
	const logOne = `insert into notifyql.change (slot, watch, op, shared, tenant) values (1, 7, 'D', false, 'b') returning xid`
	if err := slow.QueryRow(t.Context(), logOne).Scan(&slowXID); err != nil {
		t.Fatal(err)
	}
	between := logRows(t, db, "a", 1, 10)
	f := change.NewFrontier(snapshot(t, db))
	if f.Contains(change.XID(slowXID)) || !f.Contains(between) || !f.Contains(before) {
		t.Fatalf("the snapshot %v is not what this test needs", f.Snapshot)
	}
	done, open, fresh := logRows(t, db, "a", 2, 10), logRows(t, db, "a", 4, 10), logRows(t, db, "a", 2, 10)
	got, _ := sweepFrom(t, s, &f)
	if want := []change.XID{done, open, fresh}; !slices.Equal(xids(got.Txns), want) {
		t.Fatalf("found %v, want %v", xids(got.Txns), want)
	}

	f.Add(done)
	f.Receive(open, got.Txns[1].Changes[1].Seq)
	if err := slow.QueryRow(t.Context(), logOne).Scan(&slowXID); err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, parts := sweepFrom(t, s, &f)
	if want := []change.XID{open, fresh, change.XID(slowXID)}; !slices.Equal(xids(got.Txns), want) || parts != 1 {
		t.Fatalf("found %v in %d parts, want %v: the open one, then by last seq", xids(got.Txns), parts, want)
	}
	if !got.Txns[0].Continued || len(got.Txns[0].Changes) != 2 || got.Txns[1].Continued || len(got.Txns[1].Changes) != 2 || len(got.Txns[2].Changes) != 2 {
		t.Errorf("the open one: continued %v, %d changes, want the two that are missing; others %+v", got.Txns[0].Continued, len(got.Txns[0].Changes), got.Txns[1:])
	}
	for _, x := range xids(got.Txns) {
		if !got.Snapshot.Sees(x) {
			t.Errorf("%v does not see %d, which it brought", got.Snapshot, x)
		}
	}
	c := got.Txns[1].Changes[0]
	if c.Op != change.Insert || c.Topic != (change.Topic{Watch: 7}) || c.Tenant != "a" || c.Leaf != 4711 || c.NewTID != (change.TID{Block: 1, Offset: 1}) || c.Old != nil || len(c.New) < 30 || c.At.IsZero() {
		t.Errorf("a change came as %+v", c)
	}
}

// A restored dump holds rows whose xids are still to come.
func TestSweepLeavesOutTheFuture(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := testSource(t, db)
	f := change.NewFrontier(snapshot(t, db))
	eraOf(t, s) // else they would be taken for those of another cluster
	db.Exec(t, `insert into notifyql.change (slot, xid, watch, op, shared) select 1, '99999999'::xid8, 7, 'D', true from generate_series(1, 3000)`)
	x := logRows(t, db, "a", 1, 10)
	got, parts := sweepFrom(t, s, &f)
	if !slices.Equal(xids(got.Txns), []change.XID{x}) || parts != 1 {
		t.Errorf("found %v in %d parts, want %d alone", xids(got.Txns), parts, x)
	}
}

// What is too much for one answer comes in parts, in order, with stubs for what is large.
func TestSweepInParts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := testSource(t, db)
	f := change.NewFrontier(snapshot(t, db))
	var want []change.XID
	stubs := map[change.XID]int{}
	for i := range 40 {
		x := logRows(t, db, fmt.Sprint("tenant ", i%3), 100, 100)
		want = append(want, x)
		switch i {
		case 5: // many rows
			x = logRows(t, db, "many", 12_000, 10)
			stubs[x] = 12_000
			want = append(want, x)
		case 9: // large ones
			x = logRows(t, db, "large", 6, 1_000_000)
			stubs[x] = 6
			want = append(want, x)
		case 11: // one large row is not a stub
			want = append(want, logRows(t, db, "a", 1, 1_000_000))
		}
	}
	got, parts := sweepFrom(t, s, &f)
	if !slices.Equal(xids(got.Txns), want) {
		t.Fatalf("found %v, want %v", xids(got.Txns), want)
	}
	if parts < 4 {
		t.Errorf("came in %d parts", parts)
	}
	for _, txn := range got.Txns {
		n, large := stubs[txn.XID]
		switch {
		case large != (txn.Stub != nil):
			t.Errorf("%d is a stub: %v, want %v", txn.XID, txn.Stub != nil, large)
		case large:
			if len(txn.Stub.Scopes) != 1 || txn.Stub.Scopes[0].Topic.Watch != 7 || txn.Stub.AfterSeq != 0 || len(txn.Changes) != 0 {
				t.Errorf("%d: stub %+v", txn.XID, txn.Stub)
			}
			tenant := txn.Stub.Scopes[0].Tenant
			if cs := readAll(t, s, txn, tenant); len(cs) != n || cs[len(cs)-1].Seq != txn.Stub.LastSeq {
				t.Errorf("%d: read %d changes of %q, want %d, the last with seq %d", txn.XID, len(cs), tenant, n, txn.Stub.LastSeq)
			}
		}
	}
}

// readAll reads all of a stub that a tenant may see, page by page.
func readAll(t testing.TB, s *Source, txn change.Txn, tenants ...string) (cs []change.Change) {
	t.Helper()
	var after *change.Change
	for more := true; more; {
		var page []change.Change
		var err error
		page, more, err = s.Txn(t.Context(), txn.XID, after, txn.Stub, []change.Topic{{Watch: 7}}, tenants, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 && more {
			t.Fatal("an empty page says that there is more")
		}
		cs = append(cs, page...)
		if len(cs) > 0 {
			after = &cs[len(cs)-1]
		}
	}
	return cs
}

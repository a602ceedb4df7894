package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A million rows, and pages of large ones, take no more memory than a few.
func TestRowsTakeBoundedMemory(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key, fill text); insert into r select i, repeat('x', 100) from generate_series(1, 300000) i;
		insert into r select i, repeat(md5(i::text), 3000) from generate_series(300001, 302000) i`)
	id := watch(t, db, `'r', shared => true`)
	s := testSource(t, db)
	peak := watchHeap(t)
	rows, largest, pages := 0, 0, 0
	_, err := s.Rows(t.Context(), &change.Query{Watch: id, OrderBy: []change.OrderBy{{Column: "id"}}}, 1000, func(page []change.Change) error {
		size := 0
		for _, c := range page {
			size += len(c.New)
		}
		rows, largest, pages = rows+len(page), max(largest, size), pages+1
		if len(page) > 1000 {
			t.Errorf("a page of %d rows", len(page))
		}
		return nil
	})
	if err != nil || rows != 302000 {
		t.Fatalf("%d rows, %v", rows, err)
	}
	if used := peak(); used > 16<<20 || largest > pageBytes+200<<10 || pages < 400 {
		t.Errorf("%d MiB, the largest page of %d bytes, %d pages", used>>20, largest, pages)
	}
}

// A row whose image would be larger than those that capture makes can't be converted, and does not fail the rest. Its values don't
// leave the database.
func TestRowsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key, tenant_id int default 1, a text, b bytea, c text);
		insert into r values (1, 1, 'x'); insert into r values (2, 1, repeat('a', 200000000), convert_to(repeat('b', 40000000), 'UTF8'), 'c')`)
	db.Exec(t, `insert into r values (3, 2, 'z', null, repeat('long', 1000000))`)
	id := watch(t, db, `'r'`)
	s := testSource(t, db)
	rows, _, err := rowsOf(t, s, change.Query{Watch: id, Tenants: []string{"1", "2"}, OrderBy: []change.OrderBy{{Column: "id"}}})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, c := range rows {
		large := i == 1
		if c.Unserializable != large || (c.New == nil) != large || c.Tenant != []string{"1", "1", "2"}[i] {
			t.Errorf("row %d: too large %v, %d bytes, of %q", i+1, c.Unserializable, len(c.New), c.Tenant)
		}
	}
	db.Exec(t, `update r set id = id where id <> 2`)
	if got, want := news(append(rows[:1:1], rows[2])), logged(t, db, id); got != want {
		t.Error("the others are not as captured")
	}
}

// running are the backends that run a query for rows.
const running = `select count(*) from pg_stat_activity where datname = current_database() and application_name = $1 and state = 'active' and query like '%notifyql rows%'`

// Who goes away ends the query, whatever it is doing: it waits to be taken, or works.
func TestRowsEndWithTheirReader(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key, fill text); insert into r select i, repeat('x', 1000) from generate_series(1, 30000) i`)
	id := watch(t, db, `'r', shared => true`)
	s := testSource(t, db)
	count := func() int { return one[int](t, db, running, poolName) }

	ctx, cancel := context.WithCancel(t.Context())
	pages := 0
	_, err := s.Rows(ctx, &change.Query{Watch: id}, 10, func([]change.Change) error {
		if pages++; pages == 2 {
			if n := count(); n != 1 {
				t.Errorf("%d queries run while a page is taken", n)
			}
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || pages > 200 {
		t.Errorf("%v after %d pages", err, pages)
	}
	waitFor(t, "the query has ended", func() bool { return count() == 0 })

	full := errors.New("too many")
	if _, err := s.Rows(t.Context(), &change.Query{Watch: id}, 10, func([]change.Change) error { return full }); !errors.Is(err, full) || errors.Is(err, change.ErrUnreadable) {
		t.Error(err)
	}
	waitFor(t, "the query has ended", func() bool { return count() == 0 })

	ctx, cancel = context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.Rows(ctx, &change.Query{Watch: id, Where: `(select count(*) from generate_series(1, 1000000000000)) > 0`}, 10, func([]change.Change) error { return nil })
		ended <- err
	}()
	waitFor(t, "the query works", func() bool { return count() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waitFor(t, "the query has ended", func() bool { return count() == 0 })

	// The pool is as good as before.
	for range 10 {
		if rows, _, err := rowsOf(t, s, change.Query{Watch: id, Limit: 7}); err != nil || len(rows) != 7 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
	}
}

// There is an end to it.
func TestRowsTakeSoLong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key); insert into r values (1)`)
	id := watch(t, db, `'r', shared => true`)
	s := testSource(t, db)
	if _, _, err := rowsOf(t, s, change.Query{Watch: id}); err != nil { // and now there is a tick
		t.Fatal(err)
	}
	s.history.rowsTime = 500 * time.Millisecond
	_, _, err := rowsOf(t, s, change.Query{Watch: id, Where: `(select count(*) from generate_series(1, 1000000000000)) > 0`})
	if !errors.Is(err, change.ErrUnreadable) || !strings.Contains(err.Error(), "took longer than 500ms") && !strings.Contains(err.Error(), "statement timeout") {
		t.Error(err)
	}
	waitFor(t, "the query has ended", func() bool { return one[int](t, db, running, poolName) == 0 })
}

// Who reads the rows of a table slowly does not keep others from the log.
func TestRowsLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key)`)
	id := watch(t, db, `'r', shared => true`)
	db.Exec(t, `insert into r select i from generate_series(1, 100) i`)
	s := testSource(t, db)
	xid := one[uint64](t, db, `select xid from notifyql.change limit 1`)
	hold, held, done := make(chan struct{}), make(chan struct{}, 9), make(chan error, 9)
	for range cap(done) {
		go func() {
			_, err := s.Rows(t.Context(), &change.Query{Watch: id}, 1000, func([]change.Change) error {
				held <- struct{}{}
				<-hold
				return nil
			})
			done <- err
		}()
	}
	<-held
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cs, _, err := s.Txn(soon, change.XID(xid), nil, &change.Stub{}, []change.Topic{{Watch: id}}, nil, 1000)
	if err != nil || len(cs) != 100 {
		t.Errorf("%d changes, %v", len(cs), err)
	}
	if _, err := s.Rows(soon, &change.Query{Watch: id, Quick: true}, 1000, func([]change.Change) error { return nil }); err != nil {
		t.Errorf("quick rows: %v", err)
	}
	if _, err := s.drive.heartbeat(t.Context()); err != nil {
		t.Error(err)
	}
	close(hold)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := s.Rows(gone, &change.Query{Watch: id}, 10, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Rows are read through a transaction pooler too.
func TestRowsThroughPooler(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good'); create function said(mood) returns json language sql as 'select to_json(1)'; create cast (mood as json) with function said(mood);
		create table r (id int primary key, m mood default 'good')`)
	id := watch(t, db, `'r', shared => true`)
	db.Exec(t, `insert into r select i from generate_series(1, 1000) i`)
	s, err := New(Config{DatabaseURL: db.URL, PoolURL: through(t, db.URL, pgtest.Pooler(t, db.URL, 2))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for i := range 5 {
		rows, _, err := rowsOf(t, s, change.Query{Watch: id, Where: `"id" > $1::text::int`, Args: []any{fmt.Sprint(i * 100)}})
		if err != nil || len(rows) != 1000-i*100 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
	}
}

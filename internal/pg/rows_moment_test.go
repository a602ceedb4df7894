package pg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// loggedChange is a change as the log has it.
type loggedChange struct {
	xid      uint64
	op       string
	old, new *string
}

// behind are the log's changes that a cursor leaves, by what a snapshot is; with tenants, what of them is theirs.
func behind(t testing.TB, db *pgtest.DB, at change.Cursor, watch change.WatchID, tenants ...string) (left []loggedChange) {
	t.Helper()
	var text string
	if err := db.Pool(t).QueryRow(t.Context(), `select snapshot::text from notifyql.tick where id = $1 and bits = $2`, at.Tick.ID, int64(at.Tick.Bits)).Scan(&text); err != nil {
		t.Fatal(err)
	}
	tick, err := change.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.Pool(t).Query(t.Context(), `select xid, op::text, case when $2::text[] is null or old_tenant = any ($2) then old::text end, case when $2::text[] is null or tenant = any ($2) then new::text end
		from notifyql.change where watch = $1 order by seq`, watch, tenants)
	if err != nil {
		t.Fatal(err)
	}
	var c loggedChange
	if _, err := pgx.ForEachRow(rows, []any{&c.xid, &c.op, &c.old, &c.new}, func() error {
		if x := change.XID(c.xid); !tick.Sees(x) && !slices.Contains(at.Done, x) {
			left = append(left, c)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return left
}

// replay applies changes to rows. Each must find what it says that it found.
func replay(rows map[string]bool, changes []loggedChange) error {
	for _, c := range changes {
		if c.op == "T" {
			clear(rows)
		}
		if c.old != nil {
			if !rows[*c.old] {
				return fmt.Errorf("%s of a row that is not there: %s", c.op, *c.old)
			}
			delete(rows, *c.old)
		}
		if c.new != nil {
			if rows[*c.new] {
				return fmt.Errorf("%s of a row that is there: %s", c.op, *c.new)
			}
			rows[*c.new] = true
		}
	}
	return nil
}

// writeAtRandom writes to table r until stop, and counts its transactions.
func writeAtRandom(ctx context.Context, db *pgtest.DB, seed uint64, done *atomic.Int64, stop <-chan struct{}) error {
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	random := rand.New(rand.NewPCG(seed, 1))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + random.IntN(4) {
			id := random.IntN(3000)
			sql := []string{
				`insert into r values ($1, $2) on conflict (id) do update set v = excluded.v`,
				`update r set v = $2 where id = $1`, `delete from r where id = $1 and $2 <> ''`,
				`update r set id = -id, v = $2 where id between $1 - 1 and $1`,
			}[random.IntN(4)]
			if _, err = tx.Exec(ctx, sql, id, fmt.Sprintf("%d %d", seed, n)); err != nil {
				break
			}
		}
		if err != nil || random.IntN(8) == 0 {
			err = errors.Join(tx.Rollback(ctx), notConflict(err))
		} else {
			err = notConflict(tx.Commit(ctx))
		}
		if err != nil {
			return err
		}
		done.Add(1)
	}
}

// notConflict is an error that is not of two writers in each other's way.
func notConflict(err error) error {
	if err != nil && (strings.Contains(err.Error(), "23505") || strings.Contains(err.Error(), "40P01")) {
		return nil
	}
	return err
}

// While the rows are read, slowly, others write. The rows and what the log has behind the place make up what the table holds in
// the end; each change of it finds the rows as it says that it found them.
func TestRowsAndWhatFollows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key, v text)`)
	id := watch(t, db, `'r', shared => true`)
	db.Exec(t, `insert into r select i, 'first' from generate_series(1, 2000) i`)
	s := testSource(t, db)

	stop := make(chan struct{})
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			if err := writeAtRandom(t.Context(), db, uint64(w), &done, stop); err != nil {
				t.Error(err)
			}
		})
	}
	type read struct {
		rows map[string]bool
		at   change.Cursor
	}
	var reads []read
	for round := range 8 {
		if round%3 == 2 {
			db.Exec(t, `select notifyql.tick()`)
		}
		if round == 4 {
			db.Exec(t, `insert into r select i, 'many' from generate_series(10000, 14000) i`)
		}
		rows := map[string]bool{}
		q := change.Query{Watch: id}
		if round%2 == 1 {
			q.OrderBy = []change.OrderBy{{Column: "v", Descending: true}}
		}
		at, err := s.Rows(t.Context(), &q, 300, func(page []change.Change) error {
			for _, c := range page {
				rows[string(c.New)] = true
			}
			for n := done.Load(); done.Load() < n+5; {
				if t.Failed() {
					return errors.New("a writer has failed")
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		reads = append(reads, read{rows, at})
	}
	close(stop)
	wg.Wait()

	final := map[string]bool{}
	for _, image := range strings.Split(one[string](t, db, `select string_agg(row_to_json(r)::text, e'\n') from r`), "\n") {
		final[image] = true
	}
	for i, r := range reads {
		left := behind(t, db, r.at, id)
		if len(left) == 0 {
			t.Errorf("round %d: nothing was written behind it", i)
		}
		if err := replay(r.rows, left); err != nil {
			t.Errorf("round %d: %v", i, err)
			continue
		}
		for image := range r.rows {
			if !final[image] {
				t.Errorf("round %d: %s is too much", i, image)
			}
		}
		if len(r.rows) != len(final) {
			t.Errorf("round %d: %d rows, want %d", i, len(r.rows), len(final))
		}
	}
}

// one is a query's one value.
func one[T any](t testing.TB, db *pgtest.DB, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.Pool(t).QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// The place is made of a tick that there is, or of one made for it: where there is none yet, where the newest is far away, and in
// an era that nobody has entered. What was logged since the tick is listed, a large transaction by a look at its end.
func TestRowsFindAPlace(t *testing.T) {
	t.Parallel()
	// On a server of its own: a transaction of another database that is open when a tick is taken is in its snapshot too.
	db := pgtest.NewOn(t, pgtest.Server(t, localpg.Options{}))
	db.Exec(t, `create table r (id int primary key)`)
	id := watch(t, db, `'r', shared => true`)
	s := testSource(t, db)
	read := func() change.Cursor {
		t.Helper()
		_, at, err := rowsOf(t, s, change.Query{Watch: id})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	ticks := func() int64 { return one[int64](t, db, `select count(*) from notifyql.tick`) }

	first := read()
	if ticks() != 1 || first.Era == 0 || first.Tick.ID == 0 || len(first.Done) != 0 {
		t.Errorf("%d ticks, %+v", ticks(), first)
	}
	slow, err := db.Conn(t, "postgres").Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), `insert into r values (1)`); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `select notifyql.tick()`)
	db.Exec(t, `insert into r select i from generate_series(10, 20000) i`)
	for i := range 30 {
		db.Exec(t, `insert into r values ($1)`, 100000+i)
	}
	if at := read(); len(at.Done) != 31 || ticks() != 2 || at.Tick.ID == first.Tick.ID {
		t.Errorf("%d ticks, %+v", ticks(), at)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := read()
	if len(at.Done) != 32 || ticks() != 2 {
		t.Errorf("%d ticks, %+v", ticks(), at)
	}
	var sum uint64
	for _, m := range marksOf(t, db, at.Done) {
		sum += m.Sum()
	}
	if sum != at.Sum {
		t.Errorf("the marks' sum is %d, want %d", at.Sum, sum)
	}

	// A transaction that ran when the tick was taken, and has ended without a change, is not above what was dropped.
	if slow, err = db.Conn(t, "postgres").Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	var x change.XID
	if err := slow.QueryRow(t.Context(), `select pg_current_xact_id()`).Scan((*uint64)(&x)); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `select notifyql.tick()`)
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `update notifyql.retention set dropped = $1::text::xid8`, strconv.FormatUint(uint64(x), 10))
	if at := read(); ticks() != 4 || len(at.Done) != 0 {
		t.Errorf("%d ticks, %+v", ticks(), at)
	}

	tx := strings.Repeat("begin; insert into r values (nextval('n')); commit;", maxBeyond+1)
	db.Exec(t, `create sequence n start 200000; `+tx)
	if at := read(); len(at.Done) > 40 || ticks() != 5 {
		t.Errorf("%d ticks, %+v", ticks(), at)
	}
	db.Exec(t, `delete from notifyql.life`)
	if at := read(); at.Era == first.Era || ticks() > 6 {
		t.Errorf("%d ticks, %+v", ticks(), at)
	}
}

// marksOf reads the marks of transactions.
func marksOf(t testing.TB, db *pgtest.DB, xids []change.XID) (marks []change.Mark) {
	t.Helper()
	for _, x := range xids {
		var m change.Mark
		if err := db.Pool(t).QueryRow(t.Context(), `select xid, seq, at from notifyql.change where xid::text = $1 order by seq desc limit 1`, strconv.FormatUint(uint64(x), 10)).
			Scan((*uint64)(&m.XID), &m.Seq, &m.At); err != nil {
			t.Fatal(err)
		}
		marks = append(marks, m)
	}
	return marks
}

// The server is started anew while rows are read: their place would be one of the life before.
func TestRowsOfAnotherEra(t *testing.T) {
	t.Parallel()
	db := pgtest.NewOn(t, pgtest.Server(t, localpg.Options{}))
	db.Exec(t, `create table r (id int primary key)`)
	id := watch(t, db, `'r', shared => true`)
	db.Exec(t, `insert into r values (1)`)
	s := testSource(t, db)
	_, err := s.Rows(t.Context(), &change.Query{Watch: id}, 10, func([]change.Change) error {
		db.Exec(t, `delete from notifyql.life; select notifyql.enter()`) // which is all that a reader sees of it, but for the lost connection
		return nil
	})
	if !errors.Is(err, change.ErrOtherEra) {
		t.Error(err)
	}
	_, err = s.Rows(t.Context(), &change.Query{Watch: id}, 10, func([]change.Change) error {
		return db.Server.Restart(t.Context(), localpg.Immediate)
	})
	if err == nil || errors.Is(err, change.ErrUnreadable) {
		t.Error(err)
	}
	waitFor(t, "the rows can be read again", func() bool {
		rows, _, err := rowsOf(t, s, change.Query{Watch: id})
		return err == nil && len(rows) == 1
	})
}

// The table is altered between the reader's snapshot and its query.
func TestRowsOfATableThatIsAltered(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for name, alter := range map[string]string{
		"rewritten":       `alter table r alter v type text using v || '!'`, // an older snapshot sees no row of it
		"emptied":         `truncate r`,
		"renamed":         `alter table r rename to r2`,
		"replaced":        `alter table r rename to r2; create table r (id int, v text, hidden text)`,
		"columns swapped": `alter table r rename v to x; alter table r rename hidden to v; alter table r rename x to hidden`,
		"column dropped":  `alter table r drop column v`,
	} {
		db.Exec(t, `create table r (id int primary key, v text, hidden text); insert into r values (1, 'v', 'secret'), (2, 'v', 'secret')`)
		id := watch(t, db, `'r', shared => true, exclude => '{hidden}'`)
		s := testSource(t, db)
		conn, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reader := rowsReader{conn: conn.Conn(), time: rowsTimeout}
		if err := reader.begin(t.Context(), &change.Query{Watch: id}); err != nil {
			t.Fatal(err)
		}
		db.Exec(t, alter)
		if err := reader.hold(t.Context(), &reader.table); !errors.Is(reader.table.explain(err), errAltered) {
			t.Errorf("%s: %v", name, err)
		}
		reader.end(t.Context())
		conn.Release()
		rows, _, err := rowsOf(t, s, change.Query{Watch: id})
		want := map[string]string{
			"rewritten": `{"id":1,"v":"v!"}` + "\n" + `{"id":2,"v":"v!"}` + "\n", "emptied": "",
			"column dropped":  `{"id":1}` + "\n" + `{"id":2}` + "\n",
			"columns swapped": `{"id":1,"hidden":"v"}` + "\n" + `{"id":2,"hidden":"v"}` + "\n",
		}
		w, ok := want[name]
		if !ok {
			w = `{"id":1,"v":"v"}` + "\n" + `{"id":2,"v":"v"}` + "\n"
		}
		if err != nil || news(rows) != w {
			t.Errorf("%s: then %s, %v", name, news(rows), err)
		}
		db.Exec(t, `drop table if exists r, r2`)
	}
}

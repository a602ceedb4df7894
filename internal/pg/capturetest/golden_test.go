package capturetest

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What capture relies on in Postgres, beside what the other tests here would notice.

func TestGoldenPayloadLimit(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	db.Exec(t, `select pg_notify('x', repeat('x', 7999)), pg_notify('x', repeat('é', 3999) || 'x')`)
	for _, payload := range []string{`repeat('x', 8000)`, `repeat('é', 4000)`} {
		if got := try(t, db, `select pg_notify('x', `+payload+`)`); !strings.Contains(got, "payload string too long") {
			t.Errorf("%s: %s", payload, got)
		}
	}
}

// Equal notifications of a transaction are one, in the place of the first, across savepoints too.
func TestGoldenEqualNotificationsAreOne(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	conn := db.Conn(t, "postgres")
	for _, sql := range []string{
		`listen x`, `begin`, `notify x, 'a'`, `notify x, 'b'`, `savepoint s`, `notify x, 'a'`, `notify x, 'c'`, `release s`,
		`savepoint s`, `notify x, 'd'`, `rollback to s`, `notify x, 'a'`, `notify x, 'e'`, `commit`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for range 4 {
		n, err := conn.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n.Payload)
	}
	want(t, strings.Join(got, " "), "a b c e")
}

// row_to_json runs a cast to json that a type's owner made, in an array too; concat and format take the output function.
func TestGoldenWhatRunsForeignCode(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	db.Exec(t, `create type mood as enum ('good');
		create function mood_json(mood) returns json language sql as $$ select '"cast"'::json $$; create cast (mood as json) with function mood_json(mood);
		create function mood_text(mood) returns text language sql as $$ select 'cast'::text $$; create cast (mood as text) with function mood_text(mood) as implicit;
		create table t (m mood, ms mood[]); insert into t values ('good', '{good}')`)
	want(t, lines(t, db, `select row_to_json(t)::text from t`), `{"m":"cast","ms":["cast"]}`)
	want(t, lines(t, db, `select concat(m) || format('%s', m) || m::text from t`), `goodgoodcast`)
}

// A change's microseconds survive the detour over a float.
func TestGoldenMicroseconds(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	rows, err := db.Pool(t).Query(t.Context(), `select at, (date_part('epoch', at) * 1000000)::bigint
		from generate_series(1, 20000) n, lateral (select timestamptz '2000-01-01' + n * interval '45 hours 1.000001 seconds' + random() * interval '1 day' as at) r`)
	if err != nil {
		t.Fatal(err)
	}
	var at time.Time
	var micros int64
	if _, err := pgx.ForEachRow(rows, []any{&at, &micros}, func() error {
		if at.UnixMicro() != micros {
			t.Errorf("%v: %d, not %d", at, micros, at.UnixMicro())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if at.Year() < 2100 {
		t.Error(at)
	}
}

// The version of a row that this transaction made, in a subtransaction too, is not older than the transaction; one that
// another made is.
func TestGoldenAgeOfARow(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	db.Exec(t, `create table t (id int); insert into t values (1)`)
	conn := db.Conn(t, "postgres")
	var old, own, sub int
	if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(t.Context(), `select age(xmin) from t`).Scan(&old); err != nil { // before the transaction has an xid
			return err
		}
		if _, err := tx.Exec(t.Context(), `insert into t values (2); savepoint s; insert into t values (3); release s`); err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), `select max(age(xmin)) filter (where id = 2), max(age(xmin)) filter (where id = 3) from t`).Scan(&own, &sub)
	}); err != nil {
		t.Fatal(err)
	}
	if old <= 0 || own > 0 || sub > 0 {
		t.Errorf("ages: %d of an old row, %d of an own one, %d of a subtransaction's", old, own, sub)
	}
}

package pg

import (
	"fmt"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// watch watches a table and returns its number.
func watch(t testing.TB, db *pgtest.DB, arguments string) (id change.WatchID) {
	t.Helper()
	if err := db.Pool(t).QueryRow(t.Context(), "select notifyql.watch("+arguments+")").Scan((*int32)(&id)); err != nil {
		t.Fatal(err)
	}
	return id
}

// rowsOf reads the rows of q.
func rowsOf(t testing.TB, s *Source, q change.Query) (rows []change.Change, at change.Cursor, err error) {
	t.Helper()
	at, err = s.Rows(t.Context(), &q, 100, func(page []change.Change) error {
		rows = append(rows, page...)
		return nil
	})
	return rows, at, err
}

// news are the new images of rows, a line each.
func news(rows []change.Change) string {
	var b strings.Builder
	for _, c := range rows {
		fmt.Fprintf(&b, "%s\n", c.New)
	}
	return b.String()
}

// logged are the new images that the log has of a table, a line each.
func logged(t testing.TB, db *pgtest.DB, id change.WatchID) (images string) {
	t.Helper()
	if err := db.Pool(t).QueryRow(t.Context(), `select coalesce(string_agg(new::text || e'\n', '' order by seq), '') from notifyql.change where watch = $1`, id).Scan(&images); err != nil {
		t.Fatal(err)
	}
	return images
}

// What is read of a row is, to the byte, what the trigger made of it.
func TestRowsAreAsCaptured(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create type mood as enum ('good', 'very "bad"'); create type pair as (a int, b text, c int[], at timestamp);
		create domain email as text; create domain stamp as timestamptz; create domain deep as email;
		create table "odd ""table" (
			id int primary key, "tenant_id" uuid not null, hidden text default 'secret', "Quote "" and
			line" text, small smallint, big bigint, amount numeric, r real, d double precision, ok boolean, money money, vc varchar(5), c char(5),
			ch "char", n name, bin bytea, js json, jb jsonb, da date, ti time, tz timetz, ts timestamp, tstz timestamptz, span interval,
			range tstzrange, ints integer[], texts text[], stamps timestamptz[], feel mood, feels mood[], mail deep, at stamp, duo pair, duos pair[],
			ip inet, bits bit(3), words tsvector, spot point, rel regclass, made int generated always as (id * 2) stored, void text)`)
	id := watch(t, db, `'"odd ""table"', exclude => '{hidden}'`)
	for i, v := range []string{
		`'back\slash "quoted"', -1, 9007199254740993, 'NaN', 'NaN', 'Infinity', true, 12.5::numeric::money, 'abc', 'ab', 'x', 'a name', '\x00ff', '{"a": 1,  "a": "\u0000"}',
		 '{"b": [1.50, null]}', '2024-02-29', '24:00', '12:00+05:30', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+01', '1 year -2 days 03:04', '[2024-01-02 03:04+01,)',
		 '{1,NULL,3}', '{"a,b",NULL,"\"q\""}', '{2024-01-01 00:00+00}', 'very "bad"', '{good}', 'a@b', 'infinity', row(1, 'a"b', '{1}', '2024-01-01'), array[row(1, 'x', null, null)::pair, null],
		 '192.168.0.1/24', '101', 'fat:1 cat', '(0.1,2)', 'pg_class', default, null`,
		`e'tab\t nl\n bell\x07 é 🐘', 1, -1, 1e-30, 1e38, 5e-324, false, (-1)::numeric::money, '', '', '', '', '', 'null', 'null', '0044-03-15 BC', '00:00', '00:00-14', '-infinity', '0044-03-15 12:00+00 BC', '0',
		 'empty', '{}', '{}', '{}', 'good', '{}', '', '2024-01-01', null, '{}', '::1', '000', '', '(1,1)', 'public."odd ""table"', default, ''`,
		`null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, default, null`,
	} {
		db.Exec(t, fmt.Sprintf(`set timezone = 'UTC'; insert into "odd ""table" values (%d, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', default, %s)`, i+1, v))
	}
	db.Exec(t, `alter table "odd ""table" drop column void, add column later text default 'as if it had been there'`)
	db.Exec(t, `set timezone = 'UTC'; insert into "odd ""table" (id, tenant_id) values (4, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'); select notifyql.watch('"odd ""table"', exclude => '{hidden}')`)
	db.Exec(t, `truncate notifyql.change; set timezone = 'UTC'; update "odd ""table" set id = id`)

	rows, _, err := rowsOf(t, testSource(t, db), change.Query{Watch: id, Tenants: []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, OrderBy: []change.OrderBy{{Column: "id"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := news(rows), logged(t, db, id); got != want || len(rows) != 4 || strings.Contains(got, "secret") {
		t.Errorf("read:\n%s\nlogged:\n%s", got, want)
	}
	for _, c := range rows {
		if c.Op != change.Insert || c.Tenant != "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" || c.Shared || c.Topic.Watch != id || c.XID != 0 || c.Seq != 0 {
			t.Errorf("a row is %+v", c)
		}
	}
}

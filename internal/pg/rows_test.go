package pg

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

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
	if one[int](t, db, `select current_setting('server_version_num')::integer`) >= 180000 {
		db.Exec(t, `alter table "odd ""table" add column virtual int generated always as (id * 3) virtual`) // triggers see no value of it
	}
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

// The order is the one asked for: text by its bytes, nulls where they shall be, the primary key in the end. So is the limit.
func TestRowsInOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('z', 'a'); create domain word as text;
		create table r (k2 text, t text collate "en-x-icu", c char(4), w word, n numeric, i int, d double precision, m mood, at timestamptz, b bytea, u uuid, k1 int, primary key (k1, k2));
		insert into r select chr(97 + g::int % 3), t, t, t, n, i, d, m, '2024-01-01'::timestamptz + i * interval '1 hour', decode(lpad(to_hex(i + 10), 4, '0'), 'hex'), md5(i::text)::uuid, g
		from unnest(array['b', 'B', 'a', 'Ä', 'ab', 'a b', '', null, '😀', '10', '9'], array[1.5, 'NaN', -1, 1e30, null, 0, 1.50, 2, 2, 2, 10],
		            array[3, -3, 0, 3, 3, null, 1, 2, 9, 10, 0], array['NaN', '-Infinity', '0', '-0', null, 1e308, 1, 2, 3, 4, 'Infinity']::float8[],
		            array['a', 'z', null, 'a', 'z', 'a', 'z', 'a', 'z', 'a', 'z']::mood[]) with ordinality x (t, n, i, d, m, g)`)
	id := watch(t, db, `'r', shared => true`)
	s := testSource(t, db)
	for _, by := range [][]change.OrderBy{
		nil,
		{{Column: "k1"}},
		{{Column: "k1", Descending: true}},
		{{Column: "t"}},
		{{Column: "t", Descending: true}},
		{{Column: "t", NullsFirst: true}},
		{{Column: "c", Descending: true, NullsFirst: true}},
		{{Column: "w"}},
		{{Column: "n"}},
		{{Column: "n", Descending: true}},
		{{Column: "i", NullsFirst: true}},
		{{Column: "d"}},
		{{Column: "m"}, {Column: "t", Descending: true}},
		{{Column: "at"}},
		{{Column: "b"}},
		{{Column: "u"}},
		{{Column: "i"}, {Column: "k2", Descending: true}, {Column: "n"}},
	} {
		for _, limit := range []int64{0, 1, 4, 100} {
			var order []string
			for _, o := range by {
				term := o.Column
				if strings.Contains(" t c w k2 ", " "+o.Column+" ") {
					term = `convert_to(` + o.Column + `::text, 'UTF8')` // its bytes
				}
				order = append(order, fmt.Sprintf("%s %s nulls %s", term, map[bool]string{true: "desc"}[o.Descending], map[bool]string{true: "first", false: "last"}[o.NullsFirst]))
			}
			want := one[string](t, db, `select string_agg(image, e'\n' order by place) from (select row_to_json(r)::text as image, row_number() over (order by `+
				strings.Join(append(order, "k1", "k2"), ", ")+`) as place from r) x where place <= $1 or $1 = 0`, limit)
			rows, _, err := rowsOf(t, s, change.Query{Watch: id, OrderBy: by, Limit: limit})
			got := strings.TrimSpace(news(rows))
			if len(by) == 0 && limit == 0 {
				got, want = sorted(got), sorted(want)
			}
			if err != nil || got != want {
				t.Errorf("%+v, limit %d: %v, got\n%s\nwant\n%s", by, limit, err, got, want)
			}
		}
	}
	for _, column := range []string{"nothing", "notifyql rows", "ctid", `"; drop table r`} {
		if _, _, err := rowsOf(t, s, change.Query{Watch: id, OrderBy: []change.OrderBy{{Column: column}}}); !errors.Is(err, change.ErrUnreadable) {
			t.Errorf("by %q: %v", column, err)
		}
	}
}

func sorted(lines string) string {
	list := strings.Split(lines, "\n")
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// A condition is on the table's columns and on nothing else.
func TestRowsWhere(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table r (id int primary key, v text, gone text); insert into r values (1, 'a'), (2, 'b'), (3, null)`)
	id := watch(t, db, `'r', shared => true`)
	s := testSource(t, db)
	for _, c := range []struct {
		where string
		args  []any
		want  string
	}{
		{`"v" = $1::text`, []any{"a"}, "1"},
		{`"v" = $1::text or "id" = $2::text::int8`, []any{"a", "2"}, "1 2"},
		{`not ("v" = $1::text)`, []any{"a"}, "2"},
		{`"v" is null`, nil, "3"},
		{`"v" = $1::text`, []any{"' or true --"}, ""},
		{`true) or (true`, nil, "1 2 3"},
	} {
		rows, _, err := rowsOf(t, s, change.Query{Watch: id, Where: c.where, Args: c.args, OrderBy: []change.OrderBy{{Column: "id"}}})
		var got []string
		for _, r := range rows {
			got = append(got, strings.SplitN(string(r.New), ",", 2)[0][len(`{"id":`):])
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v", c.where, got, err)
		}
	}
	db.Exec(t, `alter table r drop gone`)
	for _, where := range []string{`"gone" is null`, `"id"::text::int / 0 = 1`, `"v"::int = 1`, `relname = 'r'`, `n.nspname is null`} {
		if rows, _, err := rowsOf(t, s, change.Query{Watch: id, Where: where}); !errors.Is(err, change.ErrUnreadable) {
			t.Errorf("%s: %d rows, %v", where, len(rows), err)
		}
	}
	if _, _, err := rowsOf(t, s, change.Query{Watch: id, Where: `"id" = $1`, Args: []any{1}}); err == nil || errors.Is(err, change.ErrUnreadable) {
		t.Error(err)
	}
}

// Of a partitioned table the rows of all partitions are read; of one that others inherit from, only its own, whose changes arrive.
func TestRowsOfPartitions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table p (id int, v text) partition by range (id); create table p1 partition of p for values from (0) to (10);
		create table p2 partition of p for values from (10) to (20) partition by range (id); create table p3 partition of p2 for values from (10) to (15);
		insert into p values (1, 'a'), (11, 'b'); create table parent (id int); insert into parent values (1)`)
	p, parent := watch(t, db, `'p', shared => true`), watch(t, db, `'parent', shared => true`)
	db.Exec(t, `create table child () inherits (parent); insert into child values (2)`)
	s := testSource(t, db)
	for id, want := range map[change.WatchID]string{p: `{"id":1,"v":"a"}` + "\n" + `{"id":11,"v":"b"}`, parent: `{"id":1}`} {
		rows, _, err := rowsOf(t, s, change.Query{Watch: id})
		if err != nil || sorted(strings.TrimSpace(news(rows))) != want {
			t.Errorf("%s, %v", news(rows), err)
		}
	}
}

// FuzzImage makes images of values as no database sends them, and of those that it does, which are read back.
func FuzzImage(f *testing.F) {
	f.Add("name", "a\"b\\\n\x01é", "12", "t", "2024-01-01 00:00:00+00 BC", `{"a": 1}`)
	f.Add("", "", "NaN", "f", "infinity", "")
	f.Add("\"", "", "", "", " +00", "null")
	f.Fuzz(func(t *testing.T, name, text, number, truth, moment, document string) {
		m := newImageMaker([]rowColumn{{name: name}, {name: "n", as: asNumber}, {name: "b", as: asBool}, {name: "none", as: asNull}, {name: "t", as: asTime}, {name: "j", as: asJSON}, {name: "null"}})
		image, ok := m.image([][]byte{[]byte(text), []byte(number), []byte(truth), []byte(moment), []byte(document), nil, []byte("beside")})
		if whole := number != "" && truth != "" && moment != "" && document != ""; ok != whole {
			t.Fatalf("%q", image)
		}
		foreign := slices.ContainsFunc([]string{name, text, moment, number}, func(s string) bool { return !utf8.ValidString(s) })
		if !ok || foreign || !json.Valid([]byte(document)) || isDigit(number[len(number)-1]) && !json.Valid([]byte(number)) || strings.ContainsAny(moment+number, "\"\\\x00\n\r\t") {
			return
		}
		var row change.Row
		if err := row.Parse(image); err != nil {
			t.Fatalf("%s: %v", image, err)
		}
		key, value := row.Field(0)
		var gotName, gotText string
		if json.Unmarshal([]byte(`"`+key+`"`), &gotName) != nil || json.Unmarshal(value, &gotText) != nil || gotName != name || gotText != text {
			t.Errorf("%q: %q is %s", name, text, image)
		}
	})
}

package capturetest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// values of each type, as SQL. A name of the form "extension:type" is tried where the extension is at hand.
var values = []struct {
	typ    string
	from   int // the first version of Postgres that knows it
	values []string
}{
	{"smallint", 0, []string{`-32768`, `32767`}},
	{"integer", 0, []string{`-2147483648`, `2147483647`}},
	{"bigint", 0, []string{`9007199254740993`, `-9223372036854775808`, `9223372036854775807`}},
	{"numeric", 0, []string{`'NaN'`, `0.1`, `1e-30`, `123456789012345678901234567890.123456789`, `-0`}},
	{"numeric", 14, []string{`'Infinity'`, `'-Infinity'`}},
	{"numeric(38,10)", 0, []string{`1234567890123456789012345678.0123456789`, `'NaN'`, `5`}},
	{"real", 0, []string{`0.1`, `'NaN'`, `'Infinity'`, `'-Infinity'`, `'-0'`, `1e38`, `1e-40`}},
	{"double precision", 0, []string{`0.1::float8 + 0.2`, `'NaN'`, `'Infinity'`, `'-Infinity'`, `'-0'`, `1e308`, `5e-324`}},
	{"boolean", 0, []string{`true`, `false`}},
	{"money", 0, []string{`12.34::numeric::money`, `(-92233720368547758.08)::numeric::money`}},
	{"text", 0, []string{`''`, `'quote " backslash \ slash /'`, `e'new\nline tab\t bell\x07 del\x7f esc\x1b'`, `'emoji 🐘 é'`, `'\u0000 is no escape here'`, `e'\u2028\u2029'`, `'null'`, `'{}'`}},
	{"varchar(5)", 0, []string{`'abc'`, `'abcde'`}},
	{"char(5)", 0, []string{`'abc'`, `''`}},
	{`"char"`, 0, []string{`'a'`, `''`}},
	{"name", 0, []string{`'a name'`}},
	{"bytea", 0, []string{`''`, `'\x00ff'`, `'back\\slash'`}},
	{"json", 0, []string{`'null'`, `'"null"'`, `'{"a": 1, "a": 2}'`, `'{"x": "\u0000 \ud800"}'`, `'1e200000'`, `'-0'`, `e' { "ws" :\n[ ] } '`, `'""'`}},
	{"jsonb", 0, []string{`'null'`, `'"null"'`, `'{"b": 1, "a": [1.50, null, true]}'`, `'"\u00e9\n"'`}},
	{"uuid", 0, []string{`'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'`}},
	{"date", 0, []string{`'2024-02-29'`, `'infinity'`, `'-infinity'`, `'0044-03-15 BC'`, `'5874897-12-31'`}},
	{"time", 0, []string{`'00:00'`, `'24:00'`, `'23:59:59.999999'`}},
	{"timetz", 0, []string{`'12:00+05:30'`, `'00:00-14:59:59'`}},
	{"timestamp", 0, []string{`'2024-02-29 12:34:56.789'`, `'infinity'`, `'-infinity'`, `'0044-03-15 12:00 BC'`, `'294276-12-31 23:59:59.999999'`}},
	{"interval", 0, []string{`'1 year 2 months 3 days 04:05:06.789'`, `'-1 day'`, `'0'`, `'178000000 years'`}},
	{"interval", 17, []string{`'infinity'`, `'-infinity'`}},
	{"int4range", 0, []string{`'[1,5)'`, `'empty'`, `'(,)'`}},
	{"numrange", 0, []string{`'[1.10,2.20]'`}},
	{"daterange", 0, []string{`'[2024-01-02,2024-02-03)'`, `'(,infinity)'`}},
	{"tsrange", 0, []string{`'[2024-01-02 03:04,)'`}},
	{"tstzrange", 0, []string{`'[2024-01-02 03:04+00,2024-07-02 03:04+00)'`}},
	{"tstzrange[]", 0, []string{`'{"[2024-01-02 03:04+00,)"}'`}},
	{"int4multirange", 14, []string{`'{[1,2),[5,7)}'`}},
	{"tstzmultirange", 14, []string{`'{[2024-01-02 03:04+00,2024-07-02 03:04+00)}'`}},
	{"integer[]", 0, []string{`'{}'`, `'{1,NULL,3}'`, `'{{1,2},{3,4}}'`, `'[0:1]={1,2}'`}},
	{"text[]", 0, []string{`'{"a,b","NULL",NULL,"\"quoted\""}'`}},
	{"float8[]", 0, []string{`'{0.1,NaN,-0}'`}},
	{"bytea[]", 0, []string{`array['\x00ff'::bytea]`}},
	{"interval[]", 0, []string{`'{1 day 2 hours}'`}},
	{"date[]", 0, []string{`'{2024-02-03,infinity}'`}},
	{"jsonb[]", 0, []string{`array['{"a": 1}'::jsonb, null]`}},
	{"public.mood", 0, []string{`'good'`, `'very "bad"'`}},
	{"public.mood[]", 0, []string{`'{good,NULL}'`}},
	{"public.positive", 0, []string{`1`}},
	{"public.stamp", 0, []string{`'2024-02-03 04:05'`}},
	{"public.pair", 0, []string{`row(1, 'a"b', '{1,2}', '1 day')`, `row(null, null, null, null)`}},
	{"public.pair[]", 0, []string{`array[row(1, 'x', null, null)::public.pair, null]`}},
	{"public.floatrange", 0, []string{`'[0.1,0.30000000000000004]'`}},
	{"inet", 0, []string{`'192.168.0.1/24'`, `'::1'`}},
	{"cidr", 0, []string{`'10.0.0.0/8'`}},
	{"macaddr", 0, []string{`'08:00:2b:01:02:03'`}},
	{"bit(3)", 0, []string{`'101'`}},
	{"varbit", 0, []string{`''`, `'10101'`}},
	{"tsvector", 0, []string{`to_tsvector('simple', 'the ''quick'' fox')`}},
	{"tsquery", 0, []string{`'fat & rat'`}},
	{"xml", 0, []string{`'<a b="c">&lt;</a>'`}},
	{"point", 0, []string{`'(0.1,2)'`}},
	{"polygon", 0, []string{`'((0,0),(0.1,1))'`}},
	{"oid", 0, []string{`4294967295`}},
	{"regclass", 0, []string{`'pg_class'`, `'public.t'`}},
	{"regtype", 0, []string{`'integer'`, `'public.mood'`}},
	{"regproc", 0, []string{`'now'`}},
	{"pg_lsn", 0, []string{`'16/B374D848'`}},
	{"xid8", 0, []string{`'18446744073709551615'`}},
	{"jsonpath", 0, []string{`'$.a[*]'`}},
	{"hstore:public.hstore", 0, []string{`'"a"=>"1", "b"=>NULL, "c"=>"x\"y"'`}},
	{"citext:public.citext", 0, []string{`'CaSe'`}},
	{"ltree:public.ltree", 0, []string{`'a.b.c'`}},
	{"cube:public.cube", 0, []string{`'(0.1,2)'`}},
}

const strangeSettings = `set timezone = 'Asia/Kolkata'; set datestyle = 'German, DMY'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape';
	set extra_float_digits = -5; set search_path = pg_catalog; set xmlbinary = 'hex'; set xmloption = 'document'; set array_nulls = on`

// What a subscriber gets of a value is what a plain SELECT gives, whatever the settings of the session that wrote it.
func TestTypes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create type mood as enum ('good', 'very "bad"');
		create domain positive as int check (value > 0); create domain stamp as timestamp;
		create type pair as (a int, b text, c int[], d interval);
		create type floatrange as range (subtype = float8)`)
	db.Exec(t, `alter database `+db.Name+` set timezone = 'UTC'; alter database `+db.Name+` set search_path = pg_catalog; alter database `+db.Name+` set lc_monetary = 'C'`)
	db.Pool(t).Reset()
	version := one[int](t, db, `select current_setting('server_version_num')::integer / 10000`)
	for _, v := range values {
		if v.from > version {
			continue
		}
		extension, typ, ok := strings.Cut(v.typ, ":")
		if !ok {
			typ = v.typ
		} else if one[bool](t, db, `select exists (select from pg_available_extensions where name = $1)`, extension) {
			db.Exec(t, `create extension `+extension+` schema public`)
		} else {
			t.Logf("%s is not at hand", extension)
			continue
		}
		if typ == "xml" && strings.Contains(try(t, db, `select '<a/>'::xml`), "unsupported") {
			t.Logf("this Postgres is built without xml")
			continue
		}
		db.Exec(t, `drop view if exists public.vals; drop table if exists public.t; truncate notifyql.change`)
		db.Exec(t, `create table public.t (n int generated always as identity, tenant_id text default 'a', v `+typ+`)`)
		db.Exec(t, `select notifyql.watch('public.t')`)
		db.Exec(t, `drop view if exists public.vals; create view public.vals as select cast(null as `+typ+`) as v union all select cast(`+
			strings.Join(v.values, ` as `+typ+`) union all select cast(`)+` as `+typ+`)`)
		for _, settings := range []string{"", strangeSettings} {
			conn := db.Conn(t, "postgres")
			for _, sql := range append(strings.Split(settings, ";"), `insert into public.t (v) select v from public.vals`) {
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %s: %v", typ, sql, err)
				}
			}
			conn.Close(t.Context())
		}
		if got := lines(t, db, `
			select format(e'flags %s, logged %s\n\tselected %s', c.flags, c.new, row_to_json(t))
			  from (select c.*, row_number() over (order by seq) as n from notifyql.change c) c full join public.t on t.n = c.n
			 where (c.new::text, c.flags) is distinct from (row_to_json(t)::text, 0::smallint)`); got != "" {
			t.Errorf("%s:\n%s", typ, got)
		}
	}
}

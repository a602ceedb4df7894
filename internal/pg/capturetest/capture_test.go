package capturetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func TestEachKindOfWriteIsLoggedAndAnnounced(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int primary key, tenant_id text, status text)`)
	db.Exec(t, `select notifyql.watch('orders')`)
	e := listen(t, db)
	db.Exec(t, `insert into orders values (1, 'a', 'new')`)
	db.Exec(t, `update orders set status = 'paid'`)
	db.Exec(t, `update orders set tenant_id = 'b'`)
	db.Exec(t, `delete from orders`)
	db.Exec(t, `truncate orders`)
	db.Exec(t, `select notifyql.publish('news', '{"x": "y"}', 'a', event_type => 'T"')`)
	db.Exec(t, `select notifyql.publish('news', 'null', shared => true)`)

	want(t, lines(t, db, logged), `
		I 0 >a >{"id":1,"tenant_id":"a","status":"new"}
		U 0 a>a {"id":1,"tenant_id":"a","status":"new"}>{"id":1,"tenant_id":"a","status":"paid"}
		U 0 a>b {"id":1,"tenant_id":"a","status":"paid"}>{"id":1,"tenant_id":"b","status":"paid"}
		D 0 b> {"id":1,"tenant_id":"b","status":"paid"}>
		T 0 > >
		E 0 >a >{"x": "y"}
		E 0 > >null`)
	heard := e.hear(t)
	want(t, text(heard), "I 1\nU 2\nU 3\nD 4\nT 5\nE 6\nE 7")

	// What is announced is what is logged.
	for _, n := range heard {
		got := one[string](t, db, `select json_build_array(1, op, xid::text::bigint, seq, (extract(epoch from at) * 1000000)::bigint, watch, flags,
			shared, tenant, old_tenant, leaf::bigint, old_ctid, new_ctid, channel, event_type, old, new)::text
			from notifyql.change where seq = $1::text::bigint`, fmt.Sprint(n[3]))
		var logged note
		decode(t, got, &logged)
		if a, b := fmt.Sprintf("%v", n), fmt.Sprintf("%v", logged); a != b {
			t.Errorf("announced %s\n   logged %s", a, b)
		}
	}
	want(t, lines(t, db, `select concat_ws(' ', op, coalesce(old_ctid::text, '-'), coalesce(new_ctid::text, '-')) from notifyql.change where watch <> 0 order by seq`),
		"I - (0,1)\nU (0,1) (0,2)\nU (0,2) (0,3)\nD (0,3) -\nT - -")
	want(t, lines(t, db, `select distinct shared::text || leaf::regclass from notifyql.change where op in ('I', 'U', 'D')`), "falseorders")
	want(t, lines(t, db, `select shared::text from notifyql.change where op not in ('I', 'U', 'D') order by seq`), "true\nfalse\ntrue")
	want(t, lines(t, db, `select format('%s %s', channel, event_type) from notifyql.change where op = 'E' order by seq`), "news T\"\nnews")
}

func TestOnlyWhatCommittedIsAnnounced(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text); select notifyql.watch('t')`)
	e := listen(t, db)
	conn := db.Conn(t, "postgres")
	for _, sql := range []string{
		`begin; insert into t values (1, 'a'); rollback`,
		`begin; insert into t values (2, 'a'); savepoint s; insert into t values (3, 'a'); rollback to s; insert into t values (4, 'a'); commit`,
		`do $$ begin insert into t values (5, 'a'); begin insert into t values (6, 'a'); raise 'no'; exception when others then end; end $$`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, n := range e.hear(t) {
		ids = append(ids, fmt.Sprint(n[16].(map[string]any)["id"]))
	}
	want(t, strings.Join(ids, " "), "2 4 5")
	want(t, lines(t, db, `select new ->> 'id' from notifyql.change order by seq`), "2\n4\n5")
}

// The payload is the change if it has at most 7,999 bytes, however many characters that are.
func TestPayloadsUpToTheLimitAreTheChange(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, x text); select notifyql.watch('t')`)
	e := listen(t, db)
	db.Exec(t, `insert into t values (1, 'a', repeat('é', 10))`)
	first := e.hear(t)
	full := 7999 - len(payloadOf(t, db)) + 20 // bytes of x that fill a payload; all have one digit's seq, one digit's id
	if first[0].kind() != "I" {
		t.Fatal(first)
	}
	for i, c := range []struct {
		bytes int
		want  string
	}{{full, "I 2"}, {full - 1, "I 3"}, {full + 1, "M 1 a <nil>"}, {full + 2, "M 1 a <nil>"}, {9000, "M 1 a <nil>"}, {1_000_000, "M 1 a <nil>"}} {
		db.Exec(t, `insert into t values ($1, 'a', repeat('é', $2::integer / 2) || repeat('x', $2::integer % 2))`, i+2, c.bytes)
		want(t, text(e.hear(t)), c.want)
	}
	// What follows a large row in its transaction may go inline again.
	db.Exec(t, `with x as (insert into t values (8, 'a', repeat('x', 9000))) insert into t values (9, 'a', 'x')`)
	if got := text(e.hear(t)); !strings.Contains(got, "M 1 a <nil>") || !strings.Contains(got, "I ") {
		t.Error(got)
	}
	if n := one[int](t, db, `select max(length(new ->> 'x')) from notifyql.change`); n != 500_000 {
		t.Errorf("the longest logged value has %d characters", n)
	}
}

// payloadOf builds the first change's payload as announce does.
func payloadOf(t testing.TB, db *pgtest.DB) string {
	return one[string](t, db, `select json_build_array(1, op, xid::text::bigint, seq, (extract(epoch from at) * 1000000)::bigint, watch, flags, shared,
		tenant, coalesce(old_tenant, ''), leaf::bigint, old_ctid, new_ctid, channel, event_type, old, new)::text from notifyql.change where seq = 1`)
}

func TestExcludedColumnsNeverLeave(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create domain pin as text not null check (length(value) = 4);
		create table people (id int, tenant_id text, password text, name text, code pin default '1234', at timestamptz);
		insert into people values (1, 'a', 'hush', 'Ann', '1111');
		select notifyql.watch('people', exclude => '{password}')`)
	e := listen(t, db)
	db.Exec(t, `update people set name = 'Bo'`)
	db.Exec(t, `alter table people rename password to shibboleth`)
	db.Exec(t, `update people set shibboleth = 'hush hush'`)
	db.Exec(t, `alter table people rename name to password`) // another column by the old name
	db.Exec(t, `update people set shibboleth = 'hush hush hush'`)
	db.Exec(t, `select notifyql.watch('people', exclude => '{shibboleth,code}')`)
	db.Exec(t, `update people set password = 'Di'`)
	db.Exec(t, `set local timezone = 'Asia/Tokyo'; set local bytea_output = 'escape'; update people set password = 'Ed', at = '2024-01-01T00:00:00Z'`)
	db.Exec(t, `alter table people drop column shibboleth; update people set password = 'Flo'`)
	db.Exec(t, `delete from people`)
	want(t, lines(t, db, logged), `
		U 0 a>a {"id":1,"tenant_id":"a","name":"Ann","code":"1111","at":null}>{"id":1,"tenant_id":"a","name":"Bo","code":"1111","at":null}
		U 0 a>a {"id":1,"tenant_id":"a","name":"Bo","code":"1111","at":null}>{"id":1,"tenant_id":"a","name":"Bo","code":"1111","at":null}
		U 0 a>a {"id":1,"tenant_id":"a","password":"Bo","code":"1111","at":null}>{"id":1,"tenant_id":"a","password":"Bo","code":"1111","at":null}
		U 0 a>a {"id":1,"tenant_id":"a","password":"Bo","at":null}>{"id":1,"tenant_id":"a","password":"Di","at":null}
		U 0 a>a {"id":1,"tenant_id":"a","password":"Di","at":null}>{"id":1,"tenant_id":"a","password":"Ed","at":"2024-01-01T09:00:00+09:00"}
		U 0 a>a {"id":1,"tenant_id":"a","password":"Ed","at":"2024-01-01T00:00:00+00:00"}>{"id":1,"tenant_id":"a","password":"Flo","at":"2024-01-01T00:00:00+00:00"}
		D 0 a> {"id":1,"tenant_id":"a","password":"Flo","at":"2024-01-01T00:00:00+00:00"}>`)
	if heard := fmt.Sprint(e.hear(t)); strings.Contains(heard, "hush") {
		t.Error(heard)
	}
}

func TestWriterSettingsDoNotShow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table plain (tenant_id text, f float8, g float4[], b bytea, i interval, at timestamptz, d date);
		create table ranges (tenant_id text, r tstzrange, m money);
		select notifyql.watch('plain'), notifyql.watch('ranges')`)
	strange := `set local timezone = 'Asia/Kolkata'; set local datestyle = 'German'; set local intervalstyle = 'sql_standard';
		set local bytea_output = 'escape'; set local extra_float_digits = -10; `
	for _, settings := range []string{"", `set local extra_float_digits = 3;`, strange} {
		db.Exec(t, settings+`insert into plain values ('a', 0.1 + 0.2, '{1e-7,NaN}', '\x00ff', '1 day 2 hours', null, '2024-02-03');
			insert into ranges values ('a', '[2024-01-02 03:04:05+00,)', 12.5::numeric::money)`)
	}
	if got := lines(t, db, `select distinct new::text from notifyql.change order by 1`); strings.Count(got, "\n") != 1 {
		t.Errorf("rows that are equal have images that are not:\n%s", got)
	}
	// A timestamptz keeps its instant, with the writer's offset.
	db.Exec(t, `set local timezone = 'Asia/Kolkata'; insert into plain (tenant_id, at) values ('b', '2024-01-02T03:04:05Z')`)
	want(t, lines(t, db, `select new ->> 'at' from notifyql.change where tenant = 'b'`), "2024-01-02T08:34:05+05:30")
}

func TestDDLWhileWatched(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, x int); create table other (a text, tenant_id uuid, b float8);
		select notifyql.watch('t'), notifyql.watch('other')`)
	conn := db.Conn(t, "postgres")
	for _, sql := range []string{
		`insert into t values (1, 'a', 1)`,
		`insert into other values ('x', '00000000-0000-0000-0000-00000000000a', 1.5)`,
		`alter table t add column y text default 'y'`,
		`update t set x = 2`,
		`begin; update t set x = 3; alter table t drop column x; update t set y = 'z'; alter table t alter column id type text; insert into t values ('2', 'a', 'w'); commit`,
		`alter table t rename to u; create schema s; alter table u set schema s; update s.u set y = 'v' where id = '2'`,
		`alter table s.u alter column tenant_id type varchar(10); delete from s.u where id = '2'`,
		`drop table s.u`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	want(t, lines(t, db, logged), `
		I 0 >a >{"id":1,"tenant_id":"a","x":1}
		I 0 >00000000-0000-0000-0000-00000000000a >{"a":"x","tenant_id":"00000000-0000-0000-0000-00000000000a","b":1.5}
		U 0 a>a {"id":1,"tenant_id":"a","x":1,"y":"y"}>{"id":1,"tenant_id":"a","x":2,"y":"y"}
		U 0 a>a {"id":1,"tenant_id":"a","x":2,"y":"y"}>{"id":1,"tenant_id":"a","x":3,"y":"y"}
		U 2 a>a {"id":1,"tenant_id":"a","y":"y"}>{"id":1,"tenant_id":"a","y":"z"}
		I 0 >a >{"id":"2","tenant_id":"a","y":"w"}
		U 0 a>a {"id":"2","tenant_id":"a","y":"w"}>{"id":"2","tenant_id":"a","y":"v"}
		D 2 a> {"id":"2","tenant_id":"a","y":"v"}>`) // the table was rewritten in the transaction
	want(t, lines(t, db, `select state from notifyql.watched order by id`), "the table is gone\nwatched")
}

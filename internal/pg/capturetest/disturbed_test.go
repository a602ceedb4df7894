package capturetest

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A table whose rows can't be converted, in every way (of six only one can), is written to as if it were not watched, without a moment's wait,
// whatever else is done to the log at the time. No server runs here at all.
func TestBrokenRowsAreWrittenWhateverGoesOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('raises', 'asserts', 'recurses', 'null', 'writes', 'good');
		create table seen (m mood);
		create function mood_json(m mood) returns json language plpgsql as $$ begin
			case format('%s', m)
				when 'raises' then raise 'no';
				when 'asserts' then raise assert_failure;
				when 'recurses' then return mood_json(m);
				when 'null' then return null;
				when 'writes' then insert into seen values (m);
				else return to_json(format('%s', m));
			end case;
			return '{}';
		end $$;
		create cast (mood as json) with function mood_json(mood);
		create table t (id int primary key, tenant_id text, m mood); select notifyql.watch('t');
		create table p (id int, tenant_id text, m mood) partition by range (id);
		create table p1 partition of p for values from (0) to (50); create table p2 partition of p for values from (50) to (100); select notifyql.watch('p', exclude => '{}')`)
	slot := one[int](t, db, `select notifyql.slot()::integer`)
	far := fmt.Sprintf("notifyql.change_%d", (slot+5)%10)
	for name, disturb := range map[string][]string{
		"nothing":                        nil,
		"a read that does not go on":     {`declare c cursor for select * from notifyql.change`, `fetch 1 from c`},
		"a slot that is being emptied":   {`truncate ` + far},
		"a dump":                         {`lock table notifyql.change, notifyql.secret, notifyql.watch, t, p in access share mode`},
		"a migration":                    {`create table notifyql.later (id int)`, `alter table notifyql.setting add later int`},
		"a table that is being analyzed": {`lock table notifyql.change in share update exclusive mode`},
	} {
		other, w := db.Conn(t, "postgres"), db.Conn(t, "postgres")
		exec := func(conn *pgx.Conn, sql string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %s: %v", name, sql, err)
			}
		}
		db.Exec(t, `truncate notifyql.change`)
		exec(other, `begin`)
		for _, sql := range disturb {
			exec(other, sql)
		}
		exec(w, `set lock_timeout = 1`)
		for _, table := range []string{"t", "p"} {
			exec(w, `insert into `+table+` select i, 'a', m from unnest(enum_range(null::mood)) with ordinality u(m, i)`)
			exec(w, `update `+table+` set tenant_id = 'b'`)
			exec(w, `update `+table+` set id = id + 50`)
			exec(w, `delete from `+table)
		}
		exec(other, `rollback`)
		want(t, lines(t, db, `select concat_ws(' ', rel, op, flags & 1, nullif(tenant, ''), count(*)) from notifyql.change join notifyql.watch w on w.id = watch
			group by rel, op, flags & 1, nullif(tenant, '') order by 1`), `
			p D 0 1
			p D 1 10
			p I 0 a 1
			p I 1 a 5
			p I 1 b 5
			p U 0 b 2
			p U 1 b 5
			t D 0 1
			t D 1 5
			t I 0 a 1
			t I 1 a 5
			t U 0 b 2
			t U 1 b 10`)
	}
	want(t, lines(t, db, `select m::text from seen`), "") // what converts has no right to write
}

// Rows of any size are logged to the byte, and announced whole or by a marker.
func TestRowSizes(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	sizes := []int{0, 1, 7999, 8000, 1 << 20}
	if pgtest.Thorough() {
		sizes = append(sizes, 20<<20)
	}
	for _, size := range sizes {
		db.Exec(t, `truncate notifyql.change`)
		db.Exec(t, `insert into t values (1, 'a', repeat('x', $1))`, size)
		db.Exec(t, `update t set id = 2`)
		db.Exec(t, `update t set x = x || '!'`)
		db.Exec(t, `delete from t`)
		want(t, lines(t, db, `select concat_ws(' ', op, flags, length(old ->> 'x'), length(new ->> 'x')) from notifyql.change
			where old ->> 'x' = repeat('x', $1) || case when op = 'D' then '!' else '' end or op = 'I' order by seq`, size), fmt.Sprintf(`
			I 0 %[1]d
			U 0 %[1]d %[1]d
			U 0 %[1]d %[2]d
			D 0 %[2]d`, size, size+1))
		n, inline := count(e.hear(t)), 0
		if size < 3000 {
			inline = 4
		}
		if n["I"]+n["U"]+n["D"] != inline || n["M"] != 4-inline {
			t.Errorf("%d bytes: %v", size, n)
		}
	}
}

package capturetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// movable is a table whose rows move between partitions, some of which have a key of their own. Of a key of the root the
// partition's columns are part: such a row has another one when it has moved.
const movable = `
	create table t (id int, tenant_id text, region text, x text) partition by list (region);
	create table ta partition of t (primary key (id)) for values in ('a');
	create table tb (x text, gone int, region text, tenant_id text, id int primary key); alter table tb drop column gone;
	alter table t attach partition tb for values in ('b');
	create table tc partition of t for values in ('c', 'd') partition by list (region);
	create table tc1 partition of tc for values in ('c'); create table tc2 partition of tc for values in ('d');`

// moves gives the log as lines and forgets it.
func moves(t testing.TB, db *pgtest.DB) string {
	t.Helper()
	got := lines(t, db, `select concat_ws(' ', op, flags, concat_ws('>', old_leaf::regclass, leaf::regclass), concat(old_tenant, '>', tenant), concat(old ->> 'x', '>', new ->> 'x'))
		from notifyql.change order by seq`)
	db.Exec(t, `truncate notifyql.change`)
	return got
}

// An UPDATE that moves a row is one change, unless the row is another's, or has another key, afterwards.
func TestARowThatMovesIsUpdated(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, movable+`select notifyql.watch('t')`)
	db.Exec(t, `create function skip() returns trigger language plpgsql as $$ begin return case when new.x = 'skip' then null else new end; end $$;
		create trigger skip before insert on tb for each row execute function skip();
		create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() = 1 then update t set x = x || '!' where id = coalesce(new.id, old.id); end if; return null; end $$;
		create table other (id int, tenant_id text, region text) partition by list (region); create table oa partition of other for values in ('a');
		create table ob partition of other for values in ('b'); select notifyql.watch('other')`)
	e := listen(t, db)
	for _, c := range []struct{ name, sql, log, heard string }{
		{"within", `update t set region = 'b'`, "U 4 ta>tb a>a x>x", "M 1 a <nil>"},
		{"key", `update t set region = 'b', id = 9`, "D 4 ta a> x>\nI 0 tb >a >x", "M 1 a <nil>"},
		{"no key there", `update t set region = 'c'`, "D 4 ta a> x>\nI 0 tc1 >a >x", "M 1 a <nil>"},
		{"no key at all", `insert into t values (2, 'a', 'c', 'y'); update t set region = 'd', id = 9 where id = 2`, "I 0 tc1 >a >y\nU 6 tc1>tc2 a>a y>y", "I\nM 1 a <nil>"},
		{"tenant", `update t set region = 'b', tenant_id = 'z'`, "D 4 ta a> x>\nI 0 tb >z >x", "M 1 a <nil>\nM 1 z <nil>"},
		{
			"nobody's", `update t set tenant_id = ''; update t set region = 'b'; update t set tenant_id = null, region = 'a'`,
			"U 0 ta a> x>x\nU 6 ta>tb > x>x\nU 6 tb>ta > x>x", "U\nM 1 <nil> <nil>",
		},
		{"twice", `update t set region = 'b', x = 'y'; update t set region = 'a', x = 'z'`, "U 4 ta>tb a>a x>y\nU 6 tb>ta a>a y>z", "M 1 a <nil>"},
		{"deleted", `delete from t`, "D 4 ta a> x>", "M 1 a <nil>"},
		{"deleted and inserted", `delete from t; insert into t values (1, 'a', 'b', 'n')`, "D 4 ta a> x>\nI 0 tb >a >n", "M 1 a <nil>"},
		{"not inserted", `update t set region = 'b', x = 'skip'; insert into t values (1, 'a', 'b', 'n')`, "D 4 ta a> x>\nI 0 tb >a >n", "M 1 a <nil>"},
		{
			"a later trigger", `create trigger z after insert or delete on t for each row execute function f(); update t set region = 'b'; drop trigger z on t`,
			"U 4 ta>tb a>a x>x\nU 2 tb a>a x>x!\nU 2 tb a>a x!>x!!", "M 1 a <nil>",
		},
		{
			"an earlier trigger", `create trigger "  z" after insert on t for each row execute function f(); update t set region = 'b'; drop trigger "  z" on t`,
			"U 4 ta>tb a>a x>x\nU 2 tb a>a x>x!", "M 1 a <nil>",
		},
		{"a savepoint", `savepoint s; update t set region = 'b'; rollback to s; update t set region = 'b', x = 'y'`, "U 4 ta>tb a>a x>y", "M 1 a <nil>"},
		{"half of it", `do $$ begin delete from t; insert into t values (1, 'a', 'b', 'n'); end $$`, "D 4 ta a> x>\nI 0 tb >a >n", "M 1 a <nil>"},
		{
			"what follows", `insert into t values (3, 'b', 'a', 'm'); update t set region = 'b' where id = 1; insert into t values (4, 'b', 'b', 'n')`,
			"I 0 ta >b >m\nU 4 ta>tb a>a x>x\nI 0 tb >b >n", "I\nM 1 a <nil>\nM 1 b <nil>",
		},
		{
			"many", `insert into t select i, 'a', 'a', i::text from generate_series(2, 4) i; update t set region = 'b'`,
			"I 0 ta >a >2\nI 0 ta >a >3\nI 0 ta >a >4\nU 4 ta>tb a>a x>x\nU 6 ta>tb a>a 2>2\nU 6 ta>tb a>a 3>3\nU 6 ta>tb a>a 4>4", "I\nI\nI\nM 1 a <nil>",
		},
		{
			"without a key, by another trigger", `insert into other values (1, 'a', 'a'); create trigger o after update on other for each row execute function f(); update other set region = 'b'; drop trigger o on other`,
			"I 0 oa >a >\nU 6 oa>ob a>a >", "I\nM 2 a <nil>",
		},
		{"as an apply worker", `set local session_replication_role = replica; update t set region = 'b'`, "U 4 ta>tb a>a x>x", "M 1 a <nil>"},
		{"serializable", `set transaction isolation level serializable; update t set region = 'b'`, "U 4 ta>tb a>a x>x", "M 1 a <nil>"},
		{"a strange setting", `select set_config('notifyql.left_1_1', '{"', true), set_config('notifyql.left_1_2', '[1]', true); insert into t values (9, 'a', 'b', 'n')`, "I 0 tb >a >n", "I"},
	} {
		db.Exec(t, `truncate t, other; insert into t values (1, 'a', 'a', 'x'); truncate notifyql.change`)
		e.hear(t)
		conn := db.Conn(t, "postgres")
		if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			for _, sql := range splitStatements(c.sql) {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					return fmt.Errorf("%s: %w", sql, err)
				}
			}
			return nil
		}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := moves(t, db); got != c.log {
			t.Errorf("%s: logged\n%s\nwant\n%s", c.name, got, c.log)
		}
		var heard []string
		for _, n := range e.hear(t) {
			if n.kind() == "M" {
				heard = append(heard, strings.TrimSpace(text([]note{n})))
			} else {
				heard = append(heard, n.kind())
			}
		}
		if got := strings.Join(heard, "\n"); got != c.heard {
			t.Errorf("%s: heard\n%s\nwant\n%s", c.name, got, c.heard)
		}
	}
}

// splitStatements splits at semicolons outside of dollar quotes.
func splitStatements(sql string) []string {
	var out []string
	for i, part := range strings.Split(sql, "$$") {
		if i%2 == 1 {
			out[len(out)-1] += "$$" + part + "$$"
			continue
		}
		for k, one := range strings.Split(part, ";") {
			if k == 0 && len(out) > 0 {
				out[len(out)-1] += one
			} else {
				out = append(out, one)
			}
		}
	}
	return slices.DeleteFunc(out, func(s string) bool { return strings.TrimSpace(s) == "" })
}

// A key of the root holds what the partitions go by, so a row that moves is another one: no marker is needed for what is deleted.
func TestWithAKeyAMoveIsAnother(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table t (id int, tenant_id text, region text, x text, primary key (id, region)) partition by list (region);
		create table ta partition of t for values in ('a'); create table tb partition of t for values in ('b');
		select notifyql.watch('t'); insert into t values (1, 'a', 'a', 'x')`)
	e := listen(t, db)
	db.Exec(t, `update t set region = 'b'`)
	db.Exec(t, `delete from t`)
	want(t, moves(t, db), "I 0 ta >a >x\nD 0 ta a> x>\nI 0 tb >a >x\nD 0 tb a> x>")
	if n := count(e.hear(t)); n["D"] != 2 || n["I"] != 1 || n["M"] != 0 {
		t.Error(n)
	}
}

// A partitioned table is captured as one that is not: the same statements give the same changes, but for moves to another
// tenant, or to another key where the partitions have one.
func TestPartitionsDoNotShow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, strings.ReplaceAll(movable, "partition of t for values in ('c', 'd')", "partition of t (primary key (id, region)) for values in ('c', 'd')")+
		`create table u (id int, tenant_id text, region text, x text); select notifyql.watch('t'), notifyql.watch('u')`)
	conn := db.Conn(t, "postgres")
	regions, tenants := rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SampledFrom([]string{"'p'", "'q'", "null"})
	rapid.Check(t, func(t2 *rapid.T) {
		exec := func(sql string) {
			if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				t2.Fatalf("%s: %v", sql, err)
			}
		}
		exec(`truncate t, u; truncate notifyql.change`)
		next := 0
		for range rapid.IntRange(1, 4).Draw(t2, "transactions") {
			script := []string{"begin"}
			for range rapid.IntRange(1, 6).Draw(t2, "statements") {
				some := fmt.Sprintf("id %% %d = %d", rapid.IntRange(1, 3).Draw(t2, "modulus"), rapid.IntRange(0, 1).Draw(t2, "rest"))
				to := regions.Draw(t2, "region")
				next++
				script = append(script, rapid.SampledFrom([]string{
					fmt.Sprintf(`insert into %%s values (%d, %s, '%s', 'x'), (%d, 'p', 'a', 'y')`, next, tenants.Draw(t2, "tenant"), to, next+1000),
					fmt.Sprintf(`update %%s set region = '%s' where %s`, to, some),
					fmt.Sprintf(`update %%s set region = '%s', x = '%d' where %s`, to, next, some),
					fmt.Sprintf(`update %%s set region = '%s', tenant_id = 'z' where %s`, to, some),
					fmt.Sprintf(`update %%s set region = '%s', id = id + 10000 where %s and id < 10000`, to, some),
					fmt.Sprintf(`update %%s set region = case region when 'a' then 'b' when 'b' then 'a' else region end where %s`, some),
					fmt.Sprintf(`do $$ begin update %%s set region = '%s' where %s; raise 'no'; exception when others then update %%s set x = 'e' where %s; end $$`, to, some, some),
					fmt.Sprintf(`savepoint s; update %%s set region = '%s'; rollback to s`, to),
					fmt.Sprintf(`delete from %%s where %s`, some),
				}).Draw(t2, "statement"))
			}
			script = append(script, "commit")
			for _, table := range []string{"t", "u"} {
				for _, sql := range script {
					for _, one := range splitStatements(strings.ReplaceAll(sql, "%s", table)) {
						exec(one)
					}
				}
			}
		}
		// What is expected of t follows from what was logged of u.
		got := lines(t, db, `select concat_ws(' ', dense_rank() over (order by xid), op, concat(old_tenant, '>', tenant), (select jsonb_object_agg(key, value) from json_each(old)), (select jsonb_object_agg(key, value) from json_each(new)))
			from notifyql.change where watch = 1 order by xid, 1`)
		expected := lines(t, db, `select concat_ws(' ', dense_rank() over (order by xid), v.op, concat(v.old_tenant, '>', v.tenant), v.old, v.new)
			from (select c.*, op = 'U' and old ->> 'region' <> new ->> 'region' and (coalesce(old_tenant, '') <> coalesce(tenant, '')
				or old ->> 'id' <> new ->> 'id' or (old ->> 'region' in ('c', 'd') or new ->> 'region' in ('c', 'd'))) as apart
				from notifyql.change c where watch = 2) c
			cross join lateral (values (case when apart then 'D' else op::text end, old_tenant, case when not apart then tenant end, old::jsonb, case when not apart then new::jsonb end),
				(case when apart then 'I' end, null, tenant, null, new::jsonb)) v(op, old_tenant, tenant, old, new)
			where v.op is not null order by xid, 1`)
		if got != expected {
			t2.Errorf("of the partitioned table:\n%s\nof the plain one:\n%s", got, expected)
		}
	})
}

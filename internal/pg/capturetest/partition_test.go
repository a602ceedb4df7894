package capturetest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

const partitioned = `
	create table p (id int, tenant_id text, x text) partition by range (id);
	create table p1 partition of p for values from (0) to (10);
	create table p2 (x text, gone int, tenant_id text, id int); alter table p2 drop column gone; -- its columns have other numbers
	alter table p attach partition p2 for values from (10) to (20);
	create table p3 partition of p for values from (20) to (40) partition by range (id);
	create table p31 partition of p3 for values from (20) to (30);`

const newPartition = "its triggers are not as they should be (disabled or dropped, or there are new partitions or types): watch the table again"

// Writes to a partitioned table, by whatever name, are the watched root's, with the names of its columns.
func TestPartitions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, partitioned+`select notifyql.watch('p', exclude => '{x}')`)
	state := func(want string) {
		t.Helper()
		if got := lines(t, db, `select string_agg(tbl || ' ' || state, '; ' order by id) from notifyql.watched`); got != want {
			t.Errorf("state %q, want %q", got, want)
		}
	}
	changes := func(sql, changes string) {
		t.Helper()
		db.Exec(t, sql)
		want(t, lines(t, db, `select concat_ws(' ', watch, op, leaf::regclass, case when op <> 'T' then concat(old_tenant, '>', tenant) end, old ->> 'id', new ->> 'id', coalesce(old ->> 'x', new ->> 'x')) from notifyql.change order by seq`), changes)
		db.Exec(t, `truncate notifyql.change`)
	}
	changes(`insert into p values (1, 'a', 'x'), (11, 'b', 'x'), (21, 'c', 'x')`, "1 I p1 >a 1\n1 I p2 >b 11\n1 I p31 >c 21")
	changes(`update p set x = 'y'; update p2 set x = 'z'`, "1 U p1 a>a 1 1\n1 U p2 b>b 11 11\n1 U p31 c>c 21 21\n1 U p2 b>b 11 11")
	changes(`update p set id = 12 where id = 1`, "1 U p2 a>a 1 12") // moved
	changes(`delete from p where id = 11; delete from p31`, "1 D p2 b> 11\n1 D p31 c> 21")
	state("p watched")

	// Partitions that come and go.
	changes(`create table p32 partition of p3 for values from (30) to (40); insert into p values (31, 'd')`, "1 I p32 >d 31")
	state("p " + newPartition)
	changes(`truncate p32`, "")
	changes(`select notifyql.watch('p', exclude => '{x}'); insert into p values (31, 'd'); truncate p32`, "1 I p32 >d 31\n1 T p32")
	state("p watched")
	changes(`alter table p detach partition p2; insert into p2 (id) values (13); truncate p2`, "")
	changes(`set session_replication_role = replica; insert into p values (1, 'a'), (32, 'b'); set session_replication_role = origin`, "1 I p1 >a 1\n1 I p32 >b 32")

	// TRUNCATE is said once a statement, however many partitions.
	changes(`truncate p`, "1 T p")
	changes(`truncate p1; truncate p31, p32; insert into p values (2, 'b'); truncate p1, p32`, "1 T p1\n1 I p1 >b 2\n1 T p1")

	// A table that is watched by itself may be attached; then it is watched twice. To watch the root anew ends the one.
	db.Exec(t, `create table q (id int, tenant_id text, x text); select notifyql.watch('q'); alter table p attach partition q for values from (40) to (50)`)
	changes(`insert into q values (41, 'a', 'x')`, "2 I q >a 41 x\n1 I q >a 41")
	state("p " + newPartition + "; q watched")
	changes(`select notifyql.watch('p', exclude => '{x}'); insert into q values (42, 'a', 'x'); truncate q`, "1 I q >a 42\n1 T q")
	state("p watched")
	changes(`drop table q; drop table p3; insert into p values (3, 'a')`, "1 I p1 >a 3")
	changes(`select notifyql.unwatch('p'); insert into p values (3, 'a'); truncate p`, "")
	if n := one[int](t, db, `select count(*) from pg_trigger t join pg_partition_tree('p') p on p.relid = tgrelid`); n > 0 {
		t.Errorf("%d triggers are left", n)
	}
}

// A middle of the tree may be watched alone; a root ends what was watched below it.
func TestPartOfATree(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, partitioned+`select notifyql.watch('p3'), notifyql.watch('p2')`)
	db.Exec(t, `insert into p values (1, 'a'), (11, 'b'), (21, 'c'); truncate p31`)
	want(t, lines(t, db, `select concat(watch, op, tenant) from notifyql.change order by seq`), "2Ib\n1Ic\n1T")
	db.Exec(t, `select notifyql.watch('p'); insert into p values (1, 'a'), (11, 'b'), (21, 'c'); truncate p`)
	want(t, lines(t, db, `select concat(watch, op, tenant) from notifyql.change order by seq offset 3`), "3Ia\n3Ib\n3Ic\n3T")
	if got := try(t, db, `select notifyql.watch('p31')`); !strings.Contains(got, "it is a partition of a watched table") {
		t.Error(got)
	}
}

// A trigger with the other name than its table's does not double a change.
func TestPartitionTriggersAreNotDoubled(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, partitioned+`select notifyql.watch('p'); create table t (id int, tenant_id text, x text); select notifyql.watch('t')`)
	for _, sql := range []string{
		`create trigger " notifyql" after insert on p1 for each row execute function notifyql.capture('1', 'tenant_id', '2', 'p', '', '{}')`,
		`create trigger " notifyql root" after insert on t for each row execute function notifyql.capture('2', 'tenant_id', '2', 'p', '', '{}')`,
		`create trigger " notifyql root again" after insert on p1 for each row execute function notifyql.capture('1', 'tenant_id', '2', 'p', '', '{}')`,
	} {
		db.Exec(t, sql)
	}
	db.Exec(t, `insert into p values (1, 'a'); insert into t values (1, 'b')`)
	want(t, lines(t, db, `select concat(watch, op, tenant) from notifyql.change order by seq`), "1Ia\n2Ib")
}

func TestForeignPartitionsAreRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing;
		create table p (id int, tenant_id text) partition by list (id); create foreign table f partition of p for values in (1) server nowhere;
		create foreign table g (tenant_id text) server nowhere`)
	for table, reason := range map[string]string{"p": "a partition of it is a foreign table", "f": "it is a foreign table", "g": "it is a foreign table"} {
		if got := try(t, db, `select notifyql.watch('`+table+`')`); !strings.Contains(got, reason) {
			t.Error(got)
		}
	}
}

package capturetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// standing is an item as it stands: whose it is, and whether the transaction wrote it.
type standing struct {
	tenant string
	own    bool
}

// Whatever a transaction does to orders and items: a new image goes to the tenant whose item it is now, an old one to the tenant
// whose it was, before the transaction if that has not written it, else before the statement; and to nobody else.
func TestNoImageGoesAstray(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, shop)
	conn := db.Conn(t, "postgres")
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		exec := func(sql string) error {
			_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
			return err
		}
		must := func(sql string) {
			t.Helper()
			if err := exec(sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		stand := func() map[string]standing {
			t.Helper()
			rows, err := conn.Query(ctx, `select i.id::text, coalesce(o.tenant_id, ''), age(i.xmin) <= 0 from items i left join orders o on o.id = i.order_id`)
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]standing{}
			var id string
			var s standing
			if _, err := pgx.ForEachRow(rows, []any{&id, &s.tenant, &s.own}, func() error { all[id] = s; return nil }); err != nil {
				t.Fatal(err)
			}
			return all
		}
		number := func() int { return rapid.IntRange(1, 4).Draw(t, "number") }
		tenant := func() string { return rapid.SampledFrom([]string{"'a'", "'b'", "'c'", "''", "null"}).Draw(t, "tenant") }
		statement := func() string {
			switch rapid.IntRange(0, 10).Draw(t, "statement") {
			case 0:
				return fmt.Sprintf("insert into orders values (%d, %s) on conflict (id) do update set tenant_id = excluded.tenant_id", number(), tenant())
			case 1, 2:
				return fmt.Sprintf("update orders set tenant_id = %s where id >= %d", tenant(), number())
			case 3:
				return fmt.Sprintf("update orders set id = %d where id = %d and not exists (select from orders where id = %[1]d)", number(), number())
			case 4:
				return fmt.Sprintf("delete from orders where id = %d", number())
			case 5:
				return fmt.Sprintf("insert into items select i, %d from generate_series(%d, 5) i on conflict (id) do update set x = 'again'", number(), number())
			case 6:
				return fmt.Sprintf("update items set order_id = %d where id = %d", number(), number())
			case 7, 8:
				return fmt.Sprintf("update items set x = x || '+' where id > %d", number())
			case 9:
				return fmt.Sprintf("with o as (insert into orders values (9, %s) returning id) insert into items select 9, id from o", tenant())
			}
			return fmt.Sprintf("delete from items where id = %d", number())
		}

		must(`truncate orders, items; insert into orders values (1, 'a'), (2, 'b'), (3, 'a'); insert into items select i, i % 3 + 1, 'x' from generate_series(1, 5) i; truncate notifyql.change`)
		var script []string
		var seen int64 // of the log, by seq
		for range rapid.IntRange(1, 3).Draw(t, "transactions") {
			script = append(script, "begin")
			must(`begin; select pg_current_xact_id()`)
			committed, saved := stand(), false
			before := committed
			for range rapid.IntRange(1, 8).Draw(t, "steps") {
				switch rapid.IntRange(0, 9).Draw(t, "step") {
				case 0:
					must(`savepoint s`)
					saved = true
				case 1:
					if saved {
						must(`rollback to s`)
						before = stand()
						script = append(script, "rollback to s")
					}
				default:
					sql := statement()
					script = append(script, sql)
					must(`savepoint one`)
					if exec(sql) != nil { // a foreign key, a number that is there
						must(`rollback to one`)
						script = append(script, "-- which failed")
						continue
					}
					after := stand()
					rows, err := conn.Query(ctx, `select op::text, coalesce(new ->> 'id', old ->> 'id'), coalesce(old_tenant, ''), coalesce(tenant, '') from notifyql.change where seq > $1 and op <> 'T' order by seq`, seen)
					if err != nil {
						t.Fatal(err)
					}
					var op, id, old, tenant string
					if _, err := pgx.ForEachRow(rows, []any{&op, &id, &old, &tenant}, func() error {
						was := before[id].tenant
						if !before[id].own {
							was = committed[id].tenant
						}
						if op == "I" && old != "" || op == "D" && tenant != "" || op != "I" && old != was || op != "D" && tenant != after[id].tenant {
							t.Errorf("%s %s>%s of item %s, want %s>%s, after\n%s", op, old, tenant, id, was, after[id].tenant, strings.Join(script, ";\n"))
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					if err := conn.QueryRow(ctx, `select last_value from notifyql.change_seq`).Scan(&seen); err != nil {
						t.Fatal(err)
					}
					before = after
				}
			}
			script = append(script, "commit")
			must(`commit`)
		}
	})
}

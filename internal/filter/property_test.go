package filter

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// TestEvalIsSQL holds the two faces of a predicate equal: random rows and filters, answered in memory and by Postgres,
// under settings that change how Postgres writes instants. SOAK multiplies the work.
func TestEvalIsSQL(t *testing.T) {
	db := pgtest.Bare(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	exec := func(t interface{ Fatal(...any) }, sql string, args ...any) {
		if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
			t.Fatal(err, sql)
		}
	}
	var version int
	if err := conn.QueryRow(t.Context(), "select current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		t.Fatal(err)
	}
	kinds := columns(version)
	exec(t, `create type mood as enum ('sad', 'ok', 'so "so"', 'Happy'); create domain positive as int check (value > 0);
		create domain label as text; create domain moody as mood;
		create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	// A range whose bounds are in the wrong order is NULL.
	exec(t, `create function try(inout v anyelement, s text) language plpgsql as $$
		begin execute format('select %L::%s', s, pg_typeof(v)) into v; exception when data_exception then v := null; end $$`)
	var cols []*Column
	var defs []string
	for i, k := range kinds {
		cols = append(cols, NewColumn(k.name, i+1, k.typ))
		defs = append(defs, pgx.Identifier{k.name}.Sanitize()+" "+k.sql)
	}
	exec(t, "create table t (id int, "+strings.Join(defs, ", ")+")")

	pairs, yes, batches := 0, 0, 1
	if s, err := strconv.Atoi(os.Getenv("SOAK")); err == nil {
		batches = s
	}
	for range batches {
		rapid.Check(t, func(rt *rapid.T) {
			exec(rt, "truncate t")
			rows := rapid.IntRange(1, 20).Draw(rt, "rows")
			var b pgx.Batch
			for id := range rows {
				names, places, args := []string{"id"}, []string{"$1"}, []any{id}
				for i := range kinds {
					if rapid.IntRange(0, 4).Draw(rt, "null") == 0 {
						continue
					}
					args = append(args, kinds[i].literal(rt))
					names = append(names, pgx.Identifier{kinds[i].name}.Sanitize())
					place := fmt.Sprintf("$%d::text::%s", len(args), kinds[i].sql)
					if kinds[i].typ.Kind == catalog.Range || kinds[i].typ.Kind == catalog.MultiRange {
						place = fmt.Sprintf("try(null::%s, $%d::text)", kinds[i].sql, len(args))
					}
					places = append(places, place)
				}
				b.Queue("insert into t ("+strings.Join(names, ", ")+") values ("+strings.Join(places, ", ")+")", args...)
			}
			if err := insert(conn, &b); err != nil {
				rt.Fatal(err)
			}
			exec(rt, "set timezone to "+rapid.SampledFrom([]string{"'UTC'", "'Asia/Kolkata'", "'America/St_Johns'", "'Europe/Amsterdam'"}).Draw(rt, "zone"))
			exec(rt, "set intervalstyle to "+rapid.SampledFrom([]string{"postgres", "iso_8601"}).Draw(rt, "style"))
			n, y := compareAnswers(rt, conn, kinds, cols)
			pairs, yes = pairs+n, yes+y
		})
	}
	t.Logf("%d pairs, %d of them true", pairs, yes)
	if pairs < 2000 {
		t.Errorf("only %d pairs were compared", pairs)
	}
}

func insert(conn *pgx.Conn, b *pgx.Batch) error {
	return conn.SendBatch(context.Background(), b).Close()
}

func compareAnswers(t *rapid.T, conn *pgx.Conn, kinds []kindOfColumn, cols []*Column) (pairs, yes int) {
	preds := make([]*Predicate, rapid.IntRange(1, 20).Draw(t, "filters"))
	var args []any
	exprs := []string{"id", "row_to_json(t)::text"}
	for i := range preds {
		preds[i] = predicate(t, kinds, cols, 3)
		var sql string
		sql, args = preds[i].SQL(args)
		exprs = append(exprs, "("+sql+")::bool")
	}
	rows, err := conn.Query(context.Background(), "select "+strings.Join(exprs, ", ")+" from t order by id", args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		image := values[1].(string)
		var row change.Row
		if err := row.Parse([]byte(image)); err != nil {
			t.Fatal(err)
		}
		for i, p := range preds {
			want := Unknown
			if b, ok := values[i+2].(bool); ok {
				want = truth(b)
			}
			if got := p.Eval(&row); got != want {
				t.Fatalf("in memory %d, SQL %d\nimage  %s\nfilter %s\nargs %q", got, want, image, exprs[i+2], args)
			}
			pairs++
			if want == True {
				yes++
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err, "\n", strings.Join(exprs, "\n"))
	}
	return pairs, yes
}

package pg

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func explainGeneric(t *testing.T, conn *pgx.Conn, sql string, args ...string) string {
	t.Helper()
	var plan strings.Builder
	ex := func(sql string) {
		results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range results[0].Rows {
			plan.WriteString(string(row[0]) + "\n")
		}
	}
	var b pgx.Batch
	beginReading(&b)
	for _, q := range b.QueuedQueries {
		ex(q.SQL)
	}
	ex("set local plan_cache_mode = force_generic_plan")
	ex("prepare p as " + sql)
	plan.Reset()
	ex("explain (analyze, costs off) execute p(" + strings.ReplaceAll(strings.Join(args, ","), ",,", ",") + ")")
	ex("deallocate p")
	ex("commit")
	return plan.String()
}

func TestPlans(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `insert into notifyql.change (slot, xid, watch, op, shared, tenant, new)
		select i % 10, (3 + i / 1000)::text::xid8, 7, 'I', false, 't' || i % 100, json_build_object('n', i) from generate_series(1, 500000) i`)
	f := change.NewFrontier(snapshot(t, db))
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	l := "'1:1:', '1', '0', 0,"
	m := fmt.Sprintf("'%d'", f.Snapshot.Xmax)
	fmt.Println(explainGeneric(t, conn, smallSweep, l, "'{}'", m))
	fmt.Println(explainGeneric(t, conn, smallSweep, l, "'{100,200}'", "'500'"))
	fmt.Println(explainGeneric(t, conn, listLater, l, "'400'", "0"))
	fmt.Println(explainGeneric(t, conn, listRunning, l, "'3'", "0", "'{3,4}'"))
	fmt.Println(explainGeneric(t, conn, lastSeq, "'7'"))
	fmt.Println(explainGeneric(t, conn, sweepWhole, l, "'{3,4}'"))
	fmt.Println(explainGeneric(t, conn, pageBehind, "'3'", "7", "null", "'{t1}'", "100", "10"))
	fmt.Println(explainGeneric(t, conn, pageAmong, "'3'", "7", "null", "'{t1}'", "100", "'{10,11}'"))
}

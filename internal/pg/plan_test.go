package pg

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Every query on the log reads the ranges of its index that it needs, in order, on a large log without statistics, with the
// plan that a cached statement gets. One that filters, sorts or collects would take a hundred times as long and grow with the log.
func TestPlans(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	// All of them of finished transactions. Nothing analyzes the log.
	db.Exec(t, `insert into notifyql.change (slot, xid, watch, op, shared, tenant, new)
		select i % 10, (3 + i / 500)::text::xid8, 7, 'I', false, 't' || i % 100, json_build_object('n', i) from generate_series(1, 200000) i`)
	db.Exec(t, "insert into notifyql.tick (snapshot) select (200 + i || ':' || 200 + i || ':')::pg_snapshot from generate_series(1, 10000) i")
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	end := fmt.Sprint(uint64(snapshot(t, db).Xmax))
	nothingDone := []string{"'1:1:'", "'1'", "'0'", "0"}
	for _, q := range []struct {
		name, sql string
		args      []string
		rows      int // that a plan may touch at most
		sorts     bool
	}{
		{"a sweep at the end", smallSweep, append(nothingDone, "'{}'", "'"+end+"'"), 0, false},
		{"a sweep", smallSweep, append(nothingDone, "'{50,60}'", "'300'"), 2 * 1020, false},
		{"a sweep past what is done", smallSweep, append([]string{"'300:401:300,400'", "'401'", "'0'", "0"}, "'{50,60}'", "'402'"), 2 * 1020, false},
		{"the list of later ones", listLater, append(nothingDone, "'200'", "9223372036854775807"), 5020, false},
		{"the list of running ones", listRunning, append(nothingDone, "'0'", "0", "'{50,60}'"), 1000, false},
		{"the last seq", lastSeq, []string{"'70'"}, 10, false},
		{"whole transactions", sweepWhole, append(nothingDone, "'{50,60,70}'"), 1500, false},
		{"scopes", stubScopes, []string{"'50'", "0", "65"}, 500, false},
		{"a page", pageBehind, []string{"'50'", "'{7,8}'", "null", "'{t1}'", "100", "23700"}, 500, false},
		{"a page by seqs", pageAmong, []string{"'50'", "'{7,8}'", "null", "'{t1}'", "100", "'{23801,23802,23803}'"}, 3, true},
		{"whether it is in order", isUnordered, []string{"'50'", "0"}, 500, false},
		{"its order", orderKeys, []string{"'{50}'", "0"}, 500, false},
		{"the next tick", chooseTick, []string{"1", "'200'", "100", "2000"}, 2020, true},
		{"the list of an interval", listRanges, []string{"'{50,60,200}'", "'{0,23900,0}'", "'{50,60,300}'", "2000"}, 2020, false},
		{"a page of an interval", pageRanges, []string{"103000", "'{7,8}'", "null", "'{t1}'", "100", "'{50,200}'", "'{50,203}'"}, 2500, true},
		{"a page of a large transaction", pageWithin, []string{"'50'", "'{7,8}'", "null", "'{t1}'", "100", "23700", "23900", "100"}, 500, false},
		{"the last row looked at", lastLooked, []string{"'50'", "23700", "100"}, 110, false},
		{"the head of a transaction", txnHead, []string{"'50'"}, 500, false},
		{"marks", selectMarks, []string{"'{50,60,70}'"}, 30, true},
	} {
		t.Run(q.name, func(t *testing.T) {
			plan := genericPlan(t, conn, q.sql, q.args)
			if err := byIndexOnly(plan, q.rows); err != nil || !q.sorts && strings.Contains(plan, "Sort  (") {
				t.Errorf("%v\n%s", err, plan)
			}
			if strings.Contains(plan, "JIT") {
				t.Errorf("compiled for nothing:\n%s", plan)
			}
		})
	}
}

// genericPlan executes a prepared statement in a transaction as those of the sweeps and pages, and returns its plan.
func genericPlan(t *testing.T, conn *pgx.Conn, sql string, args []string) string {
	t.Helper()
	var begin pgx.Batch
	beginReading(&begin)
	var script strings.Builder
	for _, q := range begin.QueuedQueries {
		script.WriteString(q.SQL + ";")
	}
	script.WriteString("prepare plan as " + sql + ";")
	script.WriteString("explain (analyze, costs off, timing off, summary off) execute plan(" + strings.Join(args, ", ") + ");")
	script.WriteString("deallocate plan;" + endReading)
	results, err := conn.PgConn().Exec(t.Context(), script.String()).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for _, row := range results[len(results)-3].Rows {
		plan.Write(row[0])
		plan.WriteByte('\n')
	}
	return plan.String()
}

var (
	scanNode   = regexp.MustCompile(`Scan.* on change_\d`)
	indexScan  = regexp.MustCompile(`Index (Only )?Scan (Backward )?using change_\d_pkey`)
	actualRows = regexp.MustCompile(`actual rows=([\d.]+) loops=(\d+)`)
	removed    = regexp.MustCompile(`Rows Removed by Filter: (\d+)`)
)

// byIndexOnly says what is wrong with a plan that reads the log otherwise than by index, or more of it than so many rows.
func byIndexOnly(plan string, most int) error {
	lines := strings.Split(plan, "\n")
	read, scans := 0, 0
	for i, line := range lines {
		if m := removed.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			read += n
		}
		if !scanNode.MatchString(line) {
			continue
		}
		scans++
		if !indexScan.MatchString(line) || !strings.Contains(lines[i+1], "Index Cond") || !strings.Contains(lines[i+1], "xid") {
			return fmt.Errorf("a slot is not read by its index: %s", strings.TrimSpace(line))
		}
		if m := actualRows.FindStringSubmatch(line); m != nil {
			n, _ := strconv.ParseFloat(m[1], 64)
			loops, _ := strconv.Atoi(m[2])
			read += int(n) * loops
		}
	}
	if scans == 0 {
		return fmt.Errorf("it reads no slot")
	}
	if read > most {
		return fmt.Errorf("it reads %d rows, want at most %d", read, most)
	}
	return nil
}

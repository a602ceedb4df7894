package main

import (
	"context"
	"fmt"
	"io"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/pg"
)

// rowsCount is how many rows are read; a tenth of them are one tenant's.
const rowsCount = 1_000_000

var rowsTables = []string{
	`create table plain (id int primary key, tenant_id uuid not null, status text, amount numeric(10,2), customer text, note text,
		created_at timestamptz default now(), at timestamptz default now(), n int not null default 0)`,
	fmt.Sprintf(`insert into plain (id, tenant_id, status, amount, customer, note)
		select i, md5((i %% 10)::text)::uuid, 'open', i * 1.1, 'customer ' || i, repeat('n', 30) from generate_series(1, %d) i`, rowsCount),
	`create index on plain (tenant_id)`,
	// One column's conversion is a cast of somebody's.
	`create type mood as enum ('good', 'bad')`,
	`create function mood_json(mood) returns json language sql as $$ select to_json($1::text) $$`,
	`create cast (mood as json) with function mood_json(mood)`,
	`create table cast_json as select *, 'good'::mood as mood from plain where id <= 100000`,
	`alter table cast_json add primary key (id)`,
	`vacuum analyze plain`, `vacuum analyze cast_json`,
}

// readRows measures how fast the rows of a table are read as they stand, beside a COPY of the same rows to nowhere, in turns, and
// the memory that it takes.
func readRows(ctx context.Context, _ int) error {
	url, conn, stop, err := database(ctx, rowsTables...)
	if err != nil {
		return err
	}
	defer stop()
	source, err := pg.New(pg.Config{DatabaseURL: url})
	if err != nil {
		return err
	}
	defer source.Close()
	watches := map[string]change.WatchID{}
	for _, table := range []string{"plain", "cast_json"} {
		var id int32
		if err := conn.QueryRow(ctx, `select notifyql.watch($1::text::regclass)`, table).Scan(&id); err != nil {
			return err
		}
		watches[table] = change.WatchID(id)
	}
	var tenants []string
	if err := conn.QueryRow(ctx, `select array_agg(distinct tenant_id::text) from plain`).Scan(&tenants); err != nil {
		return err
	}

	byID := []change.OrderBy{{Column: "id"}}
	for _, c := range []struct {
		name, copy string
		query      change.Query
	}{
		{"a million rows", `select * from plain`, change.Query{Watch: watches["plain"], Tenants: tenants}},
		{"by the primary key", `select * from plain order by id`, change.Query{Watch: watches["plain"], Tenants: tenants, OrderBy: byID}},
		{"of one tenant in ten", `select * from plain where tenant_id = '` + tenants[0] + `'`, change.Query{Watch: watches["plain"], Tenants: tenants[:1]}},
		{"with somebody's cast", `select * from cast_json`, change.Query{Watch: watches["cast_json"], Tenants: tenants}},
	} {
		if err := readBeside(ctx, source, conn, c.name, c.copy, &c.query); err != nil {
			return err
		}
	}
	return nil
}

func readBeside(ctx context.Context, source *pg.Source, conn *pgx.Conn, name, sql string, query *change.Query) error {
	var ours, copied []float64 // rows a second
	peak := watchMemory()
	var bytes int
	for range 5 {
		began := time.Now()
		tag, err := conn.PgConn().CopyTo(ctx, io.Discard, "copy ("+sql+") to stdout")
		if err != nil {
			return err
		}
		copied = append(copied, float64(tag.RowsAffected())/time.Since(began).Seconds())

		began = time.Now()
		rows := 0
		bytes = 0
		if _, err := source.Rows(ctx, query, 1000, func(page []change.Change) error {
			rows += len(page)
			for i := range page {
				bytes += len(page[i].New)
			}
			return nil
		}); err != nil {
			return err
		}
		if int64(rows) != tag.RowsAffected() {
			return fmt.Errorf("%s: %d rows, COPY has %d", name, rows, tag.RowsAffected())
		}
		ours = append(ours, float64(rows)/time.Since(began).Seconds())
	}
	fmt.Printf("%-22s %8.0f rows/s, COPY %8.0f: ratio %.2f; %d MiB of images, %d MiB of memory more at most\n",
		name, median(ours), median(copied), median(ours)/median(copied), bytes>>20, peak()>>20)
	return nil
}

// watchMemory tells by how much the heap was larger at most than at first.
func watchMemory() (peak func() uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	first := read()
	most := first
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, read())
			}
		}
	})
	return func() uint64 {
		close(stop)
		watcher.Wait()
		return most - first
	}
}

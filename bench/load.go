package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
)

// load lets 32 clients write as fast as they can, while a log that is kept for seconds is emptied in turn, and shows every tenth of the
// time what could grow. With seconds under a hundred it says little.
func load(ctx context.Context, seconds int) error {
	url, conn, stop, err := database(ctx, lagTable, watchRows, `update notifyql.setting set slot_seconds = 5, retention = '15 seconds'`)
	if err != nil {
		return err
	}
	defer stop()
	var l lags
	var delivered atomic.Int64
	end, err := subscribers(ctx, notifyql.Config{DatabaseURL: url}, 100, `subscription { rowsChanged { new { sent } } }`, func(i int, payload []byte) {
		delivered.Add(1)
		if i < 10 {
			l.arrived(string(payload))
		}
	})
	if err != nil {
		return err
	}
	defer end()
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l.measure(true)
	type result struct {
		rate float64
		err  error
	}
	done := make(chan result, 1)
	go func() {
		rate, err := pgbench(ctx, dir, url, lagScript, 32, seconds, 0)
		done <- result{rate, err}
	}()
	step := max(time.Duration(seconds)*time.Second/10, time.Second)
	fmt.Println("32 clients insert as fast as they can; heap after a collection, the log's tables with their indexes, the notification queue")
	began := time.Now()
	for {
		var over *result
		select {
		case r := <-done:
			over = &r
			if err := pause(ctx, 2*time.Second); err != nil { // what is on its way counts
				return err
			}
		case <-time.After(step):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := showLoad(ctx, conn, time.Since(began), l.measure(true)); err != nil {
			return err
		}
		if over == nil {
			continue
		}
		if over.err != nil {
			return over.err
		}
		var rows int64
		if err := conn.QueryRow(ctx, `select count(*) from rows`).Scan(&rows); err != nil {
			return err
		}
		fmt.Printf("  %.0f rows a second, %d in all; delivered to the ten streams of each: %d of %d\n", over.rate, rows, delivered.Load(), 10*rows)
		return nil
	}
}

func showLoad(ctx context.Context, conn *pgx.Conn, at time.Duration, times []time.Duration) error {
	var log, slots int64
	var queue float64
	err := conn.QueryRow(ctx, `select sum(pg_total_relation_size(relid))::bigint, count(*) filter (where pg_relation_size(relid) > 0), pg_notification_queue_usage()
		from pg_partition_tree('notifyql.change') where isleaf`).Scan(&log, &slots, &queue)
	if err != nil {
		return err
	}
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	fmt.Printf("  %5.0f s  heap %4d MB  goroutines %4d  log %5d MB in %2d slots  queue %.4f  lag p50 %s p99 %s\n",
		at.Seconds(), mem.HeapAlloc>>20, runtime.NumGoroutine(), log>>20, slots, queue, ms(quantile(times, 0.5)), ms(quantile(times, 0.99)))
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg"
)

const lagTable = `
	create table rows (id bigint primary key generated always as identity, tenant_id text not null,
		sent bigint not null default (extract(epoch from clock_timestamp()) * 1000000)::bigint);
	create function naive_notify() returns trigger language plpgsql as $$ begin perform pg_notify('naive', row_to_json(new)::text); return null; end $$`

const lagScript = "\\set t random(0, 9)\ninsert into rows (tenant_id) values ('t' || :t);\n"

// lags is how long rows were on their way while it is on.
type lags struct {
	mu    sync.Mutex
	on    bool
	times []time.Duration
}

func (l *lags) arrived(payload string) {
	now := time.Now().UnixMicro()
	_, after, ok := strings.Cut(payload, `"sent":`)
	if !ok {
		return
	}
	after = strings.TrimPrefix(after, `"`)
	end := strings.IndexFunc(after, func(r rune) bool { return r < '0' || r > '9' })
	sent, err := strconv.ParseInt(after[:max(end, 0)], 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on && err == nil {
		l.times = append(l.times, time.Duration(now-sent)*time.Microsecond)
	}
}

func (l *lags) measure(on bool) (times []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times, l.times, l.on = l.times, nil, on
	return times
}

// lag inserts rows at growing rates, and as fast as 32 clients can, and measures the time from the write of a row, before its
// commit, to its arrival at each of the ten streams that it concerns, of a hundred; beside it a bare trigger and one LISTEN.
func lag(ctx context.Context, seconds int) error {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	names := []string{"raw", "quiet", "busy", "auto"}
	of := map[string]*lags{}
	for _, name := range names {
		l := &lags{}
		of[name] = l
		stop, err := prepareLag(ctx, db, name, l)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer stop()
	}
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println("from the write to the stream; of the bare LISTEN in brackets")
	for _, load := range []struct {
		rate, clients int
	}{{10, 1}, {100, 2}, {1000, 8}, {5000, 16}, {0, 32}} {
		var raw time.Duration
		for _, name := range names {
			of[name].measure(true)
			rate, err := pgbench(ctx, dir, db.URL(name), lagScript, load.clients, seconds, load.rate)
			if err != nil {
				return err
			}
			if err := pause(ctx, time.Second); err != nil { // what is on its way counts
				return err
			}
			times := of[name].measure(false)
			p50, p99 := quantile(times, 0.5), quantile(times, 0.99)
			if name == "raw" {
				raw = p50
			}
			fmt.Printf("  %5d/s asked, %5.0f/s written, %-5s  p50 %s (%.2f)  p99 %s  most %s\n", load.rate, rate, name, ms(p50), float64(p50)/float64(raw), ms(p99), ms(quantile(times, 1)))
		}
	}
	return nil
}

// inline measures a quiet stream beside one whose triggers do not ask for the mode and notify always, in turns.
func inline(ctx context.Context, seconds int) error {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	names := []string{"inline", "quiet"}
	of := map[string]*lags{}
	for _, name := range names {
		of[name] = &lags{}
		stop, err := prepareLag(ctx, db, name, of[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer stop()
	}
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println("from the write to the stream at 100 writes/s; of notifying always in brackets")
	p50, p99 := map[string][]float64{}, map[string][]float64{}
	for range 9 {
		for _, name := range names {
			of[name].measure(true)
			if _, err := pgbench(ctx, dir, db.URL(name), lagScript, 2, seconds, 100); err != nil {
				return err
			}
			times := of[name].measure(false)
			p50[name] = append(p50[name], float64(quantile(times, 0.5)))
			p99[name] = append(p99[name], float64(quantile(times, 0.99)))
		}
	}
	for _, name := range names {
		fmt.Printf("  %-6s  p50 %s (%.2f)  p99 %s (%.2f)   medians of %d\n", name, ms(time.Duration(median(p50[name]))), median(p50[name])/median(p50["inline"]),
			ms(time.Duration(median(p99[name]))), median(p99[name])/median(p99["inline"]), len(p50[name]))
	}
	return nil
}

func prepareLag(ctx context.Context, db *localpg.Server, name string, l *lags) (stop func(), err error) {
	last := watchRows
	if name == "raw" {
		last = `create trigger naive after insert on rows for each row execute function naive_notify()`
	}
	url, err := own(ctx, db, name, lagTable, last)
	if err != nil {
		return nil, err
	}
	if name == "raw" {
		return listenRaw(ctx, url, "naive", l.arrived)
	}
	mode := notifyql.Mode(name)
	if name == "inline" {
		mode = notifyql.ModeQuiet
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return nil, err
		}
		_, err = conn.Exec(ctx, `create or replace function notifyql.gate() returns boolean language sql as 'select false'`)
		if err = errors.Join(err, conn.Close(ctx)); err != nil {
			return nil, err
		}
	}
	return subscribers(ctx, notifyql.Config{DatabaseURL: url, Mode: mode}, 100, `subscription { rowsChanged { new { sent } } }`,
		func(_ int, payload []byte) { l.arrived(string(payload)) })
}

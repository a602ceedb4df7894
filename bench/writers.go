package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg"
)

const writersTable = `
	create table rows (id bigint primary key, tenant_id text not null, status text not null, n int not null, at timestamptz not null default now());
	insert into rows select i, 't' || i % 10, 'open', 0 from generate_series(1, 10000) i;
	create sequence fresh start 10001 cache 100;
	vacuum analyze rows`

const naiveTrigger = `
	create function naive_notify() returns trigger language plpgsql as $$ begin perform pg_notify('naive', row_to_json(new)::text); return null; end $$;
	create trigger naive after insert or update or delete on rows for each row execute function naive_notify()`

const watchRows = `select notifyql.watch('rows')`

// A writing is how the table that is written to is looked after. Each has a database of its own.
type writing struct {
	name, setup string
	mode        notifyql.Mode // of the server beside it; empty: there is none
}

var writings = []writing{
	{name: "unwatched"},
	{name: "naive", setup: naiveTrigger},
	{name: "log only", setup: watchRows},
	{name: "quiet", setup: watchRows, mode: notifyql.ModeQuiet},
	{name: "auto", setup: watchRows, mode: notifyql.ModeAuto},
}

// workloads are single-row transactions.
var workloads = map[string]string{
	"update": "\\set id random(1, 10000)\nupdate rows set n = n + 1, at = now() where id = :id;\n",
	"insert": "insert into rows (id, tenant_id, status, n) select f, 't' || f % 10, 'open', 0 from nextval('fresh') f;\n",
}

// writers runs pgbench, in turns on a table that nobody watches, one with a naive pg_notify trigger and a listener, a watched one
// without a server, and watched ones with a server and a hundred subscribers, quiet and auto.
func writers(ctx context.Context, seconds int) error {
	return writersOf(ctx, seconds, []string{"on", "off"}, []string{"update", "insert"}, 1, 8, 32)
}

// writersOf is that for these settings of synchronous_commit, works and numbers of clients.
func writersOf(ctx context.Context, seconds int, syncs, works []string, clients ...int) error {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	for _, w := range writings {
		stop, err := w.prepare(ctx, db)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		defer stop()
	}
	names := make([]string, len(writings))
	for i, w := range writings {
		names[i] = w.name
	}
	for _, sync := range syncs {
		for _, work := range works {
			fmt.Printf("single-row %ss a second, synchronous_commit = %s; of the unwatched rate in brackets\n", work, sync)
			err := rates(ctx, seconds, names, workloads[work], clients, func(name string) string {
				return db.URL(databaseOf(name)) + "&options=-c%20synchronous_commit%3D" + sync
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func databaseOf(name string) string { return strings.ReplaceAll(name, " ", "_") }

func (w writing) prepare(ctx context.Context, db *localpg.Server) (stop func(), err error) {
	url, err := own(ctx, db, databaseOf(w.name), append(strings.Split(writersTable, ";"), w.setup)...)
	if err != nil {
		return nil, err
	}
	switch {
	case w.setup == naiveTrigger:
		return listenRaw(ctx, url, "naive", func(string) {})
	case w.mode == "":
		return func() {}, nil
	}
	return subscribers(ctx, notifyql.Config{DatabaseURL: url, Mode: w.mode}, 100, `subscription { rowsChanged { new { id n } } }`, func(int, []byte) {})
}

// subscribers runs a server with so many streams, of ten tenants in turns, and hands on what arrives.
func subscribers(ctx context.Context, c notifyql.Config, count int, query string, arrived func(i int, payload []byte)) (stop func(), err error) {
	srv, _, stop, err := serve(ctx, c)
	if err != nil {
		return nil, err
	}
	for i := range count {
		stream, err := srv.Subscribe(ctx, notifyql.Request{Query: query, Identity: notifyql.Identity{Tenants: []string{"t" + strconv.Itoa(i%10)}}})
		if err != nil {
			stop()
			return nil, err
		}
		go func() {
			defer stream.Close() //nolint:errcheck // the end
			for {
				payload, err := stream.Next(ctx)
				if err != nil {
					return
				}
				arrived(i, payload)
			}
		}()
	}
	return stop, nil
}

// rates runs pgbench on each in turn, so that what else the machine does hits all, and prints medians.
func rates(ctx context.Context, seconds int, names []string, script string, clients []int, urlOf func(name string) string) error {
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, clients := range clients {
		got := map[string][]float64{}
		for range 3 {
			for _, name := range names {
				rate, err := pgbench(ctx, dir, urlOf(name), strings.ReplaceAll(script, "%table%", name), clients, seconds, 0)
				if err != nil {
					return err
				}
				got[name] = append(got[name], rate)
			}
		}
		fmt.Printf("  %2d clients:", clients)
		for _, name := range names {
			fmt.Printf("   %s %6.0f (%.2f)", name, median(got[name]), median(got[name])/median(got[names[0]]))
		}
		fmt.Println()
		for name, beside := range map[string]string{"log only": "unwatched", "auto": "unwatched"} { // not quiet: how many commits one flush takes is chance
			if got[name] != nil && got[beside] != nil {
				higher(ctx, "writers: "+name+", of the rate "+beside, median(got[name])/median(got[beside]))
			}
		}
	}
	return nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench returns how many transactions a second there were; perSecond, if not zero, is how many are asked for.
func pgbench(ctx context.Context, dir, url, script string, clients, seconds, perSecond int) (float64, error) {
	file := filepath.Join(dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	args := []string{"-n", "-M", "prepared", "-f", file, "-c", strconv.Itoa(clients), "-j", "1", "-T", strconv.Itoa(seconds)}
	if perSecond > 0 {
		args = append(args, "-R", strconv.Itoa(perSecond))
	}
	out, err := exec.CommandContext(ctx, pgbenchPath(), append(args, url)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	m := tps.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench says no rate:\n%s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// pgbenchPath finds pgbench on the path, or where Debian has it.
func pgbenchPath() string {
	if p, err := exec.LookPath("pgbench"); err == nil {
		return p
	}
	if ps, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench"); err == nil && len(ps) > 0 {
		return ps[len(ps)-1]
	}
	return "pgbench"
}

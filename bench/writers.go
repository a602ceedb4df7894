package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/notifyql/notifyql"
)

const writersTables = `
	create table unwatched (id int primary key, tenant_id text not null, status text not null, n int not null, at timestamptz not null default now());
	insert into unwatched select i, 't' || i % 10, 'open', 0 from generate_series(1, 10000) i;
	create table naive (like unwatched including all);
	insert into naive select * from unwatched;
	create table watched (like unwatched including all);
	insert into watched select * from unwatched;
	create function naive_notify() returns trigger language plpgsql as $$
	begin
		perform pg_notify('naive', row_to_json(new)::text);
		return null;
	end $$;
	create trigger naive after insert or update or delete on naive for each row execute function naive_notify();
	select notifyql.watch('watched')`

// writers runs pgbench updates of single rows, in turns on a table without a trigger, one with a naive pg_notify trigger
// and a listener, and a watched one with a server and a subscriber.
func writers(ctx context.Context, seconds int) error {
	url, _, closing, err := database(ctx, writersTables, "vacuum analyze")
	if err != nil {
		return err
	}
	defer closing()
	srv, _, stop, err := serve(ctx, notifyql.Config{DatabaseURL: url, Auth: notifyql.Trust()})
	if err != nil {
		return err
	}
	defer stop()
	stream, err := srv.Subscribe(ctx, notifyql.Request{
		Query: `subscription { watchedChanged { new { id n } } }`, Identity: notifyql.Identity{Tenants: []string{"t1"}},
	})
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // likewise
	go func() {
		for {
			if _, err := stream.Next(ctx); err != nil {
				return
			}
		}
	}()
	listening, err := listenRaw(ctx, url, "naive", func(string) {})
	if err != nil {
		return err
	}
	defer listening()

	return rates(ctx, seconds, []string{"unwatched", "naive", "watched"}, func(string) string { return url })
}

// rates runs pgbench on each table in turn, so that what else the machine does hits all, and prints medians.
func rates(ctx context.Context, seconds int, tables []string, urlOf func(table string) string) error {
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println("single-row updates a second, pgbench; of the unwatched rate in brackets")
	for _, clients := range []int{1, 8, 32} {
		got := map[string][]float64{}
		for range 3 {
			for _, table := range tables {
				rate, err := pgbench(ctx, dir, urlOf(table), table, clients, seconds)
				if err != nil {
					return err
				}
				got[table] = append(got[table], rate)
			}
		}
		fmt.Printf("  %2d clients:", clients)
		for _, table := range tables {
			fmt.Printf("   %s %6.0f (%.2f)", table, median(got[table]), median(got[table])/median(got["unwatched"]))
		}
		fmt.Println()
	}
	return nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

func pgbench(ctx context.Context, dir, url, table string, clients, seconds int) (float64, error) {
	script := filepath.Join(dir, table+".sql")
	sql := "\\set id random(1, 10000)\nupdate " + table + " set n = n + 1, at = now() where id = :id;\n"
	if err := os.WriteFile(script, []byte(sql), 0o600); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, pgbenchPath(), "-n", "-M", "prepared", "-f", script, "-c", strconv.Itoa(clients),
		"-j", "1", "-T", strconv.Itoa(seconds), url).CombinedOutput()
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

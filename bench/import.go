package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
)

// imports lets one tenant import a million rows in a transaction, and shows what the others notice of it, and when its own subscriber has
// all of it.
func imports(ctx context.Context, seconds int) error {
	const rows = 1_000_000
	url, conn, stop, err := database(ctx, lagTable, watchRows)
	if err != nil {
		return err
	}
	defer stop()
	srv, _, end, err := serve(ctx, notifyql.Config{DatabaseURL: url})
	if err != nil {
		return err
	}
	defer end()
	var others lags
	var got atomic.Int64
	for _, s := range []struct {
		tenant  string
		arrived func([]byte)
	}{
		{"small", func(payload []byte) { others.arrived(string(payload)) }},
		{"large", func([]byte) { got.Add(1) }},
	} {
		stream, err := srv.Subscribe(ctx, notifyql.Request{Query: `subscription { rowsChanged { new { sent } } }`, Identity: notifyql.Identity{Tenants: []string{s.tenant}}})
		if err != nil {
			return err
		}
		defer stream.Close() //nolint:errcheck // the end
		go func() {
			for {
				payload, err := stream.Next(ctx)
				if err != nil {
					return
				}
				s.arrived(payload)
			}
		}()
	}
	writing, enough := context.WithCancel(ctx)
	defer enough()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		w, err := pgx.Connect(writing, url)
		if err != nil {
			return
		}
		defer w.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
		for pause(writing, 10*time.Millisecond) == nil {
			w.Exec(writing, `insert into rows (tenant_id) values ('small')`) //nolint:errcheck // the end cuts it short
		}
	}()
	show := func(when string) {
		times := others.measure(true)
		fmt.Printf("  %-34s %5d rows of others: p50 %s  p99 %s  most %s\n", when, len(times), ms(quantile(times, 0.5)), ms(quantile(times, 0.99)), ms(quantile(times, 1)))
	}
	peak := watchMemory()
	others.measure(true)
	if err := pause(ctx, time.Duration(seconds)*time.Second); err != nil {
		return err
	}
	show("before")
	began := time.Now()
	if _, err := conn.Exec(ctx, `insert into rows (tenant_id) select 'large' from generate_series(1, $1)`, rows); err != nil {
		return err
	}
	committed := time.Now()
	show(fmt.Sprintf("while it is written, for %.1f s", committed.Sub(began).Seconds()))
	for got.Load() < rows {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	show(fmt.Sprintf("while it is delivered, for %.1f s", time.Since(committed).Seconds()))
	enough()
	<-wrote
	fmt.Printf("  %d rows delivered to their subscriber; %d MiB of memory more at most\n", got.Load(), peak()>>20)
	return nil
}

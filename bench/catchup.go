package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql"
)

// The table of those who leave and come back.
const away = `
	create table items (id int primary key, tenant_id text not null, n int not null default 0, note text);
	insert into items select g, 't' || g % 100, 0, repeat('x', 100) from generate_series(1, 10000) g;
	select notifyql.watch('items')`

// follower is a subscription of one tenant, or of all, that keeps its last cursor.
type follower struct {
	tenants []string
	cursor  string
	got     int
}

var cursorKey = []byte(`"cursor":"`)

// catchUp subscribes, behind the cursor if there is one, and reads until it is told that it has all.
func (f *follower) catchUp(ctx context.Context, srv *notifyql.Server) error {
	from := "initial: true, limit: 1"
	if f.cursor != "" {
		from = fmt.Sprintf("after: %q", f.cursor)
	}
	s, err := srv.Subscribe(ctx, notifyql.Request{
		Query:    `subscription { itemsChanged(` + from + `) { kind new { id n } cursor } }`,
		Identity: notifyql.Identity{Tenants: f.tenants},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		result, err := s.Next(ctx)
		if err != nil {
			return err
		}
		if i := bytes.LastIndex(result, cursorKey); i >= 0 {
			text := result[i+len(cursorKey):]
			f.cursor = string(text[:bytes.IndexByte(text, '"')])
		}
		if bytes.Contains(result, []byte(`"SYNCED"`)) {
			return nil
		}
		f.got++
	}
}

func allTenants() []string {
	ts := make([]string, 100)
	for i := range ts {
		ts[i] = fmt.Sprint("t", i)
	}
	return ts
}

// startServer runs a server until stop is called.
func startServer(ctx context.Context, url string) (srv *notifyql.Server, stop func(), err error) {
	srv, err = notifyql.New(notifyql.Config{DatabaseURL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()
	return srv, func() { cancel(); <-done }, nil
}

// write updates single rows from so many clients for a time, or so many times, and returns how many it updated.
func write(ctx context.Context, url string, clients int, d time.Duration, most int64) (int64, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return 0, err
	}
	config.MaxConns = int32(clients)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	var n atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for c := range clients {
		wg.Go(func() {
			for k := c; time.Now().Before(end) && n.Add(1) <= most; k += clients {
				if _, err := pool.Exec(ctx, "update items set n = n + 1 where id = $1", k*7919%10000+1); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return min(n.Load(), most), nil
}

// catchup measures how quickly one who was away catches up, beside how quickly it was written.
func catchup(ctx context.Context, seconds int) error {
	url, _, stop, err := database(ctx, away)
	if err != nil {
		return err
	}
	defer stop()
	srv, end, err := startServer(ctx, url)
	if err != nil {
		return err
	}
	defer end()
	one := follower{tenants: []string{"t7"}}
	all := follower{tenants: allTenants()}
	for _, f := range []*follower{&one, &all} {
		if err := f.catchUp(ctx, srv); err != nil {
			return err
		}
		f.got = 0
	}
	n, err := write(ctx, url, 8, time.Duration(seconds)*time.Second, 1<<40)
	if err != nil {
		return err
	}
	live := float64(n) / float64(seconds)
	fmt.Printf("8 writers, one row a transaction: %d updates, %.0f/s\n", n, live)
	for _, f := range []struct {
		name string
		*follower
	}{{"all tenants", &all}, {"one of 100 tenants", &one}} {
		pages := srv.Stats().PagesRead
		began := time.Now()
		if err := f.catchUp(ctx, srv); err != nil {
			return err
		}
		took := time.Since(began)
		fmt.Printf("catching up, %-18s: %6d changes in %v, %d pages; %.0f log rows/s, %.1f times the writers' rate\n",
			f.name, f.got, took.Round(time.Millisecond), srv.Stats().PagesRead-pages, float64(n)/took.Seconds(), float64(n)/took.Seconds()/live)
		if f.follower == &all {
			higher(ctx, "catchup: of the writers' rate", float64(n)/took.Seconds()/live)
		}
	}
	return nil
}

// storm measures how long it takes until all are caught up who come back at once after a restart, beside one alone.
func storm(ctx context.Context, _ int) error {
	const groups, each, changes = 100, 100, 2000
	url, _, stop, err := database(ctx, away)
	if err != nil {
		return err
	}
	defer stop()
	srv, end, err := startServer(ctx, url)
	if err != nil {
		return err
	}
	fs := make([]*follower, groups)
	for i := range fs {
		fs[i] = &follower{tenants: []string{fmt.Sprint("t", i)}}
		if err := fs[i].catchUp(ctx, srv); err != nil {
			end()
			return err
		}
	}
	if _, err := write(ctx, url, 8, time.Minute, changes); err != nil {
		end()
		return err
	}
	end()

	alone := *fs[0]
	if srv, end, err = startServer(ctx, url); err != nil {
		return err
	}
	began := time.Now()
	err = alone.catchUp(ctx, srv)
	single, pages := time.Since(began), srv.Stats().PagesRead
	end()
	if err != nil {
		return err
	}
	fmt.Printf("one subscription, %d changes behind: caught up in %v, %d pages read\n", changes, single.Round(time.Millisecond), pages)

	if srv, end, err = startServer(ctx, url); err != nil {
		return err
	}
	defer end()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	var got atomic.Int64
	sweeps := srv.Stats().Sweeps
	began = time.Now()
	for i := range groups * each {
		f := follower{tenants: fs[i%groups].tenants, cursor: fs[i%groups].cursor}
		wg.Go(func() {
			if err := f.catchUp(ctx, srv); err != nil {
				failed.Store(&err)
			}
			got.Add(int64(f.got))
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return *err
	}
	st := srv.Stats()
	fmt.Printf("%d subscriptions of %d groups at once: all caught up in %v, %.1f times one alone; %d pages read, %d sweeps; %d results\n",
		groups*each, groups, took.Round(time.Millisecond), took.Seconds()/single.Seconds(), st.PagesRead, st.Sweeps-sweeps, got.Load())
	lower(ctx, "storm: pages read, of the groups", float64(st.PagesRead)/groups)
	return nil
}

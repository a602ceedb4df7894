package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// gaps finds the longest time in which nothing arrived.
type gaps struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	newest  int64 // when the row that arrived last was written, in microseconds
}

func (g *gaps) arrived(payload string) {
	_, after, _ := strings.Cut(payload, `"sent":"`)
	digits, _, _ := strings.Cut(after, `"`)
	sent, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last.IsZero() {
		g.longest = max(g.longest, now.Sub(g.last))
	}
	g.last, g.newest = now, max(g.newest, sent)
}

// begin forgets what was.
func (g *gaps) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.longest = 0
}

// passed waits until a row that was written after t has arrived, and returns the longest gap.
func (g *gaps) passed(ctx context.Context, t time.Time) (time.Duration, error) {
	for end := time.Now().Add(time.Minute); ; {
		g.mu.Lock()
		longest, newest := g.longest, g.newest
		g.mu.Unlock()
		if newest > t.UnixMicro() {
			return longest, nil
		}
		if time.Now().After(end) {
			return 0, errors.New("nothing arrives any more")
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// pauses writes a row every few milliseconds, does what ends connections, and measures how long nothing arrives at a stream.
func pauses(ctx context.Context, seconds int) error {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	url, err := own(ctx, db, "pauses", lagTable, watchRows)
	if err != nil {
		return err
	}
	between, err := newRelay(fmt.Sprintf("127.0.0.1:%d", db.Port()))
	if err != nil {
		return err
	}
	defer between.close()
	through := strings.Replace(url, fmt.Sprintf(":%d/", db.Port()), fmt.Sprintf(":%d/", between.port()), 1)
	if through == url {
		return fmt.Errorf("no port in the database's address %s", url)
	}
	var g gaps
	stop, err := subscribers(ctx, notifyql.Config{DatabaseURL: through}, 1, `subscription { rowsChanged { new { sent } } }`, func(_ int, payload []byte) { g.arrived(string(payload)) })
	if err != nil {
		return err
	}
	defer stop()
	writing, end := context.WithCancel(ctx)
	var wrote sync.WaitGroup
	defer wrote.Wait()
	defer end()
	wrote.Go(func() { writeAlways(writing, url, 5*time.Millisecond) })

	terminate := func(name string) func() (time.Time, error) {
		return func() (time.Time, error) {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				return time.Time{}, err
			}
			defer conn.Close(ctx) //nolint:errcheck // it has served
			var ended int
			err = conn.QueryRow(ctx, `select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1`, name).Scan(&ended)
			if err == nil && ended != 1 {
				err = fmt.Errorf("%d connections are called %s", ended, name)
			}
			return time.Now(), err
		}
	}
	fmt.Println("the longest time without an arrival, while a row is written every 5 ms")
	for _, f := range []struct {
		name string
		make func() (time.Time, error)
	}{
		{"nothing happens", func() (time.Time, error) { return time.Now(), nil }},
		{"the listener is terminated", terminate("notifyql listener")},
		{"the leader is terminated", terminate("notifyql leader")},
		{"the listener's network freezes", func() (time.Time, error) {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				return time.Time{}, err
			}
			defer conn.Close(ctx) //nolint:errcheck // it has served
			var port int
			if err := conn.QueryRow(ctx, `select client_port from pg_stat_activity where application_name = 'notifyql listener' order by backend_start desc limit 1`).Scan(&port); err != nil {
				return time.Time{}, err
			}
			return time.Now(), between.freeze(port)
		}},
		{"Postgres is restarted; since it accepts connections", func() (time.Time, error) {
			if err := db.Kill(ctx); err != nil {
				return time.Time{}, err
			}
			if err := db.Resume(ctx); err != nil {
				return time.Time{}, err
			}
			return time.Now(), nil
		}},
	} {
		var all []time.Duration
		for range max(3, seconds) {
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
			g.begin()
			t, err := f.make()
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if strings.HasPrefix(f.name, "Postgres") {
				if _, err := g.passed(ctx, t); err != nil {
					return err
				}
				all = append(all, time.Since(t))
				continue
			}
			longest, err := g.passed(ctx, t.Add(500*time.Millisecond))
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			all = append(all, longest)
		}
		fmt.Printf("  %-52s median %s  most %s of %d\n", f.name, ms(quantile(all, 0.5)), ms(quantile(all, 1)), len(all))
	}
	return nil
}

// writeAlways inserts a row every so often, whatever happens to its connection.
func writeAlways(ctx context.Context, url string, every time.Duration) {
	var conn *pgx.Conn
	for pause(ctx, every) == nil {
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.Connect(ctx, url); err != nil {
				conn = nil
				continue
			}
		}
		conn.Exec(ctx, `insert into rows (tenant_id) values ('t0')`) //nolint:errcheck // the next one may arrive
	}
	if conn != nil {
		conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	}
}

// relay is a network between a server and its database.
type relay struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	conns map[int]*link // by the port that the database sees
}

type link struct {
	near, far net.Conn
	frozen    atomic.Bool
}

func newRelay(to string) (*relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{ln: ln, to: to, conns: map[int]*link{}}
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close() //nolint:errcheck // the database is down
				continue
			}
			l := &link{near: near, far: far}
			port := far.LocalAddr().(*net.TCPAddr).Port
			r.mu.Lock()
			r.conns[port] = l
			r.mu.Unlock()
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					io.Copy(thaw{l, way[0]}, way[1]) //nolint:errcheck // it ends
					if !l.frozen.Load() {            // else nobody is told
						near.Close() //nolint:errcheck // it has ended
						far.Close()  //nolint:errcheck // it has ended
					}
				}()
			}
		}
	}()
	return r, nil
}

// thaw passes on what is written as long as the link is not frozen, and swallows it from then on.
type thaw struct {
	*link
	to net.Conn
}

func (t thaw) Write(b []byte) (int, error) {
	if t.frozen.Load() {
		return len(b), nil
	}
	return t.to.Write(b)
}

func (r *relay) port() int { return r.ln.Addr().(*net.TCPAddr).Port }

// freeze lets nothing more through the connection that has the port, and tells neither end.
func (r *relay) freeze(port int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.conns[port]
	if l == nil {
		return fmt.Errorf("no connection has port %d", port)
	}
	l.frozen.Store(true)
	return nil
}

func (r *relay) close() {
	r.ln.Close() //nolint:errcheck // it has served
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.conns {
		l.near.Close() //nolint:errcheck // it has served
		l.far.Close()  //nolint:errcheck // it has served
	}
}

// burst lets an idle database be written to by many at once, and measures how long it takes until writers need not notify.
func burst(ctx context.Context, seconds int) error {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	url := db.URL("postgres")
	if err := migrate.Up(ctx, url); err != nil {
		return err
	}
	setup, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer setup.Close(ctx) //nolint:errcheck // it has served
	for _, sql := range []string{lagTable, watchRows} {
		if _, err := setup.Exec(ctx, sql); err != nil {
			return err
		}
	}
	srv, _, stop, err := serve(ctx, notifyql.Config{DatabaseURL: url})
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("from the first commit of a burst until the stream is busy, and back after its end")
	for _, clients := range []int{8, 32} {
		var busy, quiet []time.Duration
		for range max(5, seconds) {
			b, q, err := burstOnce(ctx, srv, url, clients)
			if err != nil {
				return err
			}
			busy, quiet = append(busy, b), append(quiet, q)
		}
		fmt.Printf("  %2d connections: busy after %s (most %s of %d), quiet again after %s\n", clients, ms(quantile(busy, 0.5)), ms(quantile(busy, 1)), len(busy), ms(quantile(quiet, 0.5)))
	}
	return nil
}

func burstOnce(ctx context.Context, srv *notifyql.Server, url string, clients int) (busy, quiet time.Duration, err error) {
	await := func(want bool) error {
		for end := time.Now().Add(time.Minute); srv.Stats().Busy != want; {
			if time.Now().After(end) {
				return fmt.Errorf("the stream did not change its mode, busy: %t", !want)
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	}
	if err := await(false); err != nil {
		return 0, 0, err
	}
	writing, end := context.WithCancel(ctx)
	defer end()
	var first atomic.Int64
	var all, connected sync.WaitGroup
	start := make(chan struct{})
	for range clients {
		connected.Add(1)
		all.Go(func() {
			conn, err := pgx.Connect(writing, url)
			connected.Done()
			if err != nil {
				return
			}
			defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
			<-start
			for writing.Err() == nil {
				conn.Exec(writing, `insert into rows (tenant_id) values ('t0')`) //nolint:errcheck // the end cuts it short
				first.CompareAndSwap(0, time.Now().UnixNano())
			}
		})
	}
	connected.Wait()
	close(start)
	err = await(true)
	busy = time.Duration(time.Now().UnixNano() - first.Load())
	end()
	all.Wait()
	if err != nil {
		return 0, 0, err
	}
	over := time.Now()
	err = await(false)
	return busy, time.Since(over), err
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

const latencyTables = `
	create table ours (id bigint primary key generated always as identity, tenant_id text not null, sent bigint not null);
	create table raw (id bigint primary key generated always as identity, tenant_id text not null, sent bigint not null);
	create function raw_notify() returns trigger language plpgsql as $$
	begin
		perform pg_notify('raw', row_to_json(new)::text);
		return null;
	end $$;
	create trigger raw after insert on raw for each row execute function raw_notify();
	select notifyql.watch('ours');`

// latency writes 100 rows a second, in turns to a table with a bare trigger whose notifications one LISTEN receives, and
// to a watched one with 100 subscribers, and measures from before the write to its arrival.
func latency(ctx context.Context, seconds int) error {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	url := db.URL("postgres")
	if err := migrate.Up(ctx, url); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // likewise
	if _, err := conn.Exec(ctx, latencyTables); err != nil {
		return err
	}
	srv, addr, stop, err := serve(ctx, notifyql.Config{DatabaseURL: url, Auth: notifyql.Trust()})
	if err != nil {
		return err
	}
	defer stop()

	ours, raw := &arrivals{}, &arrivals{}
	listening, err := listenRaw(ctx, url, raw)
	if err != nil {
		return err
	}
	defer listening()
	const subscribers = 100
	for i := range subscribers {
		if err := subscribe(ctx, addr, ours.of(i)); err != nil {
			return err
		}
	}
	for srv.Stats().Subscriptions < subscribers {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	for range 3 { // in turns, so that what else the machine does hits both
		for _, table := range []string{"raw", "ours"} {
			if err := writeAt(ctx, conn, table, 100, time.Duration(seconds)*time.Second); err != nil {
				return err
			}
		}
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	r, o := raw.take(0), ours
	var p50s, all []time.Duration
	for i := range subscribers {
		times := o.take(i)
		all = append(all, times...)
		p50s = append(p50s, quantile(times, 0.5))
	}
	r50, r99 := quantile(r, 0.5), quantile(r, 0.99)
	o50, o99 := quantile(p50s, 0.5), quantile(all, 0.99)
	fmt.Printf("100 writes/s, %d arrivals raw, %d at %d subscribers\n", len(r), len(all), subscribers)
	fmt.Printf("  bare LISTEN       p50 %s   p99 %s\n", ms(r50), ms(r99))
	fmt.Printf("  notifyql, socket  p50 %s   p99 %s   (p50 of the median subscriber)\n", ms(o50), ms(o99))
	fmt.Printf("  ratio             p50 %.2f      p99 %.2f\n", float64(o50)/float64(r50), float64(o99)/float64(r99))
	return nil
}

// arrivals are the times that rows took, by receiver.
type arrivals struct {
	mu    sync.Mutex
	times map[int][]time.Duration
}

func (a *arrivals) of(i int) func(time.Duration) {
	return func(d time.Duration) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.times == nil {
			a.times = map[int][]time.Duration{}
		}
		a.times[i] = append(a.times[i], d)
	}
}

func (a *arrivals) take(i int) []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.times[i]
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func writeAt(ctx context.Context, conn *pgx.Conn, table string, perSecond int, during time.Duration) error {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	sql := `insert into ` + pgx.Identifier{table}.Sanitize() + ` (tenant_id, sent) values ('acme', $1)`
	for end := time.Now().Add(during); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := conn.Exec(ctx, sql, time.Now().UnixNano()); err != nil {
			return err
		}
	}
	return nil
}

// listenRaw is what anybody would write first.
func listenRaw(ctx context.Context, url string, to *arrivals) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		cancel()
		return nil, err
	}
	if _, err := conn.Exec(ctx, `listen raw`); err != nil {
		cancel()
		return nil, err
	}
	arrived, done := to.of(0), make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			var row struct{ Sent int64 }
			if json.Unmarshal([]byte(n.Payload), &row) == nil {
				arrived(time.Duration(time.Now().UnixNano() - row.Sent))
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

// serve runs a server in this process.
func serve(ctx context.Context, c notifyql.Config) (srv *notifyql.Server, addr string, stop func(), err error) {
	srv, err = notifyql.New(c)
	if err != nil {
		return nil, "", nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	face := &http.Server{Handler: srv.Handler(), ReadHeaderTimeout: time.Minute}
	go face.Serve(ln) //nolint:errcheck // ends with Close
	stop = func() {
		cancel()
		<-ran
		face.Close() //nolint:errcheck // it has served
	}
	select {
	case <-srv.Ready():
		return srv, ln.Addr().String(), stop, nil
	case err := <-ran:
		cancel()
		return nil, "", nil, errors.Join(errors.New("the server ended"), err)
	}
}

// subscribe opens a socket with one subscription to the table ours. Its reader does as little as it can, since a hundred
// of them share the machine with what is measured.
func subscribe(ctx context.Context, addr string, arrived func(time.Duration)) error {
	conn, err := dialRaw(ctx, addr, "subscription { oursChanged { new { sent } } }")
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		conn.Close() //nolint:errcheck // the end
	}()
	go func() {
		b := make([]byte, 4<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			now := time.Now().UnixNano()
			for rest := b[:n]; ; { // at this rate a message is never split
				_, after, ok := bytes.Cut(rest, []byte(`"sent":"`))
				if !ok {
					break
				}
				digits, more, _ := bytes.Cut(after, []byte(`"`))
				if sent, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
					arrived(time.Duration(now - sent))
				}
				rest = more
			}
		}
	}()
	return nil
}

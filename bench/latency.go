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
)

const latencyTables = `
	create table ours (id bigint primary key generated always as identity, tenant_id text not null, sent bigint not null);
	create table raw (id bigint primary key generated always as identity, tenant_id text not null, sent bigint not null);
	create table looped (like raw including all);
	create function raw_notify() returns trigger language plpgsql as $$
	begin
		perform pg_notify(tg_table_name, row_to_json(new)::text);
		return null;
	end $$;
	create trigger raw after insert on raw for each row execute function raw_notify();
	create trigger raw after insert on looped for each row execute function raw_notify();
	select notifyql.watch('ours');`

// latency writes 100 rows a second, in turns to a table with a bare trigger whose notifications one LISTEN receives, and
// to a watched one with 100 subscribers, and measures from before the write to its arrival.
func latency(ctx context.Context, seconds, subscribers int) error {
	url, conn, closing, err := database(ctx, latencyTables)
	if err != nil {
		return err
	}
	defer closing()
	srv, addr, stop, err := serve(ctx, notifyql.Config{DatabaseURL: url, Auth: notifyql.Trust()})
	if err != nil {
		return err
	}
	defer stop()

	loop, err := serveBare(ctx, subscribers)
	if err != nil {
		return err
	}
	defer loop.stop()
	ours, looped, raw := &arrivals{}, &arrivals{}, &arrivals{}
	listening, err := listenRaw(ctx, url, "raw", func(payload string) { raw.of(0)(since(payload)) })
	if err != nil {
		return err
	}
	defer listening()
	forwarding, err := listenRaw(ctx, url, "looped", func(payload string) {
		loop.write(ctx, []byte(`{"id":"1","type":"next","payload":`+payload+`}`)) //nolint:errcheck // a short count tells
	})
	if err != nil {
		return err
	}
	defer forwarding()
	for i := range subscribers {
		if err := errors.Join(subscribe(ctx, addr, ours.of(i)), subscribe(ctx, loop.addr, looped.of(i))); err != nil {
			return err
		}
	}
	loop.all.Wait()
	for srv.Stats().Subscriptions < subscribers {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	for range 3 { // in turns, so that what else the machine does hits all
		for _, table := range []string{"raw", "looped", "ours"} {
			if err := writeAt(ctx, conn, table, 100, time.Duration(seconds)*time.Second); err != nil {
				return err
			}
		}
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	r50, r99, n := raw.median(1)
	fmt.Printf("100 writes/s, %d of them raw; p50 of the median subscriber, p99 of all; in brackets, of the bare LISTEN\n", n)
	fmt.Printf("  bare LISTEN                                   p50 %s         p99 %s\n", ms(r50), ms(r99))
	for _, x := range []struct {
		name string
		*arrivals
	}{{"bare LISTEN and a loop over the sockets", looped}, {"notifyql", ours}} {
		p50, p99, n := x.median(subscribers)
		fmt.Printf("  %-39s %5d p50 %s (%.2f)  p99 %s (%.2f)\n", x.name, n, ms(p50), float64(p50)/float64(r50), ms(p99), float64(p99)/float64(r99))
	}
	loop50, _, _ := looped.median(subscribers)
	ours50, _, _ := ours.median(subscribers)
	lower(ctx, "latency: p50, of a bare LISTEN's and a loop over the sockets", float64(ours50)/float64(loop50))
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

func (a *arrivals) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = nil
}

// median returns the p50 of the median of n receivers, the p99 of all, and how many arrivals there were.
func (a *arrivals) median(n int) (p50, p99 time.Duration, count int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var p50s, all []time.Duration
	for i := range n {
		all = append(all, a.times[i]...)
		p50s = append(p50s, quantile(a.times[i], 0.5))
	}
	return quantile(p50s, 0.5), quantile(all, 0.99), len(all)
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
func listenRaw(ctx context.Context, url, channel string, notified func(payload string)) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		cancel()
		return nil, err
	}
	if _, err := conn.Exec(ctx, `listen `+pgx.Identifier{channel}.Sanitize()); err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			notified(n.Payload)
		}
	}()
	return func() { cancel(); <-done }, nil
}

// since is how long ago the row was sent.
func since(payload string) time.Duration {
	var row struct{ Sent int64 }
	json.Unmarshal([]byte(payload), &row) //nolint:errcheck // our own rows
	return time.Duration(time.Now().UnixNano() - row.Sent)
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
				_, after, ok := bytes.Cut(rest, []byte(`"sent":`))
				if !ok {
					break
				}
				after = bytes.TrimPrefix(after, []byte(`"`)) // a string from us, a number from row_to_json
				end := bytes.IndexFunc(after, func(r rune) bool { return r < '0' || r > '9' })
				digits, more := after[:max(end, 0)], after[max(end, 0):]
				if sent, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
					arrived(time.Duration(now - sent))
				}
				rest = more
			}
		}
	}()
	return nil
}

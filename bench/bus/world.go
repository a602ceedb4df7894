package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localbroker"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// world is Postgres, a broker, servers with a client each, and who writes.
type world struct {
	db      *localpg.Server
	url     string
	broker  *localbroker.Server // or nil
	servers []*server
	writer  *pgx.Conn
	written int64
	stops   []func()
}

var durable = map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_wal_size": "4GB"}

const tables = `
	create table events (id bigint primary key generated always as identity, tenant_id text not null, sent bigint not null, pad text);
	select notifyql.watch('events');`

func begin(ctx context.Context, c carrier, servers int) (_ *world, err error) {
	w := &world{}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	if w.db, err = localpg.Start(ctx, localpg.Options{Settings: durable}); err != nil {
		return nil, err
	}
	w.stops = append(w.stops, func() { w.db.Stop() }) //nolint:errcheck // it has served
	w.url = w.db.URL("postgres")
	if err := migrate.Up(ctx, w.url); err != nil {
		return nil, err
	}
	if w.writer, err = pgx.Connect(ctx, w.url); err != nil {
		return nil, err
	}
	w.stops = append(w.stops, func() { w.writer.Close(context.WithoutCancel(ctx)) }) //nolint:errcheck // it has served
	if _, err := w.writer.Exec(ctx, tables); err != nil {
		return nil, err
	}
	if c.program != nil {
		if w.broker, err = localbroker.Start(*c.program); err != nil {
			return nil, err
		}
		w.stops = append(w.stops, func() { w.broker.Stop() }) //nolint:errcheck // it has served
	}
	for range servers {
		if err := w.add(ctx, c); err != nil {
			return nil, err
		}
	}
	for following := 0; following < servers; {
		following = 0
		for _, s := range w.servers {
			if st := s.Stats(); st.Listening && st.Relayed == (w.broker != nil) {
				following++
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) end() {
	for _, stop := range slices.Backward(w.stops) {
		stop()
	}
}

// add starts a server and its client.
func (w *world) add(ctx context.Context, c carrier) error {
	config := notifyql.Config{DatabaseURL: w.url, Auth: notifyql.Trust(), Logger: slog.New(slog.DiscardHandler)}
	if c.open != nil {
		stream, err := c.open(w.broker.Addr, "notifyql")
		if err != nil {
			return err
		}
		w.stops = append(w.stops, func() { stream.Close() }) //nolint:errcheck // it has served
		config.Bus = notifyql.StreamBus(stream)
	}
	srv, err := notifyql.New(config)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(running) }()
	face := &http.Server{Handler: srv.Handler(), ReadHeaderTimeout: time.Minute}
	go face.Serve(ln) //nolint:errcheck // ends with Close
	w.stops = append(w.stops, func() {
		cancel()
		<-ran
		face.Close() //nolint:errcheck // it has served
	})
	select {
	case <-srv.Ready():
	case err := <-ran:
		ran <- nil
		return errors.Join(errors.New("the server ended"), err)
	}
	s := &server{Server: srv}
	if s.client, err = dial(ctx, ln.Addr().String()); err != nil {
		return err
	}
	w.stops = append(w.stops, s.client.close)
	for srv.Stats().Subscriptions < 1 {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	w.servers = append(w.servers, s)
	return nil
}

// client counts what comes over a socket, and notes how long that took.
type client struct {
	conn *websocket.Conn
	done chan struct{}
	got  atomic.Int64

	mu    sync.Mutex
	times []time.Duration
}

func dial(ctx context.Context, addr string) (*client, error) {
	conn, _, err := websocket.Dial(ctx, "ws://"+addr+"/graphql", &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	for _, text := range []string{
		`{"type":"connection_init","payload":{"tenantId":"acme","userId":"u"}}`,
		`{"id":"1","type":"subscribe","payload":{"query":"subscription { eventsChanged { new { id sent pad } } }"}}`,
	} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			return nil, err
		}
	}
	c := &client{conn: conn, done: make(chan struct{})}
	go c.read(ctx)
	return c, nil
}

func (c *client) close() {
	c.conn.CloseNow() //nolint:errcheck // it has served
	<-c.done
}

func (c *client) read(ctx context.Context) {
	defer close(c.done)
	for {
		_, message, err := c.conn.Read(ctx)
		if err != nil {
			return
		}
		now := time.Now().UnixNano()
		if bytes.Contains(message, []byte(`"type":"ping"`)) {
			c.conn.Write(ctx, websocket.MessageText, []byte(`{"type":"pong"}`)) //nolint:errcheck // the next read tells
			continue
		}
		_, rest, ok := bytes.Cut(message, []byte(`"sent":`))
		if !ok {
			continue
		}
		rest = bytes.TrimPrefix(rest, []byte(`"`))
		digits := rest[:max(0, bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }))]
		sent, _ := strconv.ParseInt(string(digits), 10, 64) // our own rows
		if sent > 0 {
			c.mu.Lock()
			c.times = append(c.times, time.Duration(now-sent))
			c.mu.Unlock()
		}
		c.got.Add(1)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// arrived waits until all clients have got all.
func (w *world) arrived(ctx context.Context) error {
	began := time.Now()
	for _, s := range w.servers {
		for s.client.got.Load() < w.written {
			if time.Since(began) > time.Minute {
				return fmt.Errorf("a client has %d events of %d", s.client.got.Load(), w.written)
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// load writes so many rows a second for a while, and returns how many connections the servers have, and how many transactions
// a second Postgres counted beside the writer's.
func (w *world) load(ctx context.Context, perSecond int, during time.Duration) (connections int, transactions float64, err error) {
	look, err := pgx.Connect(ctx, w.url)
	if err != nil {
		return 0, 0, err
	}
	defer look.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	count := func() (n int64, err error) {
		if err := pause(ctx, 1500*time.Millisecond); err != nil { // sessions report what they did once a second
			return 0, err
		}
		err = look.QueryRow(ctx, `select xact_commit + xact_rollback from pg_stat_database where datname = current_database()`).Scan(&n)
		return n, err
	}
	before, err := count()
	if err != nil {
		return 0, 0, err
	}
	began, written := time.Now(), w.written
	var tick <-chan time.Time
	if perSecond > 0 {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		tick = ticker.C
	}
	over := time.After(during)
	for going := true; going; {
		select {
		case <-tick:
			if _, err := w.writer.Exec(ctx, `insert into events (tenant_id, sent, pad) values ('acme', $1, repeat('x', 100))`, time.Now().UnixNano()); err != nil {
				return 0, 0, err
			}
			w.written++
		case <-over:
			going = false
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	after, err := count()
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began).Seconds()
	if err := w.arrived(ctx); err != nil {
		return 0, 0, err
	}
	err = look.QueryRow(ctx, `select count(*) from pg_stat_activity where application_name like 'notifyql%'`).Scan(&connections)
	return connections, float64(after-before-(w.written-written)-1) / took, err
}

// latencies are those of all clients since the last call: from before the write.
func (w *world) latencies() (p50, p99 time.Duration) {
	var all []time.Duration
	for _, s := range w.servers {
		s.client.mu.Lock()
		all = append(all, s.client.times...)
		s.client.times = nil
		s.client.mu.Unlock()
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0, 0
	}
	return all[len(all)/2], all[len(all)*99/100]
}

// rate writes as fast as it can, and returns how many events a second have arrived at each client.
func (w *world) rate(ctx context.Context, during time.Duration) (float64, error) {
	const batch = 500
	began, written := time.Now(), w.written
	for time.Since(began) < during {
		if _, err := w.writer.Exec(ctx, `insert into events (tenant_id, sent, pad) select 'acme', 0, repeat('x', 100) from generate_series(1, $1)`, batch); err != nil {
			return 0, err
		}
		w.written += batch
	}
	if err := w.arrived(ctx); err != nil {
		return 0, err
	}
	return float64(w.written-written) / time.Since(began).Seconds(), nil
}

// payload is as large as what a client gets of an event.
func (w *world) payload() []byte {
	return append([]byte(`{"id":"1","type":"next","payload":{"data":{"eventsChanged":{"new":{"id":"123456","sent":"0","pad":"`),
		append(bytes.Repeat([]byte("x"), 100), `"}}}}}`...)...)
}

// bareAddress is where the bare loop goes.
func (w *world) bareAddress() string {
	if w.broker != nil {
		return w.broker.Addr
	}
	return w.url
}

// Package buses tests servers of one database over each bus: real brokers, servers in this process.
package buses

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/bus/nats"
	"github.com/notifyql/notifyql/bus/redis"
	"github.com/notifyql/notifyql/internal/link"
	"github.com/notifyql/notifyql/internal/localbroker"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, migrate.Up) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// carriers start each a broker. Servers of postgres have none.
var carriers = map[string]func(testing.TB) *bustest.Broker{
	"postgres": func(testing.TB) *bustest.Broker { return nil },
	"memory": func(testing.TB) *bustest.Broker {
		b := bustest.NewMemory().Broker()
		return &b
	},
	"redis": func(t testing.TB) *bustest.Broker {
		return external(t, localbroker.Redis, func(addr string) (bus.Stream, error) {
			return redis.New(redis.Options{URL: "redis://" + addr})
		})
	},
	"nats": func(t testing.TB) *bustest.Broker {
		return external(t, localbroker.NATS, func(addr string) (bus.Stream, error) {
			return nats.New(nats.Options{URL: "nats://" + addr})
		})
	},
}

func external(t testing.TB, p localbroker.Program, open func(addr string) (bus.Stream, error)) *bustest.Broker {
	server := localbroker.New(t, p)
	return &bustest.Broker{
		Join: func(t testing.TB, _ string, _ bustest.Options) bustest.Node {
			l := link.New(t, server.Addr)
			s, err := open(l.Addr)
			must(t, err)
			return bustest.Node{Stream: s, Cut: l.Cut, Swallow: l.Swallow, Heal: l.Heal}
		},
		Kill:  func(t testing.TB) { t.Helper(); must(t, server.Kill()) },
		Start: func(t testing.TB) { t.Helper(); must(t, server.Resume()) },
	}
}

// cluster is some servers of one database.
type cluster struct {
	t       *testing.T
	db      *pgtest.DB
	broker  *bustest.Broker // or nil
	servers []*server
}

type server struct {
	*notifyql.Server
	way bustest.Node // to the broker
}

func newCluster(t *testing.T, carrier string, servers int) *cluster {
	c := &cluster{t: t, db: pgtest.New(t), broker: carriers[carrier](t)}
	c.db.Exec(t, `create table items (id int primary key, tenant_id text, ver int, over bool not null default false, pad text); select notifyql.watch('items')`)
	for range servers {
		c.add()
	}
	return c
}

// add starts one more server.
func (c *cluster) add() *server {
	c.t.Helper()
	s := &server{}
	config := notifyql.Config{DatabaseURL: c.db.URL, Logger: slog.New(slog.DiscardHandler), Limits: notifyql.Limits{TailBytes: 256 << 10}}
	if c.broker != nil {
		s.way = c.broker.Join(c.t, "notifyql", bustest.Options{})
		config.Bus = notifyql.StreamBus(s.way.Stream)
	}
	var err error
	s.Server, err = notifyql.New(config)
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
		if c.broker != nil {
			if err := s.way.Close(); err != nil {
				c.t.Error(err)
			}
		}
	})
	<-s.Ready()
	c.servers = append(c.servers, s)
	return s
}

// eventually waits for a state of the servers, which nothing signals.
func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	for began := time.Now(); !ok(); {
		if time.Since(began) > time.Minute {
			c.t.Fatalf("waited in vain: %s", what)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-c.t.Context().Done():
		}
	}
}

// follow waits until all servers get changes as they should, and one leads.
func (c *cluster) follow() (leader *server) {
	c.t.Helper()
	c.eventually("all servers follow one leader", func() bool {
		leader = nil
		for _, s := range c.servers {
			st := s.Stats()
			if st.Relayed != (c.broker != nil) || !st.Listening {
				return false
			}
			if st.Leader {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

const rows = 12

// writer changes rows until it is told that it is over, and then each row once more.
type writer struct {
	c       *cluster
	over    chan struct{}
	ended   chan error
	mu      sync.Mutex
	written int
	change  chan struct{} // closed at the next transaction
}

func (c *cluster) write() *writer {
	w := &writer{c: c, over: make(chan struct{}), ended: make(chan error, 1), change: make(chan struct{})}
	go func() { w.ended <- w.run() }()
	return w
}

func (w *writer) run() error {
	pool := w.c.db.Pool(w.c.t)
	ctx := w.c.t.Context()
	rnd := rand.New(rand.NewPCG(1, 2))
	const sql = `insert into items (id, tenant_id, ver, over, pad) values ($1, 'a', 1, $2, repeat('x', $3))
		on conflict (id) do update set ver = items.ver + 1, over = excluded.over, pad = excluded.pad`
	for going := true; going; {
		select {
		case <-w.over:
			going = false
		default:
		}
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(3) {
			if _, err := tx.Exec(ctx, sql, rnd.IntN(rows), false, rnd.IntN(3000)); err != nil {
				return errors.Join(err, tx.Rollback(ctx))
			}
		}
		for id := 0; !going && id < rows; id++ {
			if _, err := tx.Exec(ctx, sql, id, true, 10); err != nil {
				return errors.Join(err, tx.Rollback(ctx))
			}
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		w.mu.Lock()
		w.written++
		close(w.change)
		w.change = make(chan struct{})
		w.mu.Unlock()
	}
	return nil
}

// more waits for more transactions.
func (w *writer) more(transactions int) {
	w.c.t.Helper()
	w.mu.Lock()
	goal := w.written + transactions
	for w.written < goal {
		change := w.change
		w.mu.Unlock()
		select {
		case <-change:
		case err := <-w.ended:
			w.c.t.Fatalf("the writer ended: %v", err)
		}
		w.mu.Lock()
	}
	w.mu.Unlock()
}

// judge takes what a subscriber gets: each row's versions in their order, each once.
type judge struct {
	name   string
	stream *notifyql.Stream
	got    atomic.Int64 // changes
	ended  chan error
}

// subscribe begins a subscription, and takes what comes when start is closed.
func (c *cluster) subscribe(s *server, name string, start <-chan struct{}) *judge {
	c.t.Helper()
	stream, err := s.Subscribe(c.t.Context(), notifyql.Request{
		Query: `subscription { itemsChanged { new { id ver over } } }`, Identity: notifyql.Identity{UserID: "u", Tenants: []string{"a"}},
	})
	must(c.t, err)
	j := &judge{name: name, stream: stream, ended: make(chan error, 1)}
	go func() { j.ended <- j.run(c.t.Context(), start) }()
	return j
}

func (j *judge) run(ctx context.Context, start <-chan struct{}) error {
	defer j.stream.Close() //nolint:errcheck // it has served
	if start != nil {
		<-start
	}
	versions := map[int]int{}
	for over := 0; over < rows; {
		raw, err := j.stream.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s: after %v: %w", j.name, versions, err)
		}
		var m struct {
			Data struct {
				ItemsChanged struct {
					New struct {
						ID, Ver int
						Over    bool
					}
				}
			}
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("%s: %s: %w", j.name, raw, err)
		}
		got := m.Data.ItemsChanged.New
		if last, ok := versions[got.ID]; ok && got.Ver != last+1 {
			return fmt.Errorf("%s: row %d has version %d after %d (%s)", j.name, got.ID, got.Ver, last, raw)
		}
		versions[got.ID] = got.Ver
		j.got.Add(1)
		if got.Over {
			over++
		}
	}
	return nil
}

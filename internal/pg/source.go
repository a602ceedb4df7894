package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// poolSize is how many connections the pool has at most, unless it is said.
const poolSize = 12

// Connections is how many a node opens at most: its pool's, the listener's and the leader's.
const Connections = poolSize + 2

// RelayedConnections is the same for a node behind a broker: while it leads, its reading sweeps and beats beside its own.
const RelayedConnections = Connections + leaderPool

// leaderPool is how many connections more the pool has for the sweeps and heartbeats of a leader's reading.
const leaderPool = 2

// Config says where the database is and how the source lives with it. The zero value of everything but DatabaseURL works.
type Config struct {
	// DatabaseURL is where the listener connects: the database itself, the primary.
	DatabaseURL string
	// PoolURL is where all else goes; it may lead through a transaction pooler. Empty: DatabaseURL.
	PoolURL string
	// PoolSize is how many connections the pool has at most. Zero: 12. Two are left to sweeps and heartbeats, the others are shared by
	// who reads and who publishes.
	PoolSize int32
	// Pool takes the place of PoolURL and PoolSize, and without a DatabaseURL of that, too. Close leaves it open.
	Pool *pgxpool.Pool
	// Beat is the time between heartbeats. Zero: a second.
	Beat time.Duration
	// Poll is how often the catalog is looked at for changes that nobody notified. Zero: a second.
	Poll time.Duration
	// Mode is how changes reach the node, where the database's own setting leaves it to the servers. Zero: Auto.
	Mode Mode
	// Turn is the time between two looks whether a slot of the log can be emptied. Zero: a minute.
	Turn time.Duration
	// OnCatalog, if not nil, is called with the watched tables when Run has first read them and whenever they have changed:
	// by one goroutine, one call at a time. Following waits while it runs.
	OnCatalog func(catalog.Catalog)
	// Enter, if not nil, is told in which era the database is before the listener opens there. It returns the place that stands for
	// all that was dispatched in another era, if it has to be looked whether that is still there.
	Enter func(change.Era) *change.Point
	// OnSettled, if not nil, is called after Settle, by the goroutine that emits notifications.
	OnSettled func()
	// Relayed says that one node reads the stream of notifications for all: Run has no listener and no leader, and Beats says when
	// heartbeats are wanted. Enter stands for the listener's opening; Lead and NewReading are for that one node.
	Relayed bool
	// OnEra, if not nil, is called when a sweep has found that the database is in another era than the machine was told, if
	// there is no listener to find that out.
	OnEra func()
	// Log takes what an administrator should know. Nil: slog.Default().
	Log *slog.Logger
}

// Source is a node's database. Make it with New, drive it with Run, and Close it when nobody uses it any more.
type Source struct {
	config   Config
	pool     *pgxpool.Pool
	state    *state
	seen     atomic.Int64 // transactions that were notified or swept
	drive    *drive
	listener *pgx.ConnConfig // for those who listen
	leader   *leader
	catalog  *follower
	turner   *turner
	history  *history

	reading atomic.Pointer[Reading] // that is run; nil: none

	publishers chan struct{} // one for each event that is being published
}

var errNowhere = errors.New("it is not said where Postgres is: neither DatabaseURL nor Pool is set; only the bus in memory needs none")

// New checks the configuration and prepares a source. It does not connect: a database that is down is waited for by Run.
func New(cfg Config) (*Source, error) {
	spare := int32(2) // for sweeps and heartbeats
	if cfg.Relayed {
		spare = 4 // a leader has them twice
	}
	if cfg.Pool == nil && cfg.DatabaseURL == "" {
		return nil, errNowhere
	}
	if cfg.Pool != nil {
		cfg.PoolSize = cfg.Pool.Config().MaxConns
		if cfg.PoolSize < spare+2 {
			return nil, fmt.Errorf("the pool has room for %d connections and needs it for %d; set its MaxConns", cfg.PoolSize, spare+2)
		}
	}
	if cfg.PoolSize == 0 {
		cfg.PoolSize = poolSize
		if cfg.Relayed {
			cfg.PoolSize += leaderPool
		}
	}
	if cfg.Beat == 0 {
		cfg.Beat = time.Second
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Turn == 0 {
		cfg.Turn = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	listenerConf, err := directConfig(cfg, listenerName)
	if err != nil {
		return nil, err
	}
	leaderConf, err := directConfig(cfg, leaderName)
	if err != nil {
		return nil, err
	}
	pool := cfg.Pool
	if pool == nil {
		poolConf, err := poolConfig(cfg)
		if err != nil {
			return nil, err
		}
		if pool, err = pgxpool.NewWithConfig(context.Background(), poolConf); err != nil {
			return nil, err
		}
	}
	s := &Source{config: cfg, pool: pool, state: newState(cfg.Log)}
	s.leader = &leader{config: leaderConf, state: s.state, mode: cfg.Mode, seen: &s.seen, early: make(chan struct{}, 1)}
	s.drive = newDrive(pool, s.state, &s.seen, cfg.Beat)
	if cfg.Relayed {
		s.drive.sweeper.otherEra = cfg.OnEra
	} else {
		s.drive.listener = &listener{config: listenerConf, state: s.state}
		s.drive.beats.Store(true)
	}
	s.listener = listenerConf
	s.catalog = newFollower(pool, s.state, cfg.OnCatalog)
	s.turner = &turner{pool: pool, state: s.state, pause: min(cfg.Turn/2, 30*time.Second)}
	publishers := max(1, 2*(cfg.PoolSize-spare)/5)
	s.publishers = make(chan struct{}, publishers)
	s.history = newHistory(pool, max(1, cfg.PoolSize-spare-publishers))
	return s, nil
}

// Run serves emit until ctx is done, and returns nil then, all its goroutines ended. emit is called by several of them, and
// what it does holds up the caller. A database that is down, or unfit, is tried again and again: Status says why.
func (s *Source) Run(ctx context.Context, emit func(feed.Input)) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		s.drive.run(ctx, emit, sessionEvents{enter: s.enter, settled: s.settled, catalog: s.catalog.look})
	})
	if !s.config.Relayed {
		wg.Go(func() { s.leader.run(ctx) })
	}
	wg.Go(func() { s.catalog.run(ctx, s.config.Poll) })
	wg.Go(func() { s.turner.run(ctx, s.config.Turn) })
	wg.Wait()
	return nil
}

// Check tries whether a listener could live on the database now: nil, or one line that says what is wrong and what to do.
func (s *Source) Check(ctx context.Context) error {
	conn, _, err := connectFit(ctx, s.listener)
	if err != nil {
		return explain(err, s.listener)
	}
	closeConn(conn)
	return nil
}

// Do carries out an action of the machine. It does not wait; what comes of it is emitted.
func (s *Source) Do(a feed.Action) { s.drive.do(a) }

// Settle asks for OnSettled to be called once all notifications have been emitted of every transaction of which some
// have. It does not wait, and returns false if there is no connection to ask.
func (s *Source) Settle() bool { return s.drive.settle() }

func (s *Source) settled() {
	if s.config.OnSettled != nil {
		s.config.OnSettled()
	}
}

func (s *Source) enter(era change.Era) *change.Point {
	if s.config.Enter == nil {
		return nil
	}
	return s.config.Enter(era)
}

// Pool is the pool's counters.
func (s *Source) Pool() *pgxpool.Stat { return s.pool.Stat() }

// Close closes the pool. It waits for its connections to come back, so that Run has returned and no other method is in use.
func (s *Source) Close() {
	if s.config.Pool == nil {
		s.pool.Close()
	}
}

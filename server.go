package notifyql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notifyql/notifyql/internal/bus/memory"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/internal/pg"
	"github.com/notifyql/notifyql/internal/problems"
	"github.com/notifyql/notifyql/internal/relay"
	"github.com/notifyql/notifyql/internal/sse"
	"github.com/notifyql/notifyql/internal/subs"
	"github.com/notifyql/notifyql/internal/ws"
)

// Server takes changes from its bus to its subscribers. Make it with New, start it with Run. Its methods may be called from any
// goroutine.
type Server struct {
	cfg      Config
	log      *slog.Logger
	problems *problems.Recorder
	source   source
	database *pg.Source   // nil: no database
	relay    *relay.Relay // nil: no broker
	hub      *subs.Hub
	fields   fields
	schema   atomic.Pointer[gql.Schema]
	sockets  sockets
	work     *ws.Budget // for what clients send
	bounds   *bounds
	proxies  proxies
	roster   roster
	events   *sse.Handler
	tracer   *tracer // nil: nothing is traced

	ready     chan struct{} // closed once changes flow and there is a schema
	readyOnce sync.Once
	ended     chan struct{} // closed when Run returns
	ran       atomic.Bool
	connected atomic.Bool // the listener is
	readOnly  atomic.Bool
	features  map[string]bool // all there are, and whether they are on; not changed
	written   lags            // from the write of a change to that of its event to a socket
	kinds     kinds           // of what was handed on
	handed    lags            // and to when it was handed on to the subscriptions

	mu      sync.Mutex // guards machine, and holds it and the hub in one order
	machine *feed.Machine
	opened  bool
}

// New checks the configuration and returns a Server, to be Run: what New prepares, the end of Run releases. It opens no
// connection.
func New(c Config) (*Server, error) {
	c.Limits = c.Limits.withDefaults()
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	mode, err := c.Mode.parse()
	if err != nil {
		return nil, fmt.Errorf("notifyql: %w", err)
	}
	if err := checkOrigins(c.Origins); err != nil {
		return nil, fmt.Errorf("notifyql: %w", err)
	}
	features, err := c.applyFeatures()
	if err != nil {
		return nil, fmt.Errorf("notifyql: %w", err)
	}
	if c.PoolURL == "" {
		c.PoolURL = c.DatabaseURL
	}
	s := &Server{
		cfg: c, problems: problems.NewRecorder(), machine: feed.New(), bounds: newBounds(&c.Limits),
		ready: make(chan struct{}), ended: make(chan struct{}),
		work: ws.NewBudget(float64(runtime.GOMAXPROCS(0)) / 4), // the rest is for what is sent to them, and for what that takes
	}
	s.readOnly.Store(c.ReadOnly)
	s.features = features
	if s.proxies, err = newProxies(c.TrustedProxies); err != nil {
		return nil, fmt.Errorf("notifyql: %w", err)
	}
	s.tracer = newTracer(c.TracerProvider)
	s.log = slog.New(s.problems.Handler(c.Logger.Handler()))
	s.sockets.init(c.Limits.Connections)
	s.events = s.newEvents()

	var history subs.History
	if c.Bus.memory {
		s.source = inProcess{memory.New()}
	} else {
		conf := pg.Config{
			DatabaseURL: c.DatabaseURL, PoolURL: c.PoolURL, Pool: c.Pool, Mode: mode, Log: s.log, OnCatalog: s.follow, OnSettled: s.settled, Enter: s.enter,
		}
		if c.Bus.stream != nil {
			s.relay = relay.New(relay.Config{Stream: c.Bus.stream, OnSettled: s.settled, Log: s.log})
			conf.Relayed, conf.OnEra = true, s.relay.OnEra
		}
		db, err := pg.New(conf)
		if err != nil {
			return nil, fmt.Errorf("notifyql: %w", err)
		}
		s.source, s.database, history = database{db}, db, db
		if s.relay != nil {
			s.source = relayed{database{db}, s.relay}
		}
	}
	options := subs.Options{
		TailBytes: c.Limits.TailBytes, SnapshotRows: int64(c.Limits.InitialRows), History: history, Join: s.join, Logger: s.log,
	}
	if s.tracer != nil {
		options.Trace = s.tracer.pass
		if history != nil {
			options.History = tracedHistory{history, s.tracer}
		}
	}
	s.hub = subs.New(options)
	s.fields.all = gqlFields(c.Fields, s.tracer)
	// Fields that don't fit are found now, not when the database answers.
	schema, _, err := s.buildSchema(catalog.Catalog{})
	if err != nil {
		return nil, fmt.Errorf("notifyql: %w", err)
	}
	s.fields.names = schema.FieldNames()
	if c.Bus.memory {
		s.schema.Store(schema)
	}
	if c.Registerer != nil {
		if err := c.Registerer.Register(&collector{s}); err != nil {
			return nil, fmt.Errorf("notifyql: Config.Registerer: %w", err)
		}
	}
	return s, nil
}

// Run serves until ctx ends: it takes changes in, follows the schema, and at the end closes all sockets with 1012, so
// that clients come back, and waits for them, for DrainTimeout at most. It returns nil after that. A database that is down,
// or not fit, such as one without the migrations, is waited for: the log says so once, and Health until it is over. Run is
// called once.
func (s *Server) Run(ctx context.Context) error {
	if s.ran.Swap(true) {
		return errors.New("notifyql: Run was called before; make a new Server")
	}
	defer close(s.ended)
	if s.cfg.Registerer != nil {
		defer s.cfg.Registerer.Unregister(&collector{s})
	}
	// The source outlives ctx until the sockets are closed, so that what is on its way arrives.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- s.source.Run(inner, s.emit) }()
	var rounds sync.WaitGroup
	defer rounds.Wait()
	rounds.Go(func() { s.rounds(inner) })
	defer stop()

	var err error
	select {
	case err = <-failed:
		s.drain()
	case <-ctx.Done():
		s.drain()
		stop()
		err = <-failed
	}
	s.hub.Close()
	if s.database != nil {
		s.database.Close()
	}
	if err != nil {
		return fmt.Errorf("notifyql: %w", err)
	}
	return nil
}

// drain closes what clients are connected by, and waits for it.
func (s *Server) drain() {
	s.events.Close() // what is only reserved
	s.sockets.drain(s.cfg.DrainTimeout)
}

// Ready is closed once changes flow and subscriptions can begin.
func (s *Server) Ready() <-chan struct{} { return s.ready }

func (s *Server) awaitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		return errors.New("notifyql: the server has ended")
	case <-ctx.Done():
		return fmt.Errorf("notifyql: the server is not ready: %w", ctx.Err())
	}
}

// emit takes an input to the feed and what comes of it to where it belongs. The source calls it from its goroutines.
func (s *Server) emit(in feed.Input) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracer.receive()
	now := time.Now()
	txns, actions := s.machine.Step(now, in)
	if missed(in) { // by who is subscribed now
		s.hub.Recheck(func(subs.Plan) error { return change.ErrDropped })
	}
	s.hub.Dispatch(txns, s.machine.Place())
	for i := range txns {
		s.handed.changed(now, &txns[i])
		s.kinds.count(&txns[i])
	}
	s.settle()
	s.tracer.dispatched()
	for _, a := range actions {
		if a, ok := a.(feed.Joined); ok {
			s.hub.Joined(a.Ticket, a.At)
			continue
		}
		s.source.Do(a)
	}
	switch in.(type) {
	case feed.Opened:
		s.opened = true
		s.connected.Store(true)
		s.maybeReady()
	case feed.Lost:
		s.connected.Store(false)
	}
}

// missed reports whether the feed went on from a place that leaves something out.
func missed(in feed.Input) bool {
	switch in := in.(type) {
	case feed.Expired:
		return true
	case feed.Opened:
		return in.Gone
	}
	return false
}

// enter tells the feed in which era the database is.
func (s *Server) enter(era change.Era) *change.Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Enter(era)
}

// join is called by the hub for a subscription that is to catch up.
func (s *Server) join(ticket int) { s.emit(feed.Joining{Ticket: ticket}) }

// roundEvery is how often subscribers are told where they are, if anything has flowed since.
const roundEvery = time.Minute

// rounds keeps cursors from growing old where nothing happens to their holders.
func (s *Server) rounds(ctx context.Context) {
	tick := time.NewTicker(roundEvery)
	defer tick.Stop()
	var last *change.Point
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		at := s.machine.Place()
		s.mu.Unlock()
		if at != nil && !at.Same(last) {
			s.hub.Round()
		}
		last = at
	}
}

// settle tells subscribers who want whole transactions that the last one is complete: at once if the machine knows, or
// else when the source has nothing more of it. While a sweep is awaited, the sweep brings the rest. It needs mu.
func (s *Server) settle() {
	if !s.hub.Unsettled() {
		return
	}
	switch st := s.machine.Stats(); {
	case !st.Open:
		s.hub.Settle()
	case st.State == feed.Listening && !s.source.Settle():
		s.hub.Settle()
	}
}

// settled is called by the source when it has nothing more of the transactions of which some has been emitted.
func (s *Server) settled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine.Stats().State == feed.Listening {
		s.hub.Settle()
		s.tracer.dispatched()
	}
}

// follow makes the schema anew from what the database has. Subscriptions whose table changed under them end and say
// so; others notice nothing.
func (s *Server) follow(c catalog.Catalog) {
	schema, notes, err := s.buildSchema(c)
	if err != nil {
		s.log.Error("the schema can't be made; the one before stays", "error", err)
		return
	}
	for _, n := range notes {
		s.log.Warn("schema", "problem", n.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schema.Store(schema)
	s.hub.Recheck(func(p subs.Plan) error { return schema.Recheck(p) })
	s.maybeReady()
}

func (s *Server) buildSchema(c catalog.Catalog) (*gql.Schema, []gql.Problem, error) {
	var r reads
	if s.database != nil {
		r.rows = s.entities
	}
	if s.cfg.OnSubscribe != nil {
		r.narrow = s.narrow
	}
	return buildSchema(s.cfg, s.fields.all, s.log, c, r)
}

// maybeReady is called with mu held.
func (s *Server) maybeReady() {
	if s.opened && s.schema.Load() != nil {
		s.readyOnce.Do(func() { close(s.ready) })
	}
}

// Logger is the server's log: what is logged here is in /errors too, and has secrets taken out.
func (s *Server) Logger() *slog.Logger { return s.log }

// SDL returns the present schema, the whole, in the schema definition language; empty before the server is ready.
func (s *Server) SDL() string {
	if schema := s.schema.Load(); schema != nil {
		return schema.SDL()
	}
	return ""
}

package nemesis

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, migrate.Up) }

var (
	seedFlag = flag.Uint64("nemesis.seed", 1, "of the faults, the writers and the subscribers")
	timeFlag = flag.Duration("nemesis.time", 12*time.Second, "how long to make trouble")
	logFlag  = flag.String("nemesis.log", "", "folder for the nodes' logs (default: a temporary one)")
)

// world is all that takes part in a run.
type world struct {
	t       *testing.T
	bin     string
	rnd     *rand.Rand // of the faults
	began   time.Time
	db      *database
	nodes   []*node
	subs    []*subscriber
	durable bool // a crash of the database loses no commit

	troubles []trouble

	finished, failed atomic.Int64 // transactions
}

func newWorld(t *testing.T, seed uint64, durable bool) *world {
	t.Helper()
	dir := *logFlag
	if dir == "" {
		dir = t.TempDir()
	}
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), db: newDatabase(t, durable), durable: durable, bin: binary(t),
		began: time.Now(),
	}
	for i := range 2 {
		n := newNode(t, fmt.Sprintf("node%d", i), newLink(t, w.db.addr()), "postgres", dbname, dir, i)
		w.nodes = append(w.nodes, n)
		if err := n.start(w.bin); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range w.nodes {
		w.await("the nodes to be ready", func() bool { return n.ready(t.Context()) })
	}
	return w
}

func (w *world) say(format string, args ...any) {
	w.t.Logf("%7.3f %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// await waits for a state that nothing signals.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for began := time.Now(); !ok(); {
		if time.Since(began) > 2*time.Minute || !pass(w.t.Context(), 20*time.Millisecond) {
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// run lets everybody do their work while trouble lasts, brings the world to rest, and checks.
func (w *world) run(seed uint64, trouble func(ctx context.Context)) {
	var writers, readers sync.WaitGroup
	writing, stop := context.WithCancel(w.t.Context())
	defer stop()
	for i := range 4 {
		x := &writer{
			db: w.db, rnd: rand.New(rand.NewPCG(seed, uint64(100+i))), slow: i == 3, pause: 30 * time.Millisecond, largest: 5000,
			finished: &w.finished, failed: &w.failed,
		}
		writers.Go(func() { x.run(writing) })
	}
	reading, leave := context.WithCancel(w.t.Context())
	defer leave()
	for _, s := range w.subs {
		readers.Go(func() { s.run(reading) })
	}
	trouble(writing)
	w.say("at rest")
	stop()
	writers.Wait()
	w.mark()
	deadline := time.AfterFunc(90*time.Second, leave)
	readers.Wait()
	if !deadline.Stop() {
		w.t.Errorf("not all subscribers have come to the end")
	}
	w.judge()
}

// mark writes the last rows that there are, one for each subscriber to find.
func (w *world) mark() {
	for i, tenant := range tenants {
		for _, table := range tables {
			sql := fmt.Sprintf("begin; insert into begun default values; insert into %s (id, tenant_id, n, grp) values (%d, '%s', 0, '%s') on conflict do nothing; commit",
				table, -1-4*i, tenant, Marker)
			if err := w.db.insist(w.t.Context(), sql); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *world) judge() {
	truth, err := w.db.truth(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var all []*Subscription
	var delivered, resumed, expired int
	for _, s := range w.subs {
		all = append(all, &s.Subscription)
		delivered += len(s.Notes)
		resumed += s.resumed
		expired += s.expiries
		for _, p := range s.problems {
			w.t.Errorf("%s got %s", s.Name, p)
		}
		if !s.done {
			w.t.Errorf("%s has not come to its end: %d notes, cursor %.20s", s.Name, len(s.Notes), s.cursor)
		}
	}
	for _, v := range Check(truth, all) {
		w.t.Error(v)
	}
	w.pauses(truth)
	w.say("%d transactions finished, %d failed; %s", w.finished.Load(), w.failed.Load(), w.db.describe(w.t.Context()))
	w.say("%d notes by %d subscribers, %d resumptions, %d expiries", delivered, len(all), resumed, expired)
	if w.t.Failed() {
		for _, n := range w.nodes {
			if text, err := os.ReadFile(n.log.Name()); err == nil {
				w.t.Logf("%s:\n%s", filepath.Base(n.log.Name()), text[max(0, len(text)-8000):])
			}
		}
	}
}

// subscribe adds a subscriber.
func (w *world) subscribe(seed uint64, table, tenant string, f Filter, batch, calm bool) {
	i := len(w.subs)
	s := &subscriber{db: w.db, nodes: w.nodes, rnd: rand.New(rand.NewPCG(seed, uint64(200+i))), batch: batch, calm: calm}
	s.Subscription = Subscription{Name: fmt.Sprintf("subscriber %d of %s of %s", i, table, tenant), Table: table, Tenant: tenant, Filter: f}
	w.subs = append(w.subs, s)
}

// world's subscribers: filters, batches and single changes, the calm and the restless.
func (w *world) subscribeAll(seed uint64) {
	w.subscribe(seed, "items", "a", Filter{}, false, true)
	w.subscribe(seed, "items", "a", Filter{}, true, false)
	w.subscribe(seed, "items", "b", Filter{Below: 50}, true, true)
	w.subscribe(seed, "items", "b", Filter{Below: 50}, false, false)
	w.subscribe(seed, "items", "c", Filter{Group: "g2"}, false, false)
	w.subscribe(seed, "lines", "a", Filter{Group: "g1"}, false, false)
	w.subscribe(seed, "lines", "c", Filter{}, true, false)
	w.subscribe(seed, "sums", "b", Filter{}, false, true)
	w.subscribe(seed, "sums", "c", Filter{}, true, false)
}

func TestNemesis(t *testing.T) {
	w := newWorld(t, *seedFlag, true)
	w.subscribeAll(*seedFlag)
	w.run(*seedFlag, w.among(faults))
}

func TestNemesisLosesCommits(t *testing.T) {
	w := newWorld(t, *seedFlag, false)
	w.subscribeAll(*seedFlag)
	w.run(*seedFlag, w.among(everyFault))
}

// among makes faults chosen at random until the time is over.
func (w *world) among(fs []fault) func(context.Context) {
	return func(ctx context.Context) {
		for time.Since(w.began) < *timeFlag && pass(ctx, w.some(200, 1500)) {
			w.strike(ctx, w.choose(fs))
		}
	}
}

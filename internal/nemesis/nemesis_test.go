package nemesis

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/link"
	"github.com/notifyql/notifyql/internal/localbroker"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, nil) }

var (
	seedFlag = flag.Uint64("nemesis.seed", 1, "of the faults, the writers and the subscribers")
	timeFlag = flag.Duration("nemesis.time", 8*time.Second, "how long to make trouble")
	binFlag  = flag.String("nemesis.binary", "", "the server to make trouble for (default: built from these sources)")
	bulkFlag = flag.Int("nemesis.bulk", 3000, "rows of one very large transaction; 0: none")
	rateFlag = flag.Int("nemesis.rate", 100, "changes a second by many small transactions at once; 0: none")
	logFlag  = flag.String("nemesis.log", "", "folder for the nodes' logs (default: a temporary one)")
)

// plan is what a run is to be like.
type plan struct {
	seed      uint64
	durable   bool // a crash of the database loses no commit
	retention bool // the log is emptied after seconds
	faults    []fault
	lasts     time.Duration
	bulk      int    // rows of one transaction
	rate      int    // changes a second by bursts
	shares    int    // how many runs there are in a run's time; 0: one
	size      int    // of nodes; 0: two
	carrier   string // what carries changes between them; none: each listens
}

// fewest is how many faults there are at least, on a machine however busy.
const fewest = 4

// world is all that takes part in a run.
type world struct {
	plan
	t     *testing.T
	bin   string
	rnd   *rand.Rand // of the faults
	began time.Time
	db    *database
	nodes []*node
	subs  []*subscriber

	broker *localbroker.Server // or nil

	coming   []fault
	mu       sync.Mutex
	troubles []trouble

	failed   atomic.Int64 // transactions
	prepared preparations
	heavy    sync.RWMutex // see lulls
}

func newWorld(t *testing.T, p plan) *world {
	t.Helper()
	dir := filepath.Join(*logFlag, t.Name()) // rounds go on side by side
	if *logFlag == "" {
		dir = t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{plan: p, t: t, rnd: rand.New(rand.NewPCG(p.seed, 1)), db: newDatabase(t, p.durable), bin: binary(t), began: time.Now()}
	if p.retention {
		if err := w.db.exec(t.Context(), "update notifyql.setting set slot_seconds = 2, retention = '10 seconds'"); err != nil {
			t.Fatal(err)
		}
	}
	if p.carrier != "" {
		w.broker = localbroker.New(t, carriers[p.carrier].program)
	}
	for i := range max(2, p.size) {
		n := newNode(t, fmt.Sprintf("node%d", i), link.New(t, w.db.addr()), dir)
		if w.broker != nil {
			n.broker = link.New(t, w.broker.Addr)
			n.env = append(n.env, "NOTIFYQL_BUS="+carriers[p.carrier].scheme+n.broker.Addr)
		}
		w.nodes = append(w.nodes, n)
		if err := n.start(w.bin); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range w.nodes {
		w.await("the nodes to be ready", func() bool { return n.ready(t.Context()) })
	}
	w.awaitBroker()
	w.began = time.Now()
	return w
}

// awaitBroker waits until changes come through the broker, if there is one.
func (w *world) awaitBroker() {
	w.t.Helper()
	for _, n := range w.nodes {
		w.await("changes to come through the broker to "+n.name, func() bool { return w.broker == nil || n.relayed(w.t.Context()) })
	}
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

// run lets everybody do their work while faults are made, brings the world to rest, and checks.
func (w *world) run(sum *tally) {
	var writers, readers sync.WaitGroup
	writing, stop := context.WithCancel(w.t.Context())
	defer stop()
	for i := range 4 {
		x := &writer{db: w.db, rnd: rand.New(rand.NewPCG(w.seed, uint64(100+i))), slow: i == 3, pause: 30 * time.Millisecond, heavy: &w.heavy, failed: &w.failed}
		writers.Go(func() { x.run(writing) })
	}
	reading, leave := context.WithCancel(w.t.Context())
	defer leave()
	var last atomic.Pointer[subscriber]
	for _, s := range w.subs {
		readers.Go(func() {
			s.run(reading)
			last.Store(s)
		})
	}
	if w.bulk > 0 {
		w.imports(writing, 0) // while nothing stands in its way
		writers.Go(func() { w.load(writing) })
	}
	if w.rate > 0 {
		x := &bursts{db: w.db, rnd: rand.New(rand.NewPCG(w.seed, 110)), rate: w.rate, failed: &w.failed}
		writers.Go(func() { x.run(writing) })
	}
	preparer := &preparer{writer{db: w.db, rnd: rand.New(rand.NewPCG(w.seed, 120)), slow: true, heavy: &w.heavy}, &w.prepared}
	writers.Go(func() { preparer.run(writing) })
	writers.Go(func() { w.lulls(writing, rand.New(rand.NewPCG(w.seed, 130))) })
	if w.retention {
		writers.Go(func() { w.turn(writing) })
	}
	for n := 0; n < fewest || time.Since(w.began) < w.lasts; n++ {
		if !pass(writing, w.some(200, 1500)) {
			break
		}
		w.strike(writing, w.choose())
	}
	w.say("no more faults")
	stop()
	writers.Wait()
	w.awaitBroker()
	if err := w.endPrepared(w.t.Context()); err != nil {
		w.t.Error(err)
	}
	w.mark()
	for _, n := range w.nodes {
		n.clients.Bury() // they would be found dead in their time
	}
	deadline := time.AfterFunc(90*time.Second, leave)
	marking, marked := context.WithCancel(w.t.Context())
	var marker sync.WaitGroup
	marker.Go(func() { w.markChannels(marking) })
	readers.Wait()
	marked()
	marker.Wait()
	if !deadline.Stop() {
		w.t.Errorf("not all subscribers have come to the end")
	}
	w.say("all that could have come to the end, %s last", last.Load().Name)
	w.judge(sum)
}

// mark writes the last rows that there are, one for each subscriber to find.
func (w *world) mark() {
	for i, tenant := range append(tenants, "bulk") {
		for _, table := range tables {
			sql := fmt.Sprintf("begin; insert into begun default values; insert into %s (id, tenant_id, n, grp) values (%d, '%s', 0, '%s') on conflict do nothing; commit",
				table, -1-4*i, tenant, Marker)
			if err := w.db.insist(w.t.Context(), sql); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// markChannels does the same for channels, again and again: who begins to listen late is told nothing of before.
func (w *world) markChannels(ctx context.Context) {
	for pass(ctx, 500*time.Millisecond) {
		err := w.db.insist(ctx, "begin; insert into begun default values; select tell(id) from (select id from desks where id < 0 order by id for update) d; commit")
		if err != nil && ctx.Err() == nil {
			w.t.Error(err)
		}
	}
}

// judge asks the checker, and adds to the tally.
func (w *world) judge(sum *tally) {
	truth, err := w.db.truth(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var all []*Subscription
	for _, s := range w.subs {
		all = append(all, &s.Subscription)
		for _, p := range s.problems {
			w.t.Errorf("%s got %s", s.Name, p)
		}
		if !s.done {
			w.t.Errorf("%s has not come to its end: %d notes, cursor %.20s", s.Name, len(s.Notes), s.cursor)
		}
	}
	violations := Check(truth, all)
	for _, v := range violations {
		w.t.Error(v)
	}
	announced, err := w.db.announced(w.t.Context())
	if err != nil {
		w.t.Error(err)
	}
	sum.add(w, truth, violations)
	sum.announced += announced
	if w.t.Failed() {
		for _, n := range w.nodes {
			if text, err := os.ReadFile(n.log.Name()); err == nil {
				w.t.Logf("%s:\n%s", filepath.Base(n.log.Name()), text[max(0, len(text)-3000):])
			}
		}
	}
}

// turn empties the log's slots in their turn.
func (w *world) turn(ctx context.Context) {
	for pass(ctx, time.Second) {
		w.db.exec(ctx, "select notifyql.turn('1 second')") //nolint:errcheck // while the database is down there is nothing to be emptied
	}
}

// lulls are times without a transaction that takes long: as long as one that was silent goes on, the stream can't be made quiet.
func (w *world) lulls(ctx context.Context, rnd *rand.Rand) {
	for going := true; going; going = pass(ctx, time.Duration(3000+rnd.IntN(5000))*time.Millisecond) {
		w.heavy.Lock()
		pass(ctx, time.Duration(2000+rnd.IntN(3000))*time.Millisecond)
		w.heavy.Unlock()
	}
}

// load imports rows of a tenant of its own, many in one transaction, and deletes them the same way.
func (w *world) load(ctx context.Context) {
	var took time.Duration
	for i := 1; pass(ctx, max(3*time.Second, 5*took)); i++ { // it is not to take up all of the machine
		if w.heavy.TryRLock() {
			took = w.imports(ctx, i)
			w.heavy.RUnlock()
		}
	}
}

// imports is one transaction of load, and tells how long it took.
func (w *world) imports(ctx context.Context, i int) time.Duration {
	sql := fmt.Sprintf("insert into items (id, tenant_id, n, grp) select nextval('item_id'), 'bulk', i %% 100, 'g' || i %% 4 from generate_series(1, %d) i", w.bulk)
	if i%2 == 1 {
		sql = "delete from items where tenant_id = 'bulk'"
	}
	began := time.Now()
	if err := w.db.exec(ctx, "begin; insert into begun default values; "+sql+"; commit"); err == nil {
		w.strikes(trouble{name: importing, began: began, end: began, until: time.Now().Add(time.Second)})
	}
	return time.Since(began)
}

const importing = "transaction of very many rows"

// subscribe adds a subscriber, and returns it.
func (w *world) subscribe(table, tenant string, f Filter, batch, calm bool) *subscriber {
	i := len(w.subs)
	s := &subscriber{db: w.db, nodes: w.nodes, rnd: rand.New(rand.NewPCG(w.seed, uint64(200+i))), batch: batch, calm: calm}
	s.Subscription = Subscription{Name: fmt.Sprintf("subscriber %d of %s of %s", i, table, tenant), Table: table, Tenant: tenant, Filter: f}
	w.subs = append(w.subs, s)
	return s
}

// round is one run of its own world.
func round(t *testing.T, p plan, sum *tally) {
	w := newWorld(t, p)
	w.subscribe("items", "a", Filter{}, false, true)
	w.subscribe("items", "a", Filter{}, true, false)
	w.subscribe("items", "b", Filter{}, true, true)
	w.subscribe("items", "c", Filter{}, true, true)
	w.subscribe("items", "b", Filter{Below: 50}, true, true)
	w.subscribe("items", "b", Filter{Below: 50}, false, false)
	w.subscribe("items", "c", Filter{Group: "g2"}, false, false)
	w.subscribe("lines", "a", Filter{Group: "g1"}, false, false)
	w.subscribe("lines", "c", Filter{}, true, false)
	w.subscribe("sums", "b", Filter{}, false, true)
	w.subscribe("sums", "c", Filter{}, true, false)
	w.subscribe("items", "a", Filter{Below: 80}, false, false).sse = true
	w.subscribe("lines", "b", Filter{}, true, true).sse = true
	w.subscribe("news", "a", Filter{}, false, true).Channel = true
	w.subscribe("news", "b", Filter{}, false, false).Channel = true
	s := w.subscribe("news", "c", Filter{}, false, false)
	s.Channel, s.sse = true, true
	if p.bulk > 0 {
		w.subscribe("items", "bulk", Filter{}, false, false)
	}
	w.run(sum)
}

// nemesis makes rounds of at most five minutes until the time is over, each with another seed, and says what came of them.
func nemesis(t *testing.T, p plan) {
	var sum tally
	for began := time.Now(); ; p.seed++ {
		p.lasts = min(*timeFlag/time.Duration(max(1, p.shares))-time.Since(began), 5*time.Minute)
		if p.lasts <= 0 {
			break
		}
		t.Run(fmt.Sprintf("seed %d", p.seed), func(t *testing.T) { round(t, p, &sum) })
	}
	sum.report(t)
}

// A few seconds of all that can be had at once.
func TestNemesis(t *testing.T) {
	t.Parallel()
	nemesis(t, plan{seed: *seedFlag, durable: true, retention: true, faults: slices.Concat(faults, modeFaults), bulk: *bulkFlag, rate: *rateFlag})
}

// The same, where the database loses what it had committed.
func TestNemesisLosesCommits(t *testing.T) {
	t.Parallel()
	nemesis(t, plan{seed: *seedFlag, faults: losses, rate: *rateFlag / 4})
}

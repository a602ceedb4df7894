package nemesis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/notifyql/notifyql/internal/link"
	"github.com/notifyql/notifyql/internal/localpg"
)

// fault is one kind of trouble.
type fault struct {
	name   string
	weight int
	// do makes the trouble and ends it. What it returns is when everything could work again; a zero time: from its beginning.
	do func(w *world, ctx context.Context) (time.Time, error)
}

// trouble is a fault that was made.
type trouble struct {
	name       string
	began, end time.Time
	until      time.Time // it is shown in what was committed up to then
}

// failOvers need a second server, and so some seconds each.
var failOvers = []fault{
	{"standby promoted", 1, promote(false)},
	{"standby that lacks commits promoted", 2, promote(true)},
}

// losses are those by which commits can be lost, and by which it can be missed that they are.
var losses = append(failOvers,
	fault{"Postgres stopped at once", 4, crash(stopAtOnce)},
	fault{"Postgres killed -9", 4, crash((*localpg.Server).Kill)},
	fault{"backend killed -9", 4, (*world).killBackend},
	fault{"kill -9 node", 2, (*world).killNode},
	fault{"database half-open", 1, disturb(false, (*link.Link).Swallow)},
	fault{"clients cut", 1, disturb(true, (*link.Link).Cut)},
	fault{"clock stepped", 2, (*world).stepClock},
	fault{"leader terminated", 1, terminate("notifyql leader")},
	fault{"mode pinned busy", 2, mode("busy")},
	fault{"mode pinned quiet", 1, mode("quiet")},
	fault{"mode auto", 1, mode("auto")},
)

// faults are chosen by weight.
var faults = []fault{
	{"kill -9 node", 4, (*world).killNode},
	{"node ended", 2, (*world).endNode},
	{"listener terminated", 4, terminate("notifyql listener")},
	{"pool terminated", 3, terminate("notifyql")},
	{"database cut", 3, disturb(false, (*link.Link).Cut)},
	{"database frozen", 3, disturb(false, (*link.Link).Freeze)},
	{"database half-open", 3, disturb(false, (*link.Link).Swallow)},
	{"clients cut", 2, disturb(true, (*link.Link).Cut)},
	{"clients frozen", 2, disturb(true, (*link.Link).Freeze)},
	{"clients half-open", 2, disturb(true, (*link.Link).Swallow)},
	{"Postgres stopped at once", 3, crash(stopAtOnce)},
	{"Postgres killed -9", 3, crash((*localpg.Server).Kill)},
	{"Postgres restarted", 3, restart},
	{"backend killed -9", 3, (*world).killBackend},
	{"vacuum", 1, vacuum},
	{"column added or dropped", 2, (*world).ddl},
	{"table emptied", 3, (*world).empty},
	{"clock stepped", 2, (*world).stepClock},
}

// choose picks the next fault: each of them as often as its weight, in random order, and then again.
func (w *world) choose() fault {
	if len(w.coming) == 0 {
		for _, f := range w.faults {
			w.coming = append(w.coming, slices.Repeat([]fault{f}, f.weight)...)
		}
		w.rnd.Shuffle(len(w.coming), func(i, j int) { w.coming[i], w.coming[j] = w.coming[j], w.coming[i] })
	}
	f := w.coming[0]
	w.coming = w.coming[1:]
	return f
}

// strike makes one trouble.
func (w *world) strike(ctx context.Context, f fault) {
	began := time.Now()
	w.say("%s", f.name)
	end, err := f.do(w, ctx)
	if err != nil && ctx.Err() == nil {
		w.t.Errorf("%s: %v", f.name, err)
	}
	if end.IsZero() {
		end = began
	}
	w.strikes(trouble{f.name, began, end, end.Add(time.Second)})
}

func (w *world) strikes(x trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.troubles = append(w.troubles, x)
}

func (w *world) anyNode() *node { return w.nodes[w.rnd.IntN(len(w.nodes))] }

// some is a random time, in milliseconds.
func (w *world) some(least, most int) time.Duration {
	return time.Duration(least+w.rnd.IntN(most-least+1)) * time.Millisecond
}

func (w *world) killNode(ctx context.Context) (time.Time, error) { return w.downNode(ctx, os.Kill) }

func (w *world) endNode(ctx context.Context) (time.Time, error) {
	return w.downNode(ctx, syscall.SIGTERM)
}

func (w *world) downNode(ctx context.Context, sig os.Signal) (time.Time, error) {
	return w.downed(ctx, w.anyNode(), sig)
}

// downed ends a node's process and starts it again.
func (w *world) downed(ctx context.Context, n *node, sig os.Signal) (time.Time, error) {
	down := w.some(0, 1500)
	n.stop(sig)
	pass(ctx, down)
	if err := n.start(w.bin); err != nil {
		return time.Time{}, err
	}
	for !n.ready(ctx) && pass(ctx, 5*time.Millisecond) {
	}
	return time.Now(), nil
}

// terminate ends the sessions of a name, of all nodes.
func terminate(application string) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		return time.Time{}, w.db.insist(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()`, application)
	}
}

// disturb does something to a node's link, and undoes it.
func disturb(clients bool, how func(*link.Link)) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		n, lasts := w.anyNode(), w.some(50, 2500)
		l := n.database
		if clients {
			l = n.clients
		}
		how(l)
		pass(ctx, lasts)
		l.Heal()
		return time.Now(), nil
	}
}

func stopAtOnce(s *localpg.Server, ctx context.Context) error {
	return s.Shutdown(ctx, localpg.Immediate)
}

// crash ends the database without a chance for it to say anything. What was not durable is lost.
func crash(how func(*localpg.Server, context.Context) error) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		down := w.some(0, 1000)
		s := w.db.server()
		ctx = context.WithoutCancel(ctx)
		if err := how(s, ctx); err != nil {
			return time.Time{}, err
		}
		pass(ctx, down)
		w.mayHaveLost()
		err := s.Resume(ctx)
		return time.Now(), err
	}
}

func (w *world) mayHaveLost() {
	if !w.durable {
		w.db.losing(time.Now())
	}
}

// restart loses nothing.
func restart(w *world, ctx context.Context) (time.Time, error) {
	err := w.db.server().Restart(context.WithoutCancel(ctx), localpg.Fast)
	return time.Now(), err
}

// killBackend kills one process of the database's: the postmaster then ends the others and begins anew.
func (w *world) killBackend(ctx context.Context) (time.Time, error) {
	ctx = context.WithoutCancel(ctx)
	names := []string{"notifyql listener", "notifyql", ""}
	name := names[w.rnd.IntN(len(names))]
	conn, err := w.db.connect(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close(ctx) //nolint:errcheck // it is gone
	var pid int
	if err := conn.QueryRow(ctx, `select coalesce((select pid from pg_stat_activity where application_name = $1 and datname = current_database() limit 1), pg_backend_pid())`,
		name).Scan(&pid); err != nil {
		return time.Time{}, err
	}
	err = syscall.Kill(pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) { // it has just ended by itself; the one asked has not
		err = syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL)
	}
	if err != nil {
		return time.Time{}, err
	}
	// Its own connection ends when the postmaster has noticed.
	for conn.Ping(ctx) == nil && pass(ctx, 5*time.Millisecond) {
	}
	w.mayHaveLost()
	err = w.db.insist(ctx, "select")
	return time.Now(), err
}

func vacuum(w *world, ctx context.Context) (time.Time, error) {
	return time.Time{}, w.db.insist(ctx, "vacuum analyze")
}

// ddl changes a table that is subscribed to, in columns that nobody selects.
func (w *world) ddl(ctx context.Context) (time.Time, error) {
	table := tables[w.rnd.IntN(len(tables))]
	sql := fmt.Sprintf("set lock_timeout = '10s'; alter table %s add column if not exists extra text default 'none'", table)
	if w.rnd.IntN(2) == 0 {
		sql = fmt.Sprintf("set lock_timeout = '10s'; alter table %s drop column if exists extra", table)
	}
	return time.Time{}, w.db.insist(ctx, sql)
}

// empty truncates a table and fills it a little, in one transaction. Who is in its way may stay there.
func (w *world) empty(ctx context.Context) (time.Time, error) {
	table, sequence := "items", "item_id"
	if w.rnd.IntN(2) == 0 {
		table, sequence = "lines", "line_id"
	}
	fill := fmt.Sprintf("insert into %s (id, tenant_id, n, grp) select nextval('%s'), (array['a', 'b', 'c'])[1 + i %% 3], i %% 100, 'g' || i %% 4 from generate_series(1, %d) i",
		table, sequence, w.rnd.IntN(300))
	err := w.db.exec(ctx, fmt.Sprintf("set lock_timeout = '4s'; begin; lock table %s; insert into begun default values; %s; truncate %s; %s; commit", table, fill, table, fill))
	if err != nil {
		w.say("not emptied: %v", err)
	}
	return time.Time{}, nil
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/test/npm"
)

var buildJSClient = sync.OnceValues(func() (string, error) { return npmRun(filepath.Join(root(), "clients", "js"), "build") })

// jsClient is the folder of the JavaScript client, built.
func jsClient(t *testing.T) string {
	t.Helper()
	dir := npm.Install(t, filepath.Join(root(), "clients", "js"))
	if out, err := buildJSClient(); err != nil {
		t.Fatalf("npm run build: %v\n%s", err, out)
	}
	return dir
}

// npmRun runs a script of a package and returns what it wrote.
func npmRun(dir, script string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "npm", "run", "--silent", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The client's own tests, which need no server of ours.
func TestTheJavaScriptClientItself(t *testing.T) {
	t.Parallel()
	out, err := npmRun(jsClient(t), "check")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !regexp.MustCompile(`(?m)^# pass [1-9]`).MatchString(out) {
		t.Errorf("no test has passed:\n%s", out)
	}
}

const itemsTable = `
	create table items (id int primary key, tenant_id text not null, status text not null, n int not null);
	select notifyql.watch('items');
	insert into items select i, 'acme', case when i % 3 = 0 then 'out' else 'in' end, 0 from generate_series(1, 300) i;`

// itemsWriter commits transactions on items, some rolled back, until its context ends: rows come and go, change, get
// another primary key, enter and leave the set of a filter on status and another tenant's. Each commit is told to committed, if that does not wait.
func itemsWriter(ctx context.Context, url string, seed uint64, committed chan<- struct{}) error {
	conn, err := pgx.Connect(context.WithoutCancel(ctx), url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r := rand.New(rand.NewPCG(seed, 2))
	for ctx.Err() == nil {
		sql := "begin;"
		for id := 1 + r.IntN(60); id < 400; id += 1 + r.IntN(120) { // ascending, as all keys that are locked: no deadlock
			tenant, status := pick(r, "acme", "acme", "zeta"), pick(r, "in", "in", "out")
			if r.IntN(4) == 0 {
				sql += fmt.Sprintf("delete from items where id = %d;", id)
				continue
			}
			sql += fmt.Sprintf(`insert into items values (%d, '%s', '%s', 0) on conflict (id)
				do update set tenant_id = excluded.tenant_id, status = excluded.status, n = items.n + 1;`, id, tenant, status)
			if r.IntN(4) == 0 { // nobody else can take the key before the transaction has ended
				from := id + 1 + r.IntN(40)
				sql += fmt.Sprintf(`delete from items where id = %d;
					update items set id = %[1]d, status = '%s', n = n + 1 where id = %d;`, id, pick(r, "in", "in", "out"), from)
				id = from
			}
		}
		if _, err := conn.Exec(context.WithoutCancel(ctx), sql+pick(r, "commit", "commit", "commit", "commit", "rollback")); err != nil {
			return err
		}
		select {
		case committed <- struct{}{}:
		default:
		}
	}
	return nil
}

// itemsWriters are two of those.
type itemsWriters struct {
	committed chan struct{}
	ended     chan error
	cancel    context.CancelFunc
}

func startItemsWriters(t *testing.T, url string) *itemsWriters {
	ctx, cancel := context.WithCancel(t.Context())
	w := &itemsWriters{make(chan struct{}), make(chan error, 2), cancel}
	for seed := range uint64(cap(w.ended)) {
		go func() { w.ended <- itemsWriter(ctx, url, seed, w.committed) }()
	}
	return w
}

// await waits for n transactions.
func (w *itemsWriters) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-w.committed:
		case err := <-w.ended:
			t.Fatal(err)
		}
	}
}

func (w *itemsWriters) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	for range cap(w.ended) {
		if err := <-w.ended; err != nil {
			t.Fatal(err)
		}
	}
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// item is a row as a list has it.
type item struct{ ID, N int }

// itemsOf are the rows that a list of acme's items with status in must have.
func itemsOf(t *testing.T, db *pgtest.DB) []item {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), `select id, n from items where tenant_id = 'acme' and status = 'in' order by id`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[item])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// told is a line of told.mjs.
type told struct {
	Type   string
	After  string
	Status string
	Rows   int
	List   []item
	Error  json.RawMessage
}

// follower is a strict list in another process.
type follower struct {
	*process
	anew, resumed int // operations that began with a snapshot, and from a cursor
}

func (f *follower) told(t *testing.T) (s told) {
	t.Helper()
	line := f.line(t)
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("the list wrote %q: %v", line, err)
	}
	if s.Status == "error" {
		t.Fatalf("the list has failed: %s", s.Error)
	}
	switch {
	case s.Type != "begun":
	case s.After == "":
		f.anew++
	default:
		f.resumed++
	}
	return s
}

// live waits until a list has gone on from a cursor this often, and has changed n times since while it was live.
func (f *follower) live(t *testing.T, resumed, n int) {
	t.Helper()
	for n > 0 {
		if s := f.told(t); s.Type == "changed" && s.Status == "live" && f.resumed >= resumed {
			n--
		}
	}
}

// until waits for what a list tells of a type.
func (f *follower) until(t *testing.T, typ string) told {
	t.Helper()
	for {
		if s := f.told(t); s.Type == typ {
			return s
		}
	}
}

// is compares a list with the table, when all is written.
func (f *follower) is(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, `insert into items values (1000, 'acme', 'in', 0) on conflict do nothing`)
	fmt.Fprintln(f.stdin, 1000)
	got, want := f.until(t, "rows").List, itemsOf(t, db)
	slices.SortFunc(got, func(a, b item) int { return a.ID - b.ID })
	if !slices.Equal(got, want) {
		t.Errorf("the list has %d rows, the table %d:\n%v\n%v", len(got), len(want), got, want)
	}
}

// A list over the real server, which is killed and restarted while others write, is the table in the end.
func TestAListOverKilledServersIsTheTable(t *testing.T) {
	t.Parallel()
	dir := jsClient(t)
	db := pgtest.New(t)
	db.Exec(t, itemsTable)
	addr := freeAddr(t)
	srv := serve(t, db.URL, addr)

	const head = `subscription ($after: Cursor) { `
	const args = `(where: {status: {eq: "in"}}, initial: true, orderBy: [{n: ASC}], after: $after)`
	var lists []*follower
	for _, query := range []string{
		head + `itemsChanged` + args + ` { kind key oldKey new { id n } cursor } }`,
		head + `itemsBatch` + args + ` { changes { kind key oldKey new { id n } } synced cursor } }`,
	} {
		settings, err := json.Marshal(map[string]any{
			"url": "ws://" + addr + "/graphql", "params": map[string]any{"tenantId": "acme"}, "query": query,
		})
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, &follower{process: launch(t, dir, nil, "node", "test/follow.mjs", string(settings))})
	}

	writers := startItemsWriters(t, db.URL)
	const stops = 4
	for i := range stops {
		for _, f := range lists {
			f.live(t, i, 40)
		}
		srv.stop([]os.Signal{os.Kill, syscall.SIGTERM}[i%2]) //nolint:errcheck // killed
		writers.await(t, 50)
		srv = serve(t, db.URL, addr)
	}
	for i, f := range lists {
		f.live(t, stops, 40)
		if f.anew > 2 { // at first, and once more when it had connected
			t.Errorf("list %d began anew %d times", i, f.anew)
		}
	}

	srv.stop(os.Kill) //nolint:errcheck // killed
	writers.await(t, 50)
	db.Exec(t, `select notifyql.reset()`) // all cursors expire
	serve(t, db.URL, addr)
	for _, f := range lists {
		for anew := f.anew; f.anew == anew; {
			f.told(t)
		}
		f.live(t, stops+1, 40)
	}
	writers.stop(t)
	for _, f := range lists {
		f.is(t, db)
	}
}

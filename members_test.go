package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

const memberTables = `
	create table docs (id int primary key, project int, tenant_id text not null, v int not null default 0);
	create table members (id int primary key, project int, usr text, tenant_id text not null, v int not null default 0);
	select notifyql.watch('docs'), notifyql.watch('members');
	select notifyql.restrict_to_members('docs', 'project', 'members', 'project', 'usr', bypass => '{admin}')`

// docReader is a subscriber of docs, who resumes where it left off.
type docReader struct {
	t       testing.TB
	user    string
	tenants []string
	batch   bool
	stream  *notifyql.Stream

	rows   docs
	cursor string // the last one, and
	behind docs   // what there was with it
	open   bool   // of a batch, more is to come
	moved  int
	notes  []noted
}

const docFields = `{ kind cause old { id project v } new { id project v } transaction cursor }`

func (r *docReader) subscribe(srv *notifyql.Server, args string) {
	r.t.Helper()
	query := `subscription { docsChanged` + args + docFields + ` }`
	if r.batch {
		query = `subscription { docsBatch` + args + ` { changes ` + docFields + ` complete synced cursor } }`
	}
	stream, err := srv.Subscribe(r.t.Context(), notifyql.Request{Query: query, Identity: notifyql.Identity{UserID: r.user, Tenants: r.tenants}})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.stream = stream
}

// begin begins with the rows that stand, and resume behind the last cursor.
func (r *docReader) begin(srv *notifyql.Server) {
	r.rows, r.open = docs{}, false
	r.subscribe(srv, `(initial: true)`)
}

func (r *docReader) resume(srv *notifyql.Server) {
	r.rows, r.open = maps.Clone(r.behind), false
	r.subscribe(srv, fmt.Sprintf(`(after: %q)`, r.cursor))
}

func (r *docReader) leave() {
	if r.stream != nil {
		r.stream.Close()
		r.stream = nil
	}
}

// next takes the next result.
func (r *docReader) next() (changes []docChange, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	text, err := r.stream.Next(ctx)
	if err != nil {
		return nil, err
	}
	var got struct {
		Errors json.RawMessage
		Data   struct {
			DocsChanged *docChange
			DocsBatch   *struct {
				Changes          []docChange
				Complete, Synced bool
				Cursor           *string
			}
		}
	}
	if err := json.Unmarshal(text, &got); err != nil || got.Errors != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	var at *string
	if b := got.Data.DocsBatch; b != nil {
		if changes, at = b.Changes, b.Cursor; len(changes) == 0 && !b.Synced && (!b.Complete || !r.open) {
			return nil, fmt.Errorf("an empty batch for nothing: %s", text)
		}
		r.open = !b.Complete
	} else {
		changes, at = []docChange{*got.Data.DocsChanged}, got.Data.DocsChanged.Cursor
	}
	for i := range changes {
		if err := r.rows.apply(&changes[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		if c := changes[i].Cause; c != nil && *c == "MOVED" {
			r.moved++
		}
	}
	if at != nil {
		r.cursor, r.behind = *at, maps.Clone(r.rows)
		r.notes = append(r.notes, noted{r.cursor, r.user, r.tenants, r.behind})
	}
	return changes, nil
}

// want reads changes and compares them: "KIND CAUSE id.project.v".
func (r *docReader) want(want ...string) {
	r.t.Helper()
	for _, w := range want {
		changes, err := r.next()
		if err != nil {
			r.t.Fatalf("%v, want %s", err, w)
		}
		for _, c := range changes {
			text := c.Kind
			if c.Cause != nil {
				text += " " + *c.Cause
			}
			for _, d := range []*doc{c.Old, c.New} {
				if d != nil {
					text += fmt.Sprintf(" %d.%d.%d", d.ID, d.Project, d.V)
				}
			}
			if text != w {
				r.t.Fatalf("got %s, want %s", text, w)
			}
		}
	}
}

func TestMembersSeeTheirRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, memberTables)
	db.Exec(t, `insert into docs select g, g % 3, 'a', 0 from generate_series(1, 6) g; insert into members values (1, 1, 'u', 'a'), (2, 2, 'other', 'a'), (3, 2, 'u', 'b')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	first := &docReader{t: t, user: "u", tenants: []string{"a"}}
	first.begin(srv)
	first.want("INITIAL 1.1.0", "INITIAL 4.1.0", "SYNCED")
	live := &docReader{t: t, user: "u", tenants: []string{"a"}, rows: maps.Clone(first.rows)}
	live.subscribe(srv, "")
	r := []*docReader{first, live}
	want := func(want ...string) {
		t.Helper()
		for _, r := range r {
			r.want(want...)
		}
	}
	db.Exec(t, `update docs set v = 1 where id in (1, 2)`)
	want("UPDATE UPDATE 1.1.0 1.1.1")
	// Within one transaction order counts.
	db.Exec(t, `begin; insert into docs values (20, 2, 'a'), (21, 2, 'b'); insert into members values (4, 2, 'u', 'a'); insert into docs values (22, 2, 'a'); update docs set v = 9 where id = 20; commit`)
	want("INSERT MOVED 2.2.1", "INSERT MOVED 20.2.0", "INSERT MOVED 5.2.0", "INSERT INSERT 22.2.0", "UPDATE UPDATE 20.2.0 20.2.9")
	db.Exec(t, `insert into members values (5, 2, 'u', 'a')`) // once more
	db.Exec(t, `delete from members where id = 4`)
	db.Exec(t, `update members set v = 1`)
	db.Exec(t, `update docs set v = 2 where id = 2`)
	want("UPDATE UPDATE 2.2.1 2.2.2")
	db.Exec(t, `update members set project = 0 where id = 5`)
	want("DELETE MOVED 2.2.2", "DELETE MOVED 20.2.9", "DELETE MOVED 22.2.0", "DELETE MOVED 5.2.0", "INSERT MOVED 3.0.0", "INSERT MOVED 6.0.0")
	db.Exec(t, `update docs set v = 3 where project = 2; update docs set project = 1 where id = 5; update docs set project = 2 where id = 6; update members set tenant_id = 'b' where id = 1`)
	want("INSERT UPDATE 5.1.3", "DELETE UPDATE 6.0.0", "DELETE MOVED 1.1.1", "DELETE MOVED 4.1.0", "DELETE MOVED 5.1.3")
	db.Exec(t, `truncate members; insert into docs values (30, 0, 'a'); insert into members values (9, 0, 'u', 'a')`)
	want("DELETE MOVED 3.0.0", "INSERT MOVED 3.0.0", "INSERT MOVED 30.0.0")

	for name, id := range map[string]notifyql.Identity{
		"nobody": {Tenants: []string{"a"}}, "a stranger": {UserID: "x", Tenants: []string{"a"}}, "of another tenant": {UserID: "u", Tenants: []string{"c"}},
	} {
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { docsChanged(initial: true) { kind } }`, Identity: id})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := stream.Next(t.Context()); err != nil || !strings.Contains(string(b), "SYNCED") {
			t.Errorf("%s gets %s, %v", name, b, err)
		}
		stream.Close()
	}
	admin, err := srv.Subscribe(t.Context(), notifyql.Request{
		Query: `subscription { docsChanged(initial: true) { kind } }`, Identity: notifyql.Identity{Tenants: []string{"a"}, Roles: []string{"admin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for range 9 {
		if b, err := admin.Next(t.Context()); err != nil || !strings.Contains(string(b), "INITIAL") {
			t.Errorf("the admin gets %s, %v", b, err)
		}
	}
	for _, r := range r {
		r.leave()
	}
	c := readChronicle(t, db)
	for _, n := range slices.Concat(first.notes, live.notes) {
		if err := n.check(c, watchOf(t, db, "docs")); err != nil {
			t.Error(err)
		}
	}
}

func watchOf(t testing.TB, db *pgtest.DB, table string) (id change.WatchID) {
	t.Helper()
	if err := db.Pool(t).QueryRow(t.Context(), "select id from notifyql.watch where rel = $1::text::regclass", table).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// writeMembers writes to docs and members at random.
func writeMembers(ctx context.Context, db *pgtest.DB, seed uint64, transactions int) error {
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	random := rand.New(rand.NewPCG(seed, 3))
	tenant := func() string { return string("aab"[random.IntN(3)]) }
	user := func() string { return string("uvw"[random.IntN(3)]) }
	for n := range transactions {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + random.IntN(5) {
			id, project, member := random.IntN(40), random.IntN(4), random.IntN(12)
			switch random.IntN(20) {
			default:
				_, err = tx.Exec(ctx, `insert into docs values ($1, $2, $3, $4) on conflict (id) do update set project = excluded.project, v = excluded.v`, id, project, tenant(), n)
			case 2, 3:
				_, err = tx.Exec(ctx, `update docs set v = $2 where id between $1 and $1 + 3`, id, n)
			case 4:
				_, err = tx.Exec(ctx, `update docs set project = $2, tenant_id = $3 where id = $1`, id, project, tenant())
			case 5:
				_, err = tx.Exec(ctx, `delete from docs where id = $1`, id)
			case 6:
				_, err = tx.Exec(ctx, `update docs set id = $2 where id = $1`, id, random.IntN(40))
			case 8:
				_, err = tx.Exec(ctx, `insert into members values ($1, $2, $3, $4) on conflict (id) do update set project = excluded.project, usr = excluded.usr`, member, project, user(), tenant())
			case 9:
				_, err = tx.Exec(ctx, `delete from members where id = $1`, member)
			case 10:
				_, err = tx.Exec(ctx, `update members set project = case when $2 = 3 then null else $2::int end, tenant_id = $3 where id = $1`, member, project, tenant())
			case 11:
				if random.IntN(3) == 0 { // too large to come with its notifications
					_, err = tx.Exec(ctx, `insert into docs select g, g % 4, 'a', $1 from generate_series(100, 299) g on conflict (id) do update set v = excluded.v`, n)
				}
				if err == nil && random.IntN(4) == 0 {
					_, err = tx.Exec(ctx, `delete from docs where id >= 100`)
				}
			}
			if err != nil {
				break
			}
		}
		if err != nil || random.IntN(10) == 0 {
			err = errors.Join(tx.Rollback(ctx), notConflict(err))
		} else {
			err = notConflict(tx.Commit(ctx))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// notConflict is an error that is not of two writers in each other's way.
func notConflict(err error) error {
	if err != nil && (strings.Contains(err.Error(), "23505") || strings.Contains(err.Error(), "40P01")) {
		return nil
	}
	return err
}

// last is the doc that all get in the end, in a project of which all are members.
const last = 10_000

// While docs and members change, subscribers are there from the beginning, begin with the rows that stand, leave and come back here and
// elsewhere. At each place that they are told they have what the log says that they may see there; each change finds what it says
// that it found; in the end they have what SELECT gives.
func TestRowsFollowMembers(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			followMembers(t, seed)
		})
	}
}

func followMembers(t *testing.T, seed uint64) {
	db := pgtest.New(t)
	db.Exec(t, memberTables)
	srvs := []*notifyql.Server{run(t, notifyql.Config{DatabaseURL: db.URL}), run(t, notifyql.Config{DatabaseURL: db.URL, Limits: notifyql.Limits{TailBytes: 64 << 10}})}
	var readers []*docReader
	for i := range 6 {
		r := &docReader{t: t, user: string("uvwu"[i%4]), tenants: [][]string{{"a"}, {"a", "b"}, {"b"}}[i%3], batch: i%2 == 1, rows: docs{}}
		if i < 4 {
			r.subscribe(srvs[i%2], "") // there is nothing yet
		}
		readers = append(readers, r)
	}
	var wg, writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			if err := writeMembers(t.Context(), db, seed*10+uint64(w), 40); err != nil {
				t.Error(err)
			}
		})
	}
	for i, r := range readers {
		wg.Go(func() {
			defer r.leave()
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			if r.stream == nil {
				r.begin(srvs[i%2])
			}
			for left, leaves := 20+random.IntN(60), 5; r.stream != nil; {
				changes, err := r.next()
				if err != nil {
					t.Errorf("seed %d, subscriber %d: %v", seed, i, err)
					return
				}
				if slices.ContainsFunc(changes, func(c docChange) bool { return c.New != nil && c.New.ID == last }) {
					return
				}
				if left--; left > 0 || leaves == 0 {
					continue
				}
				left, leaves = 20+random.IntN(60), leaves-1
				if i%4 == 3 && random.IntN(2) == 0 || r.cursor == "" {
					r.leave()
					r.begin(srvs[random.IntN(2)])
				} else if i > 0 { // the first one stays
					r.leave()
					r.resume(srvs[random.IntN(2)])
				}
			}
		})
	}
	writers.Wait()
	db.Exec(t, `begin; insert into members select 1000 + row_number() over (), 999, u, t from unnest('{u,v,w}'::text[]) u, unnest('{a,b}'::text[]) t;
		insert into docs values (10000, 999, 'a', 0); commit`)
	db.Exec(t, `update docs set tenant_id = 'b' where id = 10000`)
	wg.Wait()
	if t.Failed() {
		return
	}
	c, watch := readChronicle(t, db), watchOf(t, db, "docs")
	moved, notes := 0, 0
	for i, r := range readers {
		moved, notes = moved+r.moved, notes+len(r.notes)
		for k := range r.notes {
			if err := r.notes[k].check(c, watch); err != nil {
				t.Fatalf("seed %d, subscriber %d, note %d: %v", seed, i, k, err)
			}
		}
	}
	t.Logf("%d transactions, %d places, %d rows moved", len(c.txns), notes, moved)
	if moved == 0 || notes < 50 {
		t.Errorf("only %d rows moved, only %d places were told", moved, notes)
	}
}

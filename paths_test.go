package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// notes are everybody's own within a tenant, but for support; its price is for finance. Lines are for the members of their room.
const notes = `
	create table notes (id int primary key, tenant_id text, owner text, price int, body text);
	select notifyql.restrict('notes', 'owner', bypass => '{support}'), notifyql.restrict_column('notes', 'price', '{finance}');
	select notifyql.watch('notes');
	create table members (room int, member text, tenant_id text, primary key (room, member));
	create table lines (id int primary key, tenant_id text, room int, body text);
	select notifyql.watch('members'), notifyql.restrict_to_members('lines', 'room', 'members', 'room', 'member'), notifyql.watch('lines')`

// theNotes are one note of each kind: of ann and bob, of tenants a and b, of no tenant, of nobody.
const theNotes = `insert into notes values (1, 'a', 'ann', 10, $1), (2, 'a', 'bob', 20, $1), (3, 'b', 'ann', 30, $1), (4, 'b', 'bob', 40, $1),
	(5, '', 'ann', 50, $1), (6, 'a', '', 60, $1), (7, 'a', null, 70, $1)`

// viewer is a client, and what it may see.
type viewer struct {
	name, token string
	id          notifyql.Identity
	stand       string // the notes that stand
	changes     string // what it is told of those that are written then
	events      string // that are published
	price       bool   // it knows that there is such a column
}

var viewers = []viewer{
	{"a user", "ann", notifyql.Identity{UserID: "ann", Tenants: []string{"a"}}, "1", "INSERT 1, DELETE 1", "a", false},
	{"another user", "bob", notifyql.Identity{UserID: "bob", Tenants: []string{"a"}, Claims: map[string]any{"user": "ann"}}, "2", "INSERT 2, INSERT 1", "a", false},
	{"a user of another tenant", "ann@b", notifyql.Identity{UserID: "ann", Tenants: []string{"b"}}, "3", "INSERT 3", "b", false},
	{"a user of several tenants", "ann@ab", notifyql.Identity{UserID: "ann", Tenants: []string{"a", "b"}}, "1, 3", "INSERT 1, INSERT 3, DELETE 1", "a, b", false},
	{"a user without tenants", "ann@", notifyql.Identity{UserID: "ann"}, "", "", "", false},
	{"a user of the tenant without a name", "ann@''", notifyql.Identity{UserID: "ann", Tenants: []string{""}}, "", "", "", false},
	{"nobody of the tenant", "@a", notifyql.Identity{Tenants: []string{"a"}, Roles: []string{"", "user"}}, "", "", "a", false},
	{"nobody", "@", notifyql.Identity{}, "", "", "", false},
	{"who bypasses the policy", "support", notifyql.Identity{UserID: "s", Tenants: []string{"a"}, Roles: []string{"x", "support"}}, "1, 2, 6, 7", "INSERT 1, INSERT 2, INSERT 6, INSERT 7, UPDATE 1", "a", false},
	{"who bypasses it, of no tenant", "support@", notifyql.Identity{UserID: "s", Roles: []string{"support"}}, "", "", "", false},
	{"a user of finance", "finance", notifyql.Identity{UserID: "ann", Tenants: []string{"a"}, Roles: []string{"finance"}}, "1", "INSERT 1 of 10, UPDATE 1 of 11, DELETE 1", "a", true},
	{"finance that bypasses", "both", notifyql.Identity{UserID: "s", Tenants: []string{"b"}, Roles: []string{"support", "finance"}}, "3, 4", "INSERT 3 of 30, INSERT 4 of 40, UPDATE 3 of 31, UPDATE 4 of 41", "b", true},
}

// Who sees what, by whichever path it comes.
func TestWhoSeesWhat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode notifyql.Mode
		body string
	}{
		"inline": {notifyql.ModeQuiet, "sesame"},
		"marker": {notifyql.ModeQuiet, strings.Repeat("sesame", 2000)},
		"busy":   {notifyql.ModeBusy, "sesame"},
		"broker": {notifyql.ModeQuiet, "sesame"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, notes)
			d := newDesk(map[string]notifyql.Identity{})
			for _, v := range viewers {
				d.set(v.token, v.id)
			}
			d.set("leaver", viewers[0].id)
			late := viewers[0].id
			late.ExpiresAt = time.Now().Add(-time.Second)
			d.set("late", late)
			var log locked
			var bus notifyql.Bus
			if name == "broker" {
				bus = notifyql.StreamBus(bustest.NewMemory().Join("notifyql", bustest.Options{}))
			}
			srv := run(t, notifyql.Config{
				DatabaseURL: db.URL, Bus: bus, Mode: c.mode, Federation: true, Auth: d.auth, Recheck: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			eventually(t, "the mode", func() bool {
				return srv.Stats().Busy == (c.mode == notifyql.ModeBusy) && srv.Stats().Leader && srv.Stats().Relayed == (name == "broker")
			})
			url := face(t, srv)

			// A cursor grants nothing: all go on from that of one who sees most.
			first := watch(t, srv, notifyql.Identity{Roles: []string{"support"}, Tenants: []string{"a", "b"}}, `notesChanged(initial: true) { kind cursor }`)
			cursor := first.next().Cursor
			first.stream.Close() //nolint:errcheck // it has served

			live, batches, channels, lines := make([]*view, len(viewers)), make([]*view, len(viewers)), make([]*view, len(viewers)), make([]*view, len(viewers))
			for i, v := range viewers {
				live[i] = watch(t, srv, v.id, `notesChanged `+shape(v.price))
				batches[i] = watch(t, srv, v.id, `notesBatch { changes `+shape(v.price)+` }`)
				channels[i] = watch(t, srv, v.id, `channel(name: "c") { data }`)
				lines[i] = watch(t, srv, v.id, `linesChanged { kind new { id } old { id } }`)
			}
			leaver, stream := connect(t, url, `{"authToken":"leaver"}`), events(t, url, "X-Token", "leaver")
			leaver.subscribe("1", `subscription { notesChanged { new { id } } }`)
			leaver.settled()
			db.Exec(t, theNotes, c.body)
			leaver.want(`{"id":"1","type":"next","payload":{"data":{"notesChanged":{"new":{"id":1}}}}}`)
			d.forget("leaver")
			leaver.wantClose(4403, "Forbidden: the right was withdrawn")
			stream.want(`event: next|data: {"errors":[{"message":"Forbidden: the right was withdrawn","extensions":{"code":"FORBIDDEN"}}]}`, `event: complete|data:`, ``)
			for _, token := range []string{"leaver", "late"} {
				refused(t, url, token)
			}
			for _, v := range viewers {
				initial := watch(t, srv, v.id, `notesChanged(initial: true, orderBy: [{id: ASC}]) { kind new { id } }`)
				if got := strings.ReplaceAll(initial.until("SYNCED"), "INITIAL ", ""); got != v.stand {
					t.Errorf("%s begins with %s, want %s", v.name, got, v.stand)
				}
				initial.stream.Close() //nolint:errcheck // it has served
				if got := v.entities(t, url); got != v.stand {
					t.Errorf("%s looks up %s, want %s", v.name, got, v.stand)
				}
			}
			db.Exec(t, "update notes set price = price + 1")
			db.Exec(t, "update notes set owner = 'bob' where id = 1")
			db.Exec(t, "truncate notes") // of which all are told that see any rows
			for _, tenant := range []string{"a", "b", ""} {
				name := tenant
				if tenant == "" {
					name = "all"
				}
				if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Tenant: tenant, Shared: tenant == "", Data: name}); err != nil {
					t.Fatal(err)
				}
			}

			// A member comes, goes, while a line is written, and comes again.
			for _, sql := range []string{
				`insert into lines values (1, 'a', 1, $1), (2, 'b', 1, $1), (3, 'a', 2, $1)`, `insert into members values (1, 'ann', 'a')`, `delete from members`,
				`insert into lines values (4, 'a', 1, $1)`, `delete from lines where id = 1`, `insert into members values (1, 'ann', 'a')`,
			} {
				if strings.Contains(sql, "$1") {
					db.Exec(t, sql, c.body)
				} else {
					db.Exec(t, sql)
				}
			}
			for i, v := range viewers {
				if v.id.UserID != "ann" || !slices.Contains(v.id.Tenants, "a") {
					continue
				}
				want := "INSERT 1, DELETE 1"
				if len(v.id.Tenants) > 1 { // a room is the same in both
					want = "INSERT 1, INSERT 2, DELETE 1, DELETE 2, INSERT 2"
				}
				if got := lines[i].until("INSERT 4"); got != want {
					t.Errorf("%s is told of the room %s, want %s", v.name, got, want)
				}
			}

			for i, v := range viewers {
				if got := lines[i].rest(); got != "" {
					t.Errorf("%s is told of rooms %s", v.name, got)
				}
				if got := channels[i].until("all"); got != v.events {
					t.Errorf("%s gets the events %s, want %s", v.name, got, v.events)
				}
				end, rest := ", TRUNCATE", func(s *view) string { return s.until("TRUNCATE") }
				if v.id.UserID == "" { // not even that
					end, rest = "", (*view).rest
				}
				for path, s := range map[string]*view{"live": live[i], "in batches": batches[i]} {
					if got := rest(s); got != v.changes {
						t.Errorf("%s is told %s: %s, want %s", v.name, path, got, v.changes)
					}
				}
				again := watch(t, srv, v.id, fmt.Sprintf(`notesChanged(after: %q) %s`, cursor, shape(v.price)))
				if got, want := again.until("SYNCED"), strings.TrimPrefix(v.changes+end, ", "); got != want {
					t.Errorf("%s catches up with %s, want %s", v.name, got, want)
				}
				again.stream.Close() //nolint:errcheck // it has served
				v.schema(t, url)
			}
			// Nor is any of it where an operator looks.
			ops := httptest.NewRecorder()
			srv.OpsHandler().ServeHTTP(ops, httptest.NewRequest(http.MethodGet, "/errors", nil))
			srv.AdminHandler().ServeHTTP(ops, httptest.NewRequest(http.MethodGet, "/admin/connections", nil))
			if all := ops.Body.String() + log.String(); strings.Contains(all, "sesame") {
				t.Error("a row is in the log, or among the errors")
			}
		})
	}
}

// refused holds that a client whose right has ended, or was withdrawn, has no way in.
func refused(t *testing.T, url, token string) {
	t.Helper()
	c := dial(t, url)
	c.init(`{"authToken":"` + token + `"}`)
	c.wantClose(4403, "Forbidden")
	v := viewer{token: token}
	if got := v.post(t, url, `{ __schema { types { name } } _entities(representations: [{__typename: \"Notes\", id: 1}]) { ... on Notes { id } } }`); strings.TrimSpace(got) != `{"errors":[{"extensions":{"code":"FORBIDDEN"},"message":"not authorized"}]}` {
		t.Errorf("%s is answered %s", token, got)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"query":"subscription { notesChanged(initial: true) { new { id } } }"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"text/event-stream"}, "X-Token": {token}}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%s is answered %s", token, resp.Status)
	}
}

// shape is what is asked of a change.
func shape(price bool) string {
	if price {
		return `{ kind new { id price } old { id } }`
	}
	return `{ kind new { id } old { id } }`
}

// view is a subscription of notes, or of a channel, in process.
type view struct {
	t       *testing.T
	stream  *notifyql.Stream
	waiting []seen // of a batch
}

// seen is a change, or an event, as a viewer is told of it.
type seen struct {
	Kind     string
	New, Old *struct{ ID, Price int }
	Cursor   string
	Data     string
}

func watch(t *testing.T, srv *notifyql.Server, id notifyql.Identity, field string) *view {
	t.Helper()
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: "subscription { x: " + field + " }", Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() }) //nolint:errcheck // it has served
	return &view{t: t, stream: stream}
}

func (s seen) String() string {
	switch {
	case s.Data != "":
		return s.Data
	case s.New != nil && s.New.Price != 0:
		return fmt.Sprintf("%s %d of %d", s.Kind, s.New.ID, s.New.Price)
	case s.New != nil:
		return fmt.Sprintf("%s %d", s.Kind, s.New.ID)
	case s.Old != nil:
		return fmt.Sprintf("%s %d", s.Kind, s.Old.ID)
	}
	return s.Kind
}

func (v *view) next() seen {
	v.t.Helper()
	s, err := v.try(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

func (v *view) try(ctx context.Context) (seen, error) {
	for len(v.waiting) == 0 {
		text, err := v.stream.Next(ctx)
		if err != nil {
			return seen{}, err
		}
		var got struct {
			Errors json.RawMessage
			Data   struct {
				X struct {
					seen
					Changes []seen
				}
			}
		}
		if err := json.Unmarshal(text, &got); err != nil || got.Errors != nil {
			return seen{}, fmt.Errorf("%s: %w", text, errors.Join(err))
		}
		if v.waiting = got.Data.X.Changes; v.waiting == nil {
			v.waiting = []seen{got.Data.X.seen}
		}
	}
	s := v.waiting[0]
	v.waiting = v.waiting[1:]
	return s, nil
}

// until gives what comes before the end.
func (v *view) until(end string) string {
	v.t.Helper()
	var all []string
	for {
		s := v.next().String()
		if s == end {
			return strings.Join(all, ", ")
		}
		all = append(all, s)
	}
}

// rest gives what is there already. A try whose context is done may not look.
func (v *view) rest() string {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	var all []string
	for range 50 {
		if s, err := v.try(done); err == nil {
			all = append(all, s.String())
		} else if !errors.Is(err, context.Canceled) {
			v.t.Error(err)
		}
	}
	return strings.Join(all, ", ")
}

// entities gives the notes that a gateway gets by their keys.
func (v *viewer) entities(t *testing.T, url string) string {
	t.Helper()
	var keys []string
	for id := range 8 {
		keys = append(keys, fmt.Sprintf(`{__typename: \"Notes\", id: %d}`, id))
	}
	text := v.post(t, url, `{ _entities(representations: [`+strings.Join(keys, ", ")+`]) { ... on Notes { id owner } } }`)
	var got struct {
		Data struct {
			Entities []*struct{ ID int } `json:"_entities"`
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Data.Entities) != len(keys) {
		t.Fatalf("%s: %v", text, err)
	}
	var all []string
	for _, e := range got.Data.Entities {
		if e != nil {
			all = append(all, fmt.Sprint(e.ID))
		}
	}
	return strings.Join(all, ", ")
}

// post asks a query over HTTP.
func (v *viewer) post(t *testing.T, url, query string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"query":"`+query+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Token", v.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// schema holds what introspection and errors tell, over HTTP and a socket, against what the viewer may know.
func (v *viewer) schema(t *testing.T, url string) {
	t.Helper()
	const fields = `{ __type(name: \"Notes\") { fields { name } } }`
	want := `{"data":{"__type":{"fields":[{"name":"id"},{"name":"tenantId"},{"name":"owner"},{"name":"price"},{"name":"body"}]}}}`
	if !v.price {
		want = strings.Replace(want, `{"name":"price"},`, "", 1)
	}
	if got := strings.TrimSpace(v.post(t, url, fields)); got != want {
		t.Errorf("%s over HTTP: %s", v.name, got)
	}
	if got := v.post(t, url, `{ __schema { types { name fields { name } inputFields { name } } } _service { sdl } }`); strings.Contains(got, "price") != v.price {
		t.Errorf("%s: the schema is %s", v.name, got)
	}
	c := connect(t, url, `{"authToken":"`+v.token+`"}`)
	c.send(`{"id":"1","type":"subscribe","payload":{"query":"` + fields + `"}}`)
	c.want(`{"id":"1","type":"next","payload":`+want+`}`, `{"id":"1","type":"complete"}`)
	for _, query := range []string{
		`subscription { notesChanged { new { NAME } } }`, `subscription { notesBatch(where: {NAME: {gt: 1}}) { complete } }`,
		`subscription { notesChanged(initial: true, orderBy: [{NAME: DESC}]) { kind } }`, `{ _entities(representations: []) { ... on Notes { NAME } } }`,
	} {
		ask := func(name string) string {
			c.subscribe("2", strings.ReplaceAll(query, "NAME", name))
			return strings.ReplaceAll(c.read(), name, "NAME")
		}
		if v.price {
			continue // that it may name it, is seen elsewhere
		}
		if got, want := ask("price"), ask("prize"); got != want {
			t.Errorf("%s is told\n%s, of what is not there\n%s", v.name, got, want)
		}
	}
	c.CloseNow() //nolint:errcheck // it has served
}

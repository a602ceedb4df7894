package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// ownerOf is a relation of items to owners, read from the database with one query for all rows that it is asked about.
func ownerOf(pool *pgxpool.Pool, queries *atomic.Int64) notifyql.Field {
	return notifyql.Field{
		SDL:        `extend type Items { owner: Owner } type Owner { name: String! }`,
		Needs:      []string{"version"},
		SameForAll: true,
		ResolveBatch: func(ctx context.Context, rows []*notifyql.FieldEvent) ([]any, error) {
			queries.Add(1)
			ids := make([]int, len(rows))
			for i, r := range rows {
				var row struct{ Version int }
				if err := json.Unmarshal(r.Data, &row); err != nil {
					return nil, err
				}
				ids[i] = row.Version
			}
			found, err := pool.Query(ctx, "select id, name from owners where id = any($1)", ids)
			if err != nil {
				return nil, err
			}
			defer found.Close()
			names := map[int]string{}
			for found.Next() {
				var id int
				var name string
				if err := found.Scan(&id, &name); err != nil {
					return nil, err
				}
				names[id] = name
			}
			out := make([]any, len(rows))
			for i, id := range ids {
				if name, there := names[id]; there {
					out[i] = map[string]string{"name": name}
				}
			}
			return out, found.Err()
		},
	}
}

// A relation costs a query for a transaction, however many subscribers there are and whichever way its rows come to them.
func TestARelationCostsOneQuery(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; create table owners (id int primary key, name text not null); insert into owners select g, 'owner ' || g from generate_series(1, 50) g;
		insert into items select g, 'a', g from generate_series(1, 50) g`)
	var queries atomic.Int64
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Fields: []notifyql.Field{ownerOf(db.Pool(t), &queries)}})
	const subscribers = 20
	var got []*listening
	// subscribe lets subscribers of many users ask for the same.
	subscribe := func(query string) {
		t.Helper()
		got = got[:0]
		for n := range subscribers {
			got = append(got, listen(t, srv, query, notifyql.Identity{UserID: fmt.Sprint(n), Tenants: []string{"a"}}))
		}
	}
	owned := func(id, owner int) string {
		return fmt.Sprintf(`"new":{"id":%d,"owner":{"name":"owner %d"}}`, id, owner)
	}
	// all says that each subscriber gets, as its next result, one with the text that it is given for it.
	all := func(texts ...string) string {
		t.Helper()
		last := ""
		for _, l := range got {
			for _, text := range texts {
				if last = l.next(); !strings.Contains(last, text) {
					t.Fatalf("got  %.500s\nwant %s", last, text)
				}
			}
		}
		return last
	}
	cost := func(at int64, most int64) {
		t.Helper()
		if n := queries.Swap(0); n < at || n > most {
			t.Errorf("it took %d queries, want %d to %d", n, at, most)
		}
	}
	var texts []string
	for id := 1; id <= 50; id++ {
		texts = append(texts, owned(id, 51-id))
	}

	// Live: a transaction in one batch, and change by change.
	subscribe(`subscription { itemsBatch { changes { new { id owner { name } } } cursor } }`)
	db.Exec(t, "update items set version = 51 - id")
	batch := all(strings.Join(texts, "},{"))
	cost(1, 1)
	cursor := batch[strings.LastIndex(batch, `"cursor":"`)+len(`"cursor":"`):]
	cursor = cursor[:strings.IndexByte(cursor, '"')]
	subscribe(`subscription { itemsChanged { new { id owner { name } } } }`)
	db.Exec(t, "update items set version = 51 - id")
	all(texts...)
	cost(1, 50)
	for id := 1; id <= 5; id++ {
		db.Exec(t, "update items set version = 7 where id = $1", id)
		all(owned(id, 7))
	}
	cost(5, 5)
	db.Exec(t, "update items set version = 51 where id = 1")
	all(`"new":{"id":1,"owner":null}`)

	// Behind a cursor, from the log: one page.
	queries.Store(0)
	subscribe(`subscription { itemsBatch(after: "` + cursor + `") { changes { new { id owner { name } } } synced } }`)
	all(strings.Join(append(texts, owned(1, 7), owned(2, 7), owned(3, 7), owned(4, 7), owned(5, 7), `"new":{"id":1,"owner":null}`), "},{"), `"synced":true`)
	cost(1, 3) // a page is read anew for who comes too late to share it

	// Rows that stand.
	db.Exec(t, "update items set version = id")
	subscribe(`subscription { itemsChanged(initial: true, orderBy: [{id: ASC}]) { kind new { id owner { name } } } }`)
	for i := range texts {
		texts[i] = owned(i+1, i+1)
	}
	queries.Store(0)
	all(append(texts, "SYNCED")...)
	cost(0, 6) // the same is so of rows

	// A transaction that is only in the log.
	subscribe(`subscription { itemsChanged { new { id owner { name } } } }`)
	db.Exec(t, "insert into items select g, 'a', g % 50 + 1 from generate_series(1001, 2000) g")
	texts = nil
	for id := 1001; id <= 2000; id++ {
		texts = append(texts, owned(id, id%50+1))
	}
	queries.Store(0)
	all(texts...)
	cost(10, 12) // about a hundred rows at a time
}

// What one subscription's resolver does, fail, panic, hang or give too much, only its own subscribers see.
func TestAResolverHarmsItsOwnSubscribersOnly(t *testing.T) {
	t.Parallel()
	for limit, modes := range map[time.Duration][]string{time.Hour: {"deaf", "fail", "panic", "huge", "skip", "fine"}, 100 * time.Millisecond: {"deaf"}} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			free := make(chan struct{})
			defer close(free)
			srv := run(t, notifyql.Config{
				Bus:    notifyql.MemoryBus(),
				Logger: slog.New(slog.DiscardHandler),
				Limits: notifyql.Limits{ResolverTimeout: limit},
				Fields: []notifyql.Field{{
					SDL: `extend type Subscription { did(mode: String!, n: Int): String }`,
					Resolve: func(_ context.Context, e *notifyql.FieldEvent) (any, error) {
						odd := len(e.Data)%2 == 1
						switch mode := e.Args["mode"]; {
						case mode == "deaf" && odd:
							<-free
						case mode == "fail" && odd:
							return nil, &notifyql.RequestError{Errors: json.RawMessage(`[{"message":"no","extensions":{"code":"MINE"}}]`)}
						case mode == "panic" && odd:
							panic("secret")
						case mode == "huge" && odd:
							return strings.Repeat("x", 10<<20), nil
						case mode == "skip" && odd:
							return nil, notifyql.ErrSkip
						}
						return len(e.Data), nil
					},
				}},
			})
			harmed := map[string]string{
				"fail":  `"message":"no","locations":[{"line":1,"column":16}],"path":["did"],"extensions":{"code":"MINE"}`,
				"panic": `"message":"internal error","locations":[{"line":1,"column":16}],"path":["did"],"extensions":{"code":"RESOLVER_FAILED"}`,
				"huge":  `bytes, more than 1048576","locations":[{"line":1,"column":16}],"path":["did"],"extensions":{"code":"LIMIT_EXCEEDED","limit":"resolverBytes","max":1048576}`,
				"deaf":  `"message":"the resolver `,
			}
			ask := func(mode string, n int) *listening {
				return listen(t, srv, fmt.Sprintf(`subscription { did(mode: %q, n: %d) }`, mode, n), of("a"))
			}
			subscriptions := map[string][]*listening{}
			for _, mode := range modes {
				for n := range 3 {
					subscriptions[mode] = append(subscriptions[mode], ask(mode, n))
				}
			}
			const events = 20
			for n := 1; n <= events; n++ {
				err := srv.Publish(t.Context(), notifyql.Event{Channel: "did", Tenant: "a", Data: json.RawMessage("1" + strings.Repeat("0", n-1))})
				if err != nil {
					t.Fatal(err)
				}
			}
			for mode, ls := range subscriptions {
				if mode == "deaf" && limit == time.Hour {
					continue // the test ends before that
				}
				for _, l := range ls {
					for n := 1; n <= events; n++ {
						want := fmt.Sprintf(`{"data":{"did":"%d"}}`, n)
						if n%2 == 1 && mode == "skip" {
							continue
						}
						got := l.next()
						if why := harmed[mode]; n%2 == 1 && why != "" {
							if !strings.Contains(got, why) || !strings.HasSuffix(got, `"data":{"did":null}}`) || strings.Contains(got, "secret") {
								t.Errorf("%s, event %d: %.300s", mode, n, got)
							}
						} else if got != want && !(mode == "deaf" && strings.Contains(got, harmed[mode])) {
							t.Errorf("%s, event %d: %.300s", mode, n, got)
						}
					}
				}
			}
		})
	}
}

// A subscriber that leaves ends its resolvers' context; the server's end does.
func TestResolversEndWithTheirSubscribers(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}, 2), make(chan error, 2)
	srv, err := notifyql.New(notifyql.Config{
		Bus:    notifyql.MemoryBus(),
		Limits: notifyql.Limits{ResolverTimeout: time.Hour},
		Fields: []notifyql.Field{{
			SDL: `extend type Subscription { did: String }`,
			Resolve: func(ctx context.Context, _ *notifyql.FieldEvent) (any, error) {
				began <- struct{}{}
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := srv.Field("did"); !ok || f.Resolve == nil {
		t.Error("the field is not known")
	}
	if _, ok := srv.Field("done"); ok {
		t.Error("a field is known that there is not")
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	for _, leave := range []func(*notifyql.Stream){
		func(s *notifyql.Stream) { s.Close() }, //nolint:errcheck // it has served
		func(*notifyql.Stream) { stop() },
	} {
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { did }`, Identity: of("a")})
		if err != nil {
			t.Fatal(err)
		}
		next := make(chan error, 1)
		go func() {
			_, err := stream.Next(t.Context())
			next <- err
		}()
		if err := srv.Publish(t.Context(), notifyql.Event{Channel: "did", Shared: true}); err != nil {
			t.Fatal(err)
		}
		<-began
		leave(stream)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-next
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// Relations of rows that are visible through another table: of those that a member gains and loses they are read together, too.
func TestRelationsOfMembersRows(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"docsChanged", "docsBatch"} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, memberTables)
			db.Exec(t, `insert into docs select g, g % 2 + 1, 'a' from generate_series(1, 60) g`)
			var mu sync.Mutex
			var asked []int
			srv := run(t, notifyql.Config{DatabaseURL: db.URL, Fields: []notifyql.Field{{
				SDL:   `extend type Docs { twice: Int! }`,
				Needs: []string{"id"}, SameForAll: true,
				ResolveBatch: func(_ context.Context, rows []*notifyql.FieldEvent) ([]any, error) {
					mu.Lock()
					defer mu.Unlock()
					asked = append(asked, len(rows))
					out := make([]any, len(rows))
					for i, r := range rows {
						var row struct{ ID int }
						if err := json.Unmarshal(r.Data, &row); err != nil {
							return nil, err
						}
						out[i] = 2 * row.ID
					}
					return out, nil
				},
			}}})
			query := `{ kind new { id twice } old { id twice } }`
			if field == "docsBatch" {
				query = `{ changes ` + query + ` complete }`
			}
			id := notifyql.Identity{UserID: "u", Tenants: []string{"a"}}
			u := listen(t, srv, `subscription { `+field+query+` }`, id)
			// all waits until all rows have come, gone or changed in the image that is named.
			all := func(u *listening, image string) {
				t.Helper()
				var text strings.Builder
				for id := 2; id <= 60; id += 2 {
					for want := fmt.Sprintf(`%q:{"id":%d,"twice":%d}`, image, id, 2*id); !strings.Contains(text.String(), want); {
						if got := u.next(); strings.Contains(got, "errors") {
							t.Fatal(got)
						} else {
							text.WriteString(got)
						}
					}
				}
			}
			db.Exec(t, `insert into members values (1, 1, 'u', 'a')`)
			all(u, "new")
			all(listen(t, srv, `subscription { `+field+`(initial: true)`+query+` }`, id), "new")
			db.Exec(t, `update docs set v = v + 1`)
			all(u, "old")
			db.Exec(t, `delete from members`)
			all(u, "old")
			mu.Lock()
			defer mu.Unlock()
			if n := len(asked); n < 3 || n > 3+30 || asked[0] != 30 || asked[n-1] != 30 {
				t.Errorf("asked for %v rows", asked)
			}
		})
	}
}

// A value of 10 MB is sent, where that is allowed.
func TestALargeValue(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{
		Bus:    notifyql.MemoryBus(),
		Limits: notifyql.Limits{ResolverBytes: 11 << 20},
		Fields: []notifyql.Field{{
			SDL:     `extend type Subscription { large: String }`,
			Resolve: func(context.Context, *notifyql.FieldEvent) (any, error) { return strings.Repeat("x", 10<<20), nil },
		}},
	})
	l := listen(t, srv, `subscription { large }`, of("a"))
	if err := srv.Publish(t.Context(), notifyql.Event{Channel: "large", Shared: true}); err != nil {
		t.Fatal(err)
	}
	if got := l.next(); len(got) != 10<<20+len(`{"data":{"large":""}}`) {
		t.Errorf("got %d bytes, %.300s", len(got), got)
	}
}

// The same on one socket: a subscription that waits for its resolver does not hold up the others of its connection.
func TestAResolverHarmsItsOwnSubscriptionOfASocket(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Logger: slog.New(slog.DiscardHandler),
		Limits: notifyql.Limits{ResolverTimeout: time.Hour},
		Fields: []notifyql.Field{{
			SDL: `extend type Subscription { did(mode: String!): String }`,
			Resolve: func(_ context.Context, e *notifyql.FieldEvent) (any, error) {
				switch e.Args["mode"] {
				case "deaf":
					<-free
				case "panic":
					panic("secret")
				}
				return e.Data, nil
			},
		}},
	})
	face := httptest.NewServer(srv.Handler())
	defer face.Close()
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(face.URL, "http"), &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow() //nolint:errcheck // it has served
	defer close(free)
	send := func(text string) {
		t.Helper()
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	// read is the next message's text.
	read := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, text, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	send(`{"type":"connection_init","payload":{"tenantId":"a"}}`)
	if got := read(); !strings.Contains(got, "connection_ack") {
		t.Fatal(got)
	}
	for _, mode := range []string{"deaf", "panic", "fine"} {
		send(fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":{"query":"subscription { did(mode: \"%s\") }"}}`, mode, mode))
	}
	send(`{"type":"ping"}`)
	for got := ""; !strings.Contains(got, "pong"); { // what came before it has begun
		got = read()
	}
	const events = 5
	for n := range events {
		if err := srv.Publish(t.Context(), notifyql.Event{Channel: "did", Tenant: "a", Data: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for range 2 * events {
		var m struct {
			ID      string
			Type    string
			Payload json.RawMessage
		}
		text := read()
		if err := json.Unmarshal([]byte(text), &m); err != nil || m.Type != "next" {
			t.Fatal(text)
		}
		want := fmt.Sprintf(`{"data":{"did":"%d"}}`, seen[m.ID])
		if m.ID == "panic" {
			want = `{"errors":[{"message":"internal error","locations":[{"line":1,"column":16}],"path":["did"],"extensions":{"code":"RESOLVER_FAILED"}}],"data":{"did":null}}`
		}
		if seen[m.ID]++; string(m.Payload) != want {
			t.Errorf("got  %s\nwant %s", m.Payload, want)
		}
	}
	if seen["panic"] != events || seen["fine"] != events {
		t.Errorf("%v", seen)
	}
}

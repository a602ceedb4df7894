package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// diary is what hooks were called with, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
	ids   []string // of connections, as they came
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// name gives a connection's ID a short name, in the order of appearance.
func (d *diary) name(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, have := range d.ids {
		if have == id {
			return fmt.Sprintf("#%d", i+1)
		}
	}
	if len(id) < 20 {
		return "too short: " + id
	}
	d.ids = append(d.ids, id)
	return fmt.Sprintf("#%d", len(d.ids))
}

func (d *diary) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "; ")
}

const notAllowed = `[{"extensions":{"code":"FORBIDDEN"},"message":"the subscription is not allowed"}]`

// Each hook knows which connection, which subscription and who; what it refuses does not begin, and is told no reasons.
func TestHooks(t *testing.T) {
	t.Parallel()
	var d diary
	var log locked
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnConnect: func(_ context.Context, c *notifyql.Connection) error {
			d.write("%s connects: %s of %v", d.name(c.ID), c.Identity.UserID, c.Identity.Tenants)
			if c.Identity.UserID == "banned" {
				return errors.New("an inside matter")
			}
			return nil
		},
		OnSubscribe: func(_ context.Context, s *notifyql.Subscription) (map[string]any, error) {
			d.write("%s subscribes %q to %s%q %v: %s", d.name(s.ConnectionID), s.ID, s.Table, s.Field, s.Args, s.Identity.UserID)
			switch s.Args["name"] {
			case "secret":
				return nil, errors.New("an inside matter")
			case "paid":
				return nil, &notifyql.RequestError{Errors: json.RawMessage(`[{"message":"for members"}]`)}
			case "narrow":
				return map[string]any{"tenant": 1}, nil
			case "broken":
				panic("an inside matter")
			}
			return nil, nil
		},
		OnDisconnect: func(c *notifyql.Connection) { d.write("%s is gone: %s", d.name(c.ID), c.Identity.UserID) },
	})
	url := face(t, srv)
	banned := dial(t, url)
	banned.init(`{"userId":"banned"}`)
	banned.wantClose(4403, "Forbidden")

	c := connect(t, url, `{"userId":"u","tenantId":"acme"}`)
	c.subscribed("1", "c")
	for channel, errs := range map[string]string{
		"secret": notAllowed, "narrow": notAllowed, "broken": notAllowed, "paid": `[{"message":"for members"}]`,
	} {
		before := len(d.text())
		c.subscribe("x", `subscription { channel(name: "`+channel+`") { data } }`)
		c.want(`{"id":"x","type":"error","payload":` + errs + `}`)
		if now := d.text()[before:]; now != `; #2 subscribes "x" to "channel" map[name:`+channel+`]: u` {
			t.Errorf("%s: %s", channel, now)
		}
	}
	publish(t, srv, "acme", 1)
	c.wantData("1", "1") // the connection lives on
	c.CloseNow()         //nolint:errcheck // it has served
	eventually(t, "the connection to be gone", func() bool { return strings.HasSuffix(d.text(), "; #2 is gone: u") })

	all := d.text()
	if want := `#1 connects: banned of []; #2 connects: u of [acme]; #2 subscribes "1" to "channel" map[name:c]: u; `; !strings.HasPrefix(all, want) || strings.Count(all, "is gone") != 1 {
		t.Errorf("got %s", all)
	}
	if !strings.Contains(log.String(), "an inside matter") {
		t.Errorf("the log has no reasons: %s", log.String())
	}
}

// What OnSubscribe adds to a subscription's where is there for rows that stand, come, change and go, and for the rows that
// a gateway looks up; the client sees nothing of it, nor of the rows beyond it.
func TestOnSubscribeNarrows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; insert into items values (1, 'a', 1, 'public'), (2, 'a', 1, 'secret'), (3, 'b', 1, 'public')`)
	srv := run(t, notifyql.Config{
		DatabaseURL: db.URL, Federation: true, Auth: asTenantA,
		OnSubscribe: func(_ context.Context, s *notifyql.Subscription) (map[string]any, error) {
			switch {
			case s.Table != "public.items" || s.Field != "itemsChanged" && s.Field != "_entities":
				return nil, fmt.Errorf("asked about %s, %s", s.Table, s.Field)
			case s.ID == "all":
				return nil, nil
			case s.ID == "wrong":
				return map[string]any{"nothing": map[string]any{"eq": "hunter2"}}, nil
			}
			return map[string]any{"note": map[string]any{"eq": "public"}}, nil
		},
	})
	url := face(t, srv)
	c := connect(t, url, "")
	const query = `subscription { itemsChanged(initial: true, where: {version: {lt: 9}}) { kind new { id note } old { id note } } }`
	change := func(id, kind, was, is string) {
		t.Helper()
		c.want(`{"id":"` + id + `","type":"next","payload":{"data":{"itemsChanged":{"kind":"` + kind + `","new":` + is + `,"old":` + was + `}}}}`)
	}
	row := func(id int, note string) string { return fmt.Sprintf(`{"id":%d,"note":"%s"}`, id, note) }
	c.subscribe("wrong", query)
	c.want(`{"id":"wrong","type":"error","payload":` + notAllowed + `}`)
	c.subscribe("all", query)
	change("all", "INITIAL", "null", row(1, "public"))
	change("all", "INITIAL", "null", row(2, "secret"))
	change("all", "SYNCED", "null", "null")
	c.send(`{"id":"all","type":"complete"}`)
	c.subscribe("1", query)
	change("1", "INITIAL", "null", row(1, "public"))
	change("1", "SYNCED", "null", "null")

	db.Exec(t, `insert into items values (4, 'a', 1, 'secret'), (5, 'a', 1, 'public'), (6, 'a', 9, 'public')`)
	change("1", "INSERT", "null", row(5, "public"))
	db.Exec(t, `update items set note = 'secret' where id = 5`) // it leaves, and what it is now is not shown
	change("1", "DELETE", row(5, "public"), "null")
	db.Exec(t, `update items set note = 'public' where id = 4`) // it comes, and what it was is not shown
	change("1", "INSERT", "null", row(4, "public"))
	db.Exec(t, `update items set version = 2 where id in (2, 4)`)
	change("1", "UPDATE", row(4, "public"), row(4, "public"))

	ask := `{"query":"query($r: [_Any!]!) { _entities(representations: $r) { ... on Items { id note } } }",
		"variables":{"r":[{"__typename":"Items","id":1},{"__typename":"Items","id":2},{"__typename":"Items","id":3}]}}`
	if status, body := post(t, url, ask); status != 200 || body != `{"data":{"_entities":[{"id":1,"note":"public"},null,null]}}` {
		t.Errorf("entities: %d %s", status, body)
	}
}

// Of one table, subscriptions that are narrowed differently share nothing.
func TestSubscribersOfOneDocumentAreNarrowedApart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{
		DatabaseURL: db.URL, Auth: asTenantA,
		OnSubscribe: func(_ context.Context, s *notifyql.Subscription) (map[string]any, error) {
			return map[string]any{"note": map[string]any{"in": []string{s.ID}}}, nil
		},
	})
	c := connect(t, face(t, srv), "")
	for _, id := range []string{"x", "y"} {
		c.subscribe(id, `subscription { itemsChanged { new { note } } }`)
	}
	c.settled()
	db.Exec(t, `insert into items values (1, 'a', 1, 'x')`)
	c.want(`{"id":"x","type":"next","payload":{"data":{"itemsChanged":{"new":{"note":"x"}}}}}`)
	db.Exec(t, `insert into items values (2, 'a', 1, 'y')`)
	c.want(`{"id":"y","type":"next","payload":{"data":{"itemsChanged":{"new":{"note":"y"}}}}}`)
}

// Hooks are called for event streams as for sockets, and for a subscription in process, which has no connection.
func TestHooksElsewhere(t *testing.T) {
	t.Parallel()
	var d diary
	gone := make(chan string, 1)
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(),
		OnConnect: func(_ context.Context, c *notifyql.Connection) error {
			d.write("%s connects", d.name(c.ID))
			return nil
		},
		OnSubscribe: func(_ context.Context, s *notifyql.Subscription) (map[string]any, error) {
			if s.ConnectionID == "" {
				return nil, errors.New("not in process")
			}
			d.write("%s subscribes %q", d.name(s.ConnectionID), s.ID)
			return nil, nil
		},
		OnDisconnect: func(c *notifyql.Connection) { gone <- d.name(c.ID) },
	})
	stream := events(t, face(t, srv))
	if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Shared: true, Data: 1}); err != nil {
		t.Fatal(err)
	}
	stream.want(`event: next|data: {"data":{"channel":{"data":1}}}`)
	stream.close() //nolint:errcheck // it has served
	if id := <-gone; id != "#1" || d.text() != `#1 connects; #1 subscribes ""` {
		t.Errorf("%s, %s", id, d.text())
	}
	var refused *notifyql.RequestError
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := srv.Subscribe(ctx, notifyql.Request{Query: anything}); !errors.As(err, &refused) || !strings.Contains(string(refused.Errors), "FORBIDDEN") {
		t.Errorf("in process: %v", err)
	}
}

// An OnSubscribe whose refusal has nothing to tell, as one that is a nil pointer, refuses all the same.
func TestRefusalsThatTellNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table items (id int primary key, tenant_id text); select notifyql.watch('items')`)
	var refusal error
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, OnSubscribe: func(context.Context, *notifyql.Subscription) (map[string]any, error) { return nil, refusal }})
	for _, refusal = range []error{
		(*notifyql.RequestError)(nil), &notifyql.RequestError{}, &notifyql.RequestError{Errors: json.RawMessage(`[]`)},
		&notifyql.RequestError{Errors: json.RawMessage(`[{"message":`)}, &notifyql.RequestError{Errors: json.RawMessage(`{"message":"no"}`)},
		fmt.Errorf("wrapped: %w", &notifyql.RequestError{}),
	} {
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { itemsChanged { kind } }`, Identity: notifyql.Identity{Tenants: []string{"a"}}})
		if err == nil {
			stream.Close() //nolint:errcheck // it should not be there
		}
		if err == nil || !strings.Contains(err.Error(), "the subscription is not allowed") {
			t.Errorf("%#v: %v", refusal, err)
		}
	}
}

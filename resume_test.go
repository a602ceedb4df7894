package notifyql_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// item is what a subscription to items says of one of them.
type item struct {
	Kind   string
	New    *struct{ ID, Version int }
	Cursor *string
}

// follower is a client that resumes with the last cursor that it was given.
type follower struct {
	t      *testing.T
	stream *notifyql.Stream
	cursor string
}

// follow subscribes to items with these arguments, and at the follower's cursor if it has one.
func (f *follower) follow(srv *notifyql.Server, args string) {
	f.t.Helper()
	f.leave()
	if f.cursor != "" {
		args = fmt.Sprintf(`after: %q`, f.cursor)
	}
	if args != "" {
		args = "(" + args + ")"
	}
	stream, err := srv.Subscribe(f.t.Context(), notifyql.Request{
		Query:    `subscription { itemsChanged` + args + ` { kind new { id version } cursor } }`,
		Identity: notifyql.Identity{Tenants: []string{"a"}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.stream = stream
}

func (f *follower) leave() {
	if f.stream != nil {
		f.stream.Close()
		f.stream = nil
	}
}

// next is the next event.
func (f *follower) next() (item, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	text, err := f.stream.Next(ctx)
	if err != nil {
		return item{}, err
	}
	var got struct {
		Data struct{ ItemsChanged item }
	}
	if err := json.Unmarshal(text, &got); err != nil || got.Data.ItemsChanged.Kind == "" {
		f.t.Fatalf("%s: %v", text, err)
	}
	if c := got.Data.ItemsChanged.Cursor; c != nil {
		f.cursor = *c
	}
	return got.Data.ItemsChanged, nil
}

// want reads events and compares them: "KIND id.version", or SYNCED.
func (f *follower) want(want ...string) {
	f.t.Helper()
	for i, w := range want {
		got, err := f.next()
		if err != nil {
			f.t.Fatalf("event %d: %v, want %s", i, err, w)
		}
		text := got.Kind
		if got.New != nil {
			text += fmt.Sprintf(" %d.%d", got.New.ID, got.New.Version)
		}
		if text != w {
			f.t.Fatalf("event %d is %s, want %s", i, text, w)
		}
	}
}

const items = `
	create table items (id int primary key, tenant_id text not null, version int not null default 0, note text);
	select notifyql.watch('items')`

// A subscriber that leaves and comes back, here or at another node, goes on where it was.
func TestResume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	one, two := run(t, notifyql.Config{DatabaseURL: db.URL}), run(t, notifyql.Config{DatabaseURL: db.URL})
	f := &follower{t: t}
	f.follow(one, "")
	db.Exec(t, "insert into items values (1, 'a')")
	f.want("INSERT 1.0")
	f.leave()
	db.Exec(t, "update items set version = 1; insert into items values (2, 'a'), (3, 'b')")
	db.Exec(t, "select notifyql.tick()")
	db.Exec(t, "update items set version = 2 where id = 2")
	f.follow(two, "")
	f.want("UPDATE 1.1", "INSERT 2.0", "UPDATE 2.2", "SYNCED")
	db.Exec(t, "update items set version = 3 where id = 1")
	f.want("UPDATE 1.3")
	f.follow(one, "")
	f.want("SYNCED")
	db.Exec(t, "begin; insert into items values (4, 'a'); insert into items values (5, 'a'); insert into items values (6, 'a'); commit")
	f.want("INSERT 4.0", "INSERT 5.0")
	for _, srv := range []*notifyql.Server{one, two} { // in the middle of a transaction
		g := &follower{t: t, cursor: f.cursor}
		g.follow(srv, "")
		g.want("INSERT 6.0", "SYNCED")
		g.leave()
	}
}

// What can't be resumed from is refused with a reason that a program can read.
func TestResumeRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	f := &follower{t: t}
	f.follow(srv, "")
	db.Exec(t, "insert into items values (1, 'a')")
	f.want("INSERT 1.0")
	var refused *notifyql.RequestError
	code := func(err error, want string) {
		t.Helper()
		if !errors.As(err, &refused) || !strings.Contains(string(refused.Errors), `"code":"`+want+`"`) {
			t.Errorf("it ended with %v, want %s", err, want)
		}
	}
	_, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { itemsChanged(after: "` + f.cursor[1:] + `") { kind } }`, Identity: notifyql.Identity{Tenants: []string{"a"}}})
	code(err, "CURSOR_INVALID")
	db.Exec(t, "select notifyql.reset()")
	f.follow(srv, "")
	_, err = f.next()
	code(err, "CURSOR_EXPIRED")
}

// A browser's EventSource that connects again goes on behind the last event that it got.
func TestLastEventID(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Auth: notifyql.Trust()})
	face := httptest.NewServer(srv.Handler())
	t.Cleanup(face.Close)
	query := url.Values{
		"query":      {"subscription { itemsChanged { kind new { id } at: cursor } }"},
		"extensions": {`{"connectionParams":{"tenantId":"a"}}`},
	}
	// connect gives the events, each as its lines with a bar between.
	connect := func(last string) (next func() string, leave func()) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, face.URL+"/?"+query.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(answer.Body)
		for lines.Scan() && lines.Text() != ":" { // the subscription is there
		}
		return func() string {
			var event []string
			for lines.Scan() {
				switch line := lines.Text(); {
				case line == "" && len(event) > 0:
					return strings.Join(event, "|")
				case line != "" && line != ":":
					event = append(event, line)
				}
			}
			return "the end"
		}, func() { answer.Body.Close() }
	}
	event := func(text, kind string) (id string) {
		t.Helper()
		id, rest, _ := strings.Cut(strings.TrimPrefix(text, "id: "), "|")
		if !strings.HasPrefix(text, "id: ") || !strings.HasPrefix(rest, `event: next|data: {"data":{"itemsChanged":{"kind":"`+kind+`"`) || !strings.Contains(rest, `"at":"`+id+`"`) {
			t.Fatalf("%s, want %s", text, kind)
		}
		return id
	}
	next, leave := connect("")
	db.Exec(t, "insert into items values (1, 'a'); insert into items values (2, 'a')")
	id := event(next(), "INSERT")
	leave()
	db.Exec(t, "update items set version = 9 where id = 1")
	next, leave = connect(id)
	event(next(), "INSERT")
	event(next(), "UPDATE")
	event(next(), "SYNCED")
	leave()
	next, leave = connect("nonsense")
	defer leave()
	if text := next(); !strings.Contains(text, "CURSOR_INVALID") {
		t.Errorf("%s", text)
	}
}

package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What a gateway looks up is let through by the member table as well.
func TestEntitiesOfMembers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, memberTables)
	db.Exec(t, `insert into docs values (1, 1, 'a'), (2, 2, 'a'), (3, 3, 'a'); insert into members values (1, 1, 'u', 'a'), (2, 2, 'x', 'a'), (3, 3, 'u', 'b')`)
	id := notifyql.Identity{UserID: "u", Tenants: []string{"a"}}
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Federation: true, Auth: func(context.Context, json.RawMessage, *http.Request) (notifyql.Identity, error) { return id, nil }})
	face := httptest.NewServer(srv.Handler())
	t.Cleanup(face.Close)
	for _, c := range []struct{ user, role, want string }{{"u", "", "1"}, {"x", "", "2"}, {"", "", ""}, {"", "admin", "123"}} {
		id.UserID, id.Roles = c.user, []string{c.role}
		ask := `{"query":"query($r: [_Any!]!) { _entities(representations: $r) { ... on Docs { id } } }",
			"variables":{"r":[{"__typename":"Docs","id":1},{"__typename":"Docs","id":2},{"__typename":"Docs","id":3}]}}`
		r, err := http.Post(face.URL, "application/json", strings.NewReader(ask))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		got := ""
		for i := range 3 {
			if strings.Contains(string(text), fmt.Sprintf(`{"id":%d}`, i+1)) {
				got += fmt.Sprint(i + 1)
			}
		}
		if err != nil || got != c.want || strings.Contains(string(text), "errors") {
			t.Errorf("user %q with role %q: %s, %v", c.user, c.role, text, err)
		}
	}
}

// What alters the meaning of a policy of members ends the subscriptions that it is for, and no row is sent on.
func TestAPolicyOfMembersThatChanges(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, memberTables)
	db.Exec(t, `insert into docs values (1, 1, 'a'); insert into members values (1, 1, 'u', 'a')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	u := notifyql.Identity{UserID: "u", Tenants: []string{"a"}}
	for i, c := range []struct{ sql, begins string }{
		{`alter table members rename project to team`, "INITIAL"},
		{`select notifyql.restrict_to_members('docs', 'project', 'members', 'team', 'usr', bypass => '{admin}', claim => 'sub')`, "SYNCED"},
		{`select notifyql.restrict_to_members('docs', 'project', 'members', 'team', 'usr')`, "INITIAL"},
		{`select notifyql.unwatch('members')`, "SYNCED"},
		{`select notifyql.watch('members')`, "INITIAL"},
		{`alter table members alter usr type varchar`, "INITIAL"},
		{`alter table members drop team`, "SYNCED"},
		{`select notifyql.unrestrict_from_members('docs')`, "INITIAL"},
	} {
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { docsChanged(initial: true) { kind } }`, Identity: u})
		if err != nil {
			t.Fatal(err)
		}
		awaited := "SYNCED"
		for b := []byte(nil); err == nil && !strings.Contains(string(b), awaited); {
			if b, err = stream.Next(t.Context()); strings.Contains(string(b), "INITIAL") { // it sees the row, and so that it is live
				awaited = "UPDATE"
				db.Exec(t, `update docs set v = v + 1`)
			}
		}
		db.Exec(t, c.sql)
		for err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err = stream.Next(ctx)
			cancel()
		}
		stream.Close()
		var ended *notifyql.RequestError
		if !errors.As(err, &ended) || code(ended.Errors) != "SCHEMA_CHANGED" {
			t.Fatalf("%d: after %s: %v", i, c.sql, err)
		}
		again, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { docsChanged(initial: true) { kind } }`, Identity: u})
		if err != nil {
			t.Fatal(err)
		}
		b, err := again.Next(t.Context())
		again.Close()
		if err != nil || !strings.Contains(string(b), c.begins) {
			t.Errorf("%d: after %s it begins with %s, %v", i, c.sql, b, err)
		}
	}
}

// Where the log can't say how rows stood, the subscription ends, with the reason.
func TestWhatMembersGainCannotBeTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, memberTables)
	db.Exec(t, `insert into docs values (1, 1, 'a')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	r := &docReader{t: t, user: "u", tenants: []string{"a"}}
	r.begin(srv)
	r.want("SYNCED")
	db.Exec(t, `begin; insert into members values (1, 1, 'u', 'a'); truncate docs; commit`)
	_, err := r.next()
	var ended *notifyql.RequestError
	if !errors.As(err, &ended) || code(ended.Errors) != "CURSOR_EXPIRED" || !strings.Contains(err.Error(), "the table was truncated since") {
		t.Errorf("got %v", err)
	}
	r.leave()
	r.begin(srv)
	r.want("SYNCED")
	db.Exec(t, `insert into docs values (2, 1, 'a')`)
	r.want("INSERT INSERT 2.1.0")
	r.leave()
}

// The member table can be the one whose rows they are: who is in a project sees who else is.
func TestMembersSeeEachOther(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table members (id int primary key, project int, usr text, tenant_id text);
		select notifyql.watch('members'), notifyql.restrict_to_members('members', 'project', 'members', 'project', 'usr');
		insert into members values (1, 1, 'x', 'a'), (2, 2, 'y', 'a')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{
		Query:    `subscription { membersChanged { kind old { id project } new { id project } cursor } }`,
		Identity: notifyql.Identity{UserID: "u", Tenants: []string{"a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	want := func(want ...string) {
		t.Helper()
		for i, w := range want {
			b, err := stream.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := string(b); !strings.Contains(got, w) || strings.Contains(got, `"cursor":null`) != (i < len(want)-1) {
				t.Fatalf("got %s, want %s", got, w)
			}
		}
	}
	db.Exec(t, `insert into members values (3, 1, 'u', 'a')`)
	want(`"INSERT","old":null,"new":{"id":1,"project":1}`, `"INSERT","old":null,"new":{"id":3,"project":1}`)
	db.Exec(t, `insert into members values (4, 1, 'z', 'a')`)
	want(`"INSERT","old":null,"new":{"id":4,"project":1}`)
	db.Exec(t, `update members set project = 2 where id = 3`)
	want(`"DELETE","old":{"id":3,"project":1},"new":null`, `"DELETE","old":{"id":1,"project":1},"new":null`, `"DELETE","old":{"id":4,"project":1},"new":null`,
		`"INSERT","old":null,"new":{"id":2,"project":2}`, `"INSERT","old":null,"new":{"id":3,"project":2}`)
	db.Exec(t, `delete from members where id = 3`)
	want(`"DELETE","old":{"id":3,"project":2},"new":null`, `"DELETE","old":{"id":2,"project":2},"new":null`)
}

package notifyql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A policy that is declared, changed or dropped, and a change of its column, ends the subscriptions of its table, of all identities, and
// of no other.
func TestPoliciesEndWhatRunsUnderOthers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, notes+`; create table others (id int primary key, tenant_id text); select notifyql.watch('others')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	ann, support := notifyql.Identity{UserID: "ann", Tenants: []string{"a"}}, notifyql.Identity{Roles: []string{"support"}, Tenants: []string{"a"}}
	other := watch(t, srv, ann, `othersChanged { kind new { id } old { id } }`)
	for i, sql := range []string{
		`select notifyql.restrict('notes', 'owner')`, `select notifyql.restrict_column('notes', 'body', '{}')`, `select notifyql.unrestrict('notes', 'owner')`,
		`select notifyql.unrestrict_column('notes', 'price')`, `select notifyql.restrict('notes', 'owner', 'name', '{support}')`,
		`alter table notes rename owner to holder`, `alter table notes alter holder type varchar`, `alter table notes drop holder`,
	} {
		streams := []*view{watch(t, srv, ann, `notesChanged { kind }`), watch(t, srv, support, `notesBatch { changes { kind } }`)}
		db.Exec(t, sql)
		for _, s := range streams {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := s.try(ctx)
			cancel()
			var ended *notifyql.RequestError
			if !errors.As(err, &ended) || code(ended.Errors) != "SCHEMA_CHANGED" || !strings.Contains(err.Error(), "table public.notes has other policies") {
				t.Fatalf("%d: after %s: %v", i, sql, err)
			}
		}
	}
	// Nobody sees rows now, but who bypasses the policy.
	mine, all := watch(t, srv, ann, `notesChanged { kind }`), watch(t, srv, support, `notesChanged { kind new { id } }`)
	db.Exec(t, `insert into notes values (1, 'a'); insert into others values (1, 'a')`)
	if got := all.next().String() + "; " + other.next().String(); got != "INSERT 1; INSERT 1" {
		t.Error(got)
	}
	if got := mine.rest(); got != "" {
		t.Error(got)
	}
}

// A claim by which rows are given out is part of the right: when it is another one, what was begun under it ends. Other claims are not.
func TestAClaimOfAPolicyIsPartOfTheRight(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table notes (id int, tenant_id text, dept int); select notifyql.restrict('notes', 'dept', 'departments'), notifyql.watch('notes')`)
	in := func(claims map[string]any) notifyql.Identity {
		return notifyql.Identity{UserID: "u", Tenants: []string{"acme"}, Claims: claims}
	}
	d := newDesk(map[string]notifyql.Identity{
		"one": in(map[string]any{"departments": []any{"1", "2"}}), "same": in(map[string]any{"departments": []string{"2", "1"}, "other": true}),
		"less": in(map[string]any{"departments": "1"}), "none": in(nil),
	})
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Auth: d.auth, Recheck: 20 * time.Millisecond})
	url := face(t, srv)
	for _, other := range []string{"less", "none"} {
		c := connect(t, url, `{"authToken":"one"}`)
		c.subscribe("1", `subscription { notesChanged { new { dept } } }`)
		c.send(`{"type":"ping","payload":{"authToken":"same"}}`)
		c.want(`{"type":"pong"}`)
		db.Exec(t, `insert into notes values (1, 'acme', 3), (2, 'acme', 2)`)
		c.want(`{"id":"1","type":"next","payload":{"data":{"notesChanged":{"new":{"dept":2}}}}}`)
		c.send(`{"type":"ping","payload":{"authToken":"` + other + `"}}`)
		c.wantClose(4403, "Forbidden: the identity has changed")
	}
	c := connect(t, url, `{"authToken":"one"}`)
	d.set("one", in(map[string]any{"departments": "1"}))
	c.wantClose(4403, "Forbidden: the identity has changed")
}

// Where columns exchange names, the table is unwatched and watched in the same transaction: nothing of before is judged by the wrong column.
func TestColumnsThatExchangeNames(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table notes (id int primary key, tenant_id text, owner text, reader text); select notifyql.restrict('notes', 'owner'), notifyql.watch('notes')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	ann, bob := notifyql.Identity{UserID: "ann", Tenants: []string{"a"}}, notifyql.Identity{UserID: "bob", Tenants: []string{"a"}}
	first := watch(t, srv, bob, `notesChanged(initial: true) { kind cursor }`)
	after := fmt.Sprintf(`notesChanged(after: %q) { kind new { id } }`, first.next().Cursor)
	db.Exec(t, `insert into notes values (1, 'a', 'ann', 'bob')`)
	if got := watch(t, srv, ann, after).until("SYNCED") + watch(t, srv, bob, after).until("SYNCED"); got != "INSERT 1" {
		t.Errorf("before: %s", got)
	}
	db.Exec(t, `begin; select notifyql.unwatch('notes'); alter table notes rename owner to x; alter table notes rename reader to owner; alter table notes rename x to reader;
		select notifyql.watch('notes'); commit`)
	if s, err := first.try(t.Context()); err == nil || !strings.Contains(err.Error(), "watched no more") {
		t.Fatal(s, err)
	}
	db.Exec(t, `insert into notes values (2, 'a', 'ann', 'bob')`) // the columns are still in their order
	if got := watch(t, srv, bob, after).until("SYNCED") + "; " + watch(t, srv, ann, after).until("SYNCED"); got != "; INSERT 2" {
		t.Errorf("after: %s", got)
	}
}

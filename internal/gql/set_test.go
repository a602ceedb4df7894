package gql

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/subs"
)

func TestMain(m *testing.M) { pgtest.Main(m, nil) }

// TestEffectsAreWhatSelectSees changes random rows in Postgres and compares what a subscriber is told with what a SELECT
// by its filter and its tenants gives before and after.
func TestEffectsAreWhatSelectSees(t *testing.T) {
	db := pgtest.Bare(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `create table item (id int primary key, tenant_id text, n int, s text)`); err != nil {
		t.Fatal(err)
	}
	s, _, err := Build(catalog.Catalog{Tables: []catalog.Table{{
		Watch: 1, Schema: "public", Name: "item", TenantColumn: "tenant_id", Key: []string{"id"},
		Columns: []catalog.Column{
			{Number: 1, Name: "id", NotNull: true, Type: base("int4")},
			{Number: 2, Name: "tenant_id", Type: base("text")},
			{Number: 3, Name: "n", Type: base("int4")},
			{Number: 4, Name: "s", Type: base("text")},
		},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[subs.Effect]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, conn: conn, tenant: map[int]string{}}
		w.exec("truncate item")
		where := rapid.SampledFrom([]string{
			`{}`, `{n: {gt: 1}}`, `{not: {n: {eq: 1}}}`, `{or: [{s: {eq: "b"}}, {n: {isNull: true}}]}`, `{s: {notIn: ["a"]}, n: {lte: 2}}`, `{s: {like: "_"}}`,
		}).Draw(rt, "where")
		who := &auth.Identity{Tenants: rapid.SampledFrom([][]string{{"x"}, {"y"}, {"x", "y"}, {}, {""}}).Draw(rt, "tenants")}
		p := plan(t, s, `subscription { itemChanged(where: `+where+`) { kind } }`, "", who)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			seen[w.step(p, who)]++
		}
	})
	for e := subs.None; e <= subs.Leaves; e++ {
		if seen[e] == 0 {
			t.Errorf("effect %d never happened", e)
		}
	}
}

type world struct {
	*rapid.T
	conn   *pgx.Conn
	tenant map[int]string // by id, of the rows there are
}

func (w *world) exec(sql string, args ...any) {
	if _, err := w.conn.Exec(context.Background(), sql, args...); err != nil {
		w.Fatal(err)
	}
}

// image is a row as the trigger would log it, and whether a subscriber's SELECT sees it.
func (w *world) image(id int, p *Plan, who *auth.Identity) (json []byte, visible bool) {
	sql, args := p.where.SQL([]any{id, who.Tenants})
	err := w.conn.QueryRow(context.Background(),
		`select row_to_json(item), coalesce((`+sql+`) and tenant_id = any($2) and tenant_id <> '', false) from item where id = $1`, args...).Scan(&json, &visible)
	if err != nil && err != pgx.ErrNoRows {
		w.Fatal(err)
	}
	return json, visible
}

// step changes one row and checks what the subscriber is told.
func (w *world) step(p *Plan, who *auth.Identity) subs.Effect {
	id := rapid.IntRange(1, 3).Draw(w.T, "id")
	tenant := rapid.SampledFrom([]string{"x", "y", "", "z"}).Draw(w.T, "tenant")
	n := rapid.SampledFrom([]any{nil, 1, 2, 3}).Draw(w.T, "n")
	s := rapid.SampledFrom([]any{nil, "a", "b", "cc"}).Draw(w.T, "s")

	c := change.Change{Topic: p.Topics()[0], OldTenant: w.tenant[id], Tenant: tenant}
	var before, after bool
	c.Old, before = w.image(id, p, who)
	switch {
	case c.Old == nil:
		c.Op, c.OldTenant = change.Insert, ""
		w.exec("insert into item values ($1, $2, $3, $4)", id, tenant, n, s)
		w.tenant[id] = tenant
	case rapid.IntRange(0, 4).Draw(w.T, "delete") == 0:
		c.Op, c.Tenant = change.Delete, ""
		w.exec("delete from item where id = $1", id)
		delete(w.tenant, id)
	default:
		c.Op = change.Update
		w.exec("update item set tenant_id = $2, n = $3, s = $4 where id = $1", id, tenant, n, s)
		w.tenant[id] = tenant
	}
	c.New, after = w.image(id, p, who)

	m := &subs.Match{Change: &c, Identity: who}
	for _, side := range []struct {
		image []byte
		row   **change.Row
	}{{c.Old, &m.Old}, {c.New, &m.New}} {
		if side.image != nil {
			*side.row = new(change.Row)
			if err := (*side.row).Parse(side.image); err != nil {
				w.Fatal(err)
			}
		}
	}
	want := map[[2]bool]subs.Effect{{false, true}: subs.Enters, {true, true}: subs.Changes, {true, false}: subs.Leaves}[[2]bool{before, after}]
	if got := p.Match(m); got != want {
		w.Fatalf("effect %d, want %d: %s", got, want, fmt.Sprintf("%c %s %s for %v", c.Op, c.Old, c.New, who.Tenants))
	}
	return want
}

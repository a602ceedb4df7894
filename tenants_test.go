package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// reader is a client of some tenants that notes what it is sent of a table.
type reader struct {
	t       *testing.T
	srv     *notifyql.Server
	field   string
	tenants []string
	stream  *notifyql.Stream
	cursor  string
}

// follow begins with the rows that stand, or goes on where the reader was.
func (r *reader) follow() {
	r.t.Helper()
	start := "initial: true, orderBy: [{id: ASC}]"
	if r.cursor != "" {
		start = fmt.Sprintf("after: %q", r.cursor)
	}
	stream, err := r.srv.Subscribe(r.t.Context(), notifyql.Request{
		Query:    `subscription { it: ` + r.field + `(` + start + `) { kind old { id } new { id } cursor } }`,
		Identity: notifyql.Identity{Tenants: r.tenants},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.stream = stream
}

// until reads up to an event of a kind, and returns what came: of each the kind and the rows' numbers.
func (r *reader) until(kind string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	for {
		text, err := r.stream.Next(ctx)
		if err != nil {
			r.t.Fatalf("%v, after %v", err, got)
		}
		var event struct {
			Data struct {
				It struct {
					Kind, Cursor string
					Old, New     *struct{ ID int }
				}
			}
		}
		if err := json.Unmarshal(text, &event); err != nil || event.Data.It.Kind == "" {
			r.t.Fatalf("%s: %v", text, err)
		}
		it := event.Data.It
		if it.Cursor != "" {
			r.cursor = it.Cursor
		}
		word := it.Kind
		if it.Old != nil {
			word += fmt.Sprintf(" %d", it.Old.ID)
		}
		if it.New != nil {
			word += fmt.Sprintf(" >%d", it.New.ID)
		}
		if got = append(got, word); it.Kind == kind {
			return strings.Join(got, ", ")
		}
	}
}

// Subscribers see the rows of all their tenants, which these have through a foreign key: those that stand, what changes, and what has
// changed while they were away.
func TestSubscribersOfTenantsThroughAForeignKey(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"quiet", "busy"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, `create table orders (id int primary key, tenant_id text); create table items (id int primary key, order_id int references orders on delete cascade, x text);
				select notifyql.watch('items', tenant_via => 'order_id'); update notifyql.setting set mode = '`+mode+`';
				insert into orders values (1, 'a'), (2, 'b'), (3, 'c'), (4, ''), (5, null); insert into items values (10, 1), (20, 2), (30, 3), (40, 4), (50, 5), (60, null)`)
			srv := run(t, notifyql.Config{DatabaseURL: db.URL})
			var readers []*reader
			var initial, live, missed []string
			for _, sees := range []struct {
				tenants               []string
				initial, live, missed string
			}{
				{[]string{"a"}, "INITIAL >10, ", "INSERT >11, DELETE 10, DELETE 11, ", ""},
				{[]string{"b"}, "INITIAL >20, ", "INSERT >10, ", "INSERT >10, INSERT >12, INSERT >11, DELETE 10, DELETE 12, DELETE 11, "},
				{[]string{"b", "a"}, "INITIAL >10, INITIAL >20, ", "INSERT >11, UPDATE 10 >10, DELETE 11, ", "INSERT >10, INSERT >12, INSERT >11, DELETE 10, DELETE 12, DELETE 11, "},
				{[]string{"d"}, "", "INSERT >11, ", "INSERT >11, DELETE 11, "},
				{[]string{"d", "b"}, "INITIAL >20, ", "INSERT >10, INSERT >11, ", "INSERT >10, INSERT >11, INSERT >12, UPDATE 11 >11, DELETE 10, DELETE 12, DELETE 11, "},
				{[]string{"", "nobody"}, "", "", ""},
				{nil, "", "", ""},
			} {
				r := &reader{t: t, srv: srv, field: "itemsChanged", tenants: sees.tenants}
				r.follow()
				readers = append(readers, r)
				initial, live, missed = append(initial, sees.initial+"SYNCED"), append(live, sees.live+"TRUNCATE"), append(missed, sees.missed+"SYNCED")
			}
			all := func(when, until string, want []string) {
				t.Helper()
				for i, r := range readers {
					if got := r.until(until); got != want[i] {
						t.Errorf("%s, %q are sent %s, want %s", when, r.tenants, got, want[i])
					}
				}
			}
			all("at first", "SYNCED", initial)
			for _, sql := range []string{
				`insert into items values (11, 1)`, `update items set order_id = 2 where id = 10`,
				`begin; update orders set tenant_id = 'd' where id = 1; update items set x = 'handed over' where order_id = 1; commit`, `truncate items`,
			} {
				db.Exec(t, sql)
			}
			all("live", "TRUNCATE", live)
			for _, r := range readers {
				r.stream.Close()
			}
			for _, sql := range []string{`insert into items values (10, 2), (11, 1), (12, 2)`, `update items set order_id = 2 where id = 11`, `delete from orders where id = 2`} {
				db.Exec(t, sql)
			}
			for _, r := range readers {
				r.follow()
			}
			all("back again", "SYNCED", missed)
		})
	}
}

// A subscription that a way leads to ends when that is not what it was.
func TestAnotherWayEndsSubscriptions(t *testing.T) {
	t.Parallel()
	for _, ddl := range []string{`alter table orders rename tenant_id to other`, `alter table items drop constraint items_order_id_fkey`, `select notifyql.watch('items', 'region', tenant_via => 'order_id')`} {
		t.Run(ddl, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, `create table orders (id int primary key, tenant_id text, region text); create table items (id int primary key, order_id int references orders); create table other (id int primary key);
				select notifyql.watch('items', tenant_via => 'order_id')`)
			r := &reader{t: t, srv: run(t, notifyql.Config{DatabaseURL: db.URL}), field: "itemsChanged", tenants: []string{"a"}}
			r.follow()
			r.until("SYNCED")
			db.Exec(t, ddl)
			db.Exec(t, `select notifyql.watch('other', shared => true)`) // look at the tables now
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := r.stream.Next(ctx)
			var ended *notifyql.RequestError
			if !errors.As(err, &ended) || code(ended.Errors) != "SCHEMA_CHANGED" || !strings.Contains(err.Error(), "another tenant column") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// A tenant is the text of its value, byte for byte, whatever the type: what changes and what stands agree on it.
func TestTenantsOfEachType(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good', 'Good'); create domain org as text; create domain number as bigint`)
	types := []struct{ typ, value, exact, other string }{
		{"uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
		{"bigint", "9007199254740993", "9007199254740993", "9007199254740992"},
		{"int", "7", "7", "07"},
		{"number", "-7", "-7", "7"},
		{"org", "Acme", "Acme", "acme"},
		{"mood", "Good", "Good", "good"},
		{"numeric", "7.0", "7.0", "7"},
	}
	for _, c := range types {
		db.Exec(t, fmt.Sprintf(`create table t_%[1]s (id int primary key, tenant_id %[1]s); insert into t_%[1]s values (1, '%[2]s'); select notifyql.watch('t_%[1]s')`, c.typ, c.value))
	}
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	for _, c := range types {
		field := "t" + strings.ToUpper(c.typ[:1]) + c.typ[1:] + "Changed"
		exact := &reader{t: t, srv: srv, field: field, tenants: []string{c.exact}}
		other := &reader{t: t, srv: srv, field: field, tenants: []string{c.other, ""}}
		exact.follow()
		other.follow()
		first := [2]string{exact.until("SYNCED"), other.until("SYNCED")}
		db.Exec(t, fmt.Sprintf(`insert into t_%[1]s values (2, '%[2]s')`, c.typ, c.value))
		db.Exec(t, `truncate t_`+c.typ)
		if got := fmt.Sprintf("%s; %s; %s; %s", first[0], first[1], exact.until("TRUNCATE"), other.until("TRUNCATE")); got != "INITIAL >1, SYNCED; SYNCED; INSERT >2, TRUNCATE; TRUNCATE" {
			t.Errorf("%s %s: %s", c.typ, c.value, got)
		}
	}
}

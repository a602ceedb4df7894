package notifyql_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// code is the first error's, of a list of GraphQL errors.
func code(errs json.RawMessage) string {
	var list []struct{ Extensions struct{ Code string } }
	if json.Unmarshal(errs, &list) != nil || len(list) == 0 {
		return ""
	}
	return list[0].Extensions.Code
}

// The change of a table and a row of its new shape commit together, so that the row comes before the server can know. What
// does not fit is never shown as if it did, and the subscription ends and says why; what it does not use may change.
func TestARowOfATablesNewShape(t *testing.T) {
	for name, c := range map[string]struct{ ddl, why string }{
		"another type":     {`alter table orders alter n type text using 'x' || n; insert into orders values (9, 'acme', 'abc')`, "another type"},
		"a rename":         {`alter table orders rename n to m; insert into orders values (9, 'acme', 1)`, "now called m"},
		"a column dropped": {`alter table orders drop n; insert into orders values (9, 'acme')`, "is gone"},
		"a column added":   {`alter table orders add x int; insert into orders values (9, 'acme', 5, 7)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, `create table orders (id int primary key, tenant_id text not null, n int not null); select notifyql.watch('orders')`)
			srv := run(t, notifyql.Config{DatabaseURL: db.URL})
			for _, query := range []string{
				`subscription { ordersChanged { kind new { id n } } }`,
				`subscription { ordersChanged(where: {n: {gt: 0}}) { kind new { id } } }`,
			} {
				stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: query, Identity: notifyql.Identity{Tenants: []string{"acme"}}})
				if err != nil {
					t.Fatal(err)
				}
				defer stream.Close() //nolint:errcheck // it has served
				defer expectEnd(t, stream, c.why)
			}
			db.Exec(t, c.ddl)
		})
	}
}

// expectEnd reads a stream whose table changed: errors only, and the reason at the end; or, if there is none, a row.
func expectEnd(t *testing.T, stream *notifyql.Stream, why string) {
	for {
		b, err := stream.Next(t.Context())
		var ended *notifyql.RequestError
		switch {
		case why == "":
			if err != nil || !bytes.HasPrefix(b, []byte(`{"data":{"ordersChanged":{"kind":"INSERT","new":{"id":9`)) {
				t.Errorf("got %s, %v", b, err)
			}
			return
		case errors.As(err, &ended):
			if code(ended.Errors) != "SCHEMA_CHANGED" || !strings.Contains(err.Error(), why) {
				t.Errorf("it ended with %s", ended.Errors)
			}
			return
		case err != nil || !bytes.HasPrefix(b, []byte(`{"errors":[`)):
			t.Errorf("got %s, %v", b, err)
			return
		}
	}
}

// Who does not read is told that it has missed something, not kept for.
func TestAStreamThatIsNotRead(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), Limits: notifyql.Limits{TailBytes: 10_000}})
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close() //nolint:errcheck // it has served
	for i := range 1000 {
		if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Shared: true, Data: i}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := stream.Next(t.Context())
	var ended *notifyql.RequestError
	if !errors.As(err, &ended) || code(ended.Errors) != "OVERFLOW" {
		t.Errorf("got %s, %v", b, err)
	}
	if s := srv.Stats(); s.TailBytes > 10_000 || s.Overflowed == 0 {
		t.Errorf("stats %+v", s)
	}
}

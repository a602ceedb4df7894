package notifyql_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A row that moves between partitions stays in the sets that it is in, enters and leaves others, whether the change is
// one of a few or is read from the log in pages.
func TestARowThatMovesInASubscribersSet(t *testing.T) {
	for name, rows := range map[string]int{"few": 0, "pages": 7000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, `create table orders (id int, tenant_id text not null, region text, note text) partition by list (region);
				create table orders_a partition of orders for values in ('a'); create table orders_b partition of orders for values in ('b');
				insert into orders values (1, 'acme', 'a', 'one'), (2, 'acme', 'a', 'two');
				insert into orders select i, 'acme', 'a', 'one of many' from generate_series(10, `+strconv.Itoa(rows)+`) i;
				select notifyql.watch('orders')`)
			srv := run(t, notifyql.Config{DatabaseURL: db.URL})
			subscribe := func(tenant, where string) *notifyql.Stream {
				stream, err := srv.Subscribe(t.Context(), notifyql.Request{
					Query:    `subscription { ordersChanged(where: ` + where + `) { kind cause old { region note } new { region note } } }`,
					Identity: notifyql.Identity{Tenants: []string{tenant}},
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { stream.Close() }) //nolint:errcheck // it has served
				return stream
			}
			some := `id: {lt: 10}`
			all, inA, inB := subscribe("acme", `{`+some+`}`), subscribe("acme", `{`+some+`, region: {eq: "a"}}`), subscribe("acme", `{`+some+`, region: {eq: "b"}}`)
			noted, other := subscribe("acme", `{`+some+`, note: {eq: "one"}}`), subscribe("other", `{`+some+`}`)
			db.Exec(t, `update orders set region = 'b' where id <> 2`)
			db.Exec(t, `update orders set region = 'b', tenant_id = 'other' where id = 2`)
			for _, c := range []struct {
				name   string
				stream *notifyql.Stream
				want   []string
			}{
				{"all", all, []string{`UPDATE UPDATE {"region":"a","note":"one"} {"region":"b","note":"one"}`, `DELETE DELETE {"region":"a","note":"two"} null`}},
				{"in a", inA, []string{`DELETE UPDATE {"region":"a","note":"one"} null`, `DELETE DELETE {"region":"a","note":"two"} null`}},
				{"in b", inB, []string{`INSERT UPDATE null {"region":"b","note":"one"}`}},
				{"noted", noted, []string{`UPDATE UPDATE {"region":"a","note":"one"} {"region":"b","note":"one"}`}},
				{"another tenant's", other, []string{`INSERT INSERT null {"region":"b","note":"two"}`}},
			} {
				for _, want := range c.want {
					b, err := c.stream.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					f := strings.SplitN(want, " ", 4)
					if want := fmt.Sprintf(`{"data":{"ordersChanged":{"kind":%q,"cause":%q,"old":%s,"new":%s}}}`, f[0], f[1], f[2], f[3]); string(b) != want {
						t.Errorf("%s: got %s, want %s", c.name, b, want)
					}
				}
			}
		})
	}
}

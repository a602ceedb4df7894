package notifyql_test

import (
	"encoding/json"
	"testing"

	"github.com/notifyql/notifyql"
)

// Transactions that are too large for a record, or for memory, whose changes are not in the order of seq, or with a row that no
// record holds, arrive whole, in order and as one.
func TestRelayOfLargeTransactions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		rows int
	}{
		"one row":                    {`insert into docs select n, 'a', 0, 'x' from generate_series(1, 1) n`, 1},
		"many notifications":         {`insert into docs select n, 'a', 0, repeat('x', 500) from generate_series(1, 900) n`, 900},
		"several records":            {`insert into docs select n, 'a', 0, repeat('x', 3000) from generate_series(1, 900) n`, 900},
		"more rows than are sent":    {`insert into docs select n, 'a', 0, 'x' from generate_series(1, 3000) n`, 3000},
		"a row larger than a record": {`insert into docs select n, 'a', 0, repeat('x', case n when 7 then 700000 else 1 end) from generate_series(1, 20) n`, 20},
		"not in the order of seq":    {`insert into docs select n, 'a', 0, repeat('x', 2500 + n * 37 % 700) from generate_series(1, 200) n; update docs set ver = bump(id)`, 599},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelayed(t, 2)
			r.db.Exec(t, `
				create table docs (id int primary key, tenant_id text, ver int, body text);
				create function bump(this int) returns int language plpgsql as $$ begin update docs set ver = 2 where id = this - 1; return 1; end $$;
				select notifyql.watch('docs')`)
			r.follow(t)
			for _, n := range r.nodes {
				eventually(t, "the table", func() bool {
					stream, err := n.Subscribe(t.Context(), notifyql.Request{
						Query:    `subscription { docsBatch { complete changes { kind new { id ver } } } }`,
						Identity: notifyql.Identity{UserID: "u", Tenants: []string{"a"}},
					})
					if err != nil {
						return false
					}
					t.Cleanup(func() { stream.Close() }) //nolint:errcheck // the test is over
					r.streams = append(r.streams, stream)
					return true
				})
			}
			r.db.Exec(t, `begin; `+c.sql+`; commit`)
			for i, stream := range r.streams {
				seen, versions := 0, map[int]int{}
				for complete := false; !complete; {
					raw, err := stream.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					var m struct {
						Data struct {
							DocsBatch struct {
								Complete bool
								Changes  []struct{ New struct{ ID, Ver int } }
							}
						}
					}
					if err := json.Unmarshal(raw, &m); err != nil {
						t.Fatalf("%s: %v", raw, err)
					}
					b := m.Data.DocsBatch
					for _, c := range b.Changes {
						if had, ok := versions[c.New.ID]; ok && c.New.Ver != had+1 || !ok && c.New.Ver != 0 {
							t.Fatalf("node %d: row %d has version %d after %d", i, c.New.ID, c.New.Ver, had)
						}
						versions[c.New.ID] = c.New.Ver
					}
					seen += len(b.Changes)
					complete = b.Complete
				}
				if seen != c.rows {
					t.Errorf("node %d: %d of %d changes", i, seen, c.rows)
				}
			}
		})
	}
}

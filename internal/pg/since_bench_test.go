package pg

import (
	"fmt"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// write logs n transactions of one row each, of so many topics in turn, and makes a tick behind each 500.
func (c *chronicle) write(t testing.TB, n, topics int) {
	t.Helper()
	conn := c.Conn(t, "postgres")
	if _, err := conn.Exec(t.Context(), "set synchronous_commit = off"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), fmt.Sprintf(`
		do $$ begin
		  for i in 1..%d loop
		    insert into notifyql.change (watch, op, shared, tenant, leaf, new_ctid, new)
		    values (1 + i %% %d, 'I', false, 'a', 4711, '(1,1)', json_build_object('id', i, 'fill', repeat('x', 100)));
		    commit;
		    if i %% 500 = 0 then
		      perform notifyql.tick();
		      commit;
		    end if;
		  end loop;
		end $$`, n, topics)); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkSince catches up with 100,000 transactions in pages of 256: with all of them, with a twentieth, with none. Again is
// behind others who went the same way.
func BenchmarkSince(b *testing.B) {
	const n = 100_000
	for _, k := range []struct {
		name         string
		topics       int
		watch        change.WatchID
		again, plain bool
	}{
		{name: "all", topics: 1, watch: 1},
		{name: "all again", topics: 1, watch: 1, again: true},
		{name: "twentieth", topics: 20, watch: 3},
		{name: "twentieth again", topics: 20, watch: 3, again: true},
		{name: "none again", topics: 20, watch: 99, again: true},
		{name: "nothing but the rows", topics: 1, plain: true},
	} {
		b.Run(k.name, func(b *testing.B) {
			c := newChronicle(b, pgtest.New(b))
			c.tick(b)
			c.spot(b)
			c.write(b, n, k.topics)
			c.spot(b)
			s := testSource(b, c.DB)
			pages := 0
			for b.Loop() {
				switch {
				case k.plain:
					c.learn(b)
					continue
				case !k.again:
					s = testSource(b, c.DB)
				}
				got := 0
				to := c.at(c.spots[1])
				for at, arrived := c.at(c.spots[0]), false; !arrived; pages++ {
					page, err := s.Since(b.Context(), at, to, []change.Topic{{Watch: k.watch}}, []string{"a"}, 256)
					if err != nil {
						b.Fatal(err)
					}
					for _, p := range page.Txns {
						got += len(p.Changes)
					}
					at, arrived = page.Next, page.Arrived
				}
				if want := n / k.topics; k.watch < 99 && got != want {
					b.Fatalf("%d changes, want %d", got, want)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(pages)/float64(b.N), "pages")
		})
	}
}

package notifyql_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// relayed is a database of several servers behind one broker.
type relayed struct {
	db     *pgtest.DB
	broker *bustest.Memory
	nodes  []*relayedNode

	streams []*notifyql.Stream
}

type relayedNode struct {
	*notifyql.Server
	stream *bustest.MemoryStream
	stop   func()
}

func newRelayed(t *testing.T, nodes int) *relayed {
	r := &relayed{db: pgtest.New(t), broker: bustest.NewMemory()}
	r.db.Exec(t, `create table items (id int primary key, tenant_id text, ver int); select notifyql.watch('items')`)
	for range nodes {
		r.add(t)
	}
	return r
}

func (r *relayed) add(t *testing.T) *relayedNode {
	t.Helper()
	n := &relayedNode{stream: r.broker.Join("notifyql", bustest.Options{})}
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: r.db.URL, Bus: notifyql.StreamBus(n.stream)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	n.Server, n.stop = srv, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	r.nodes = append(r.nodes, n)
	<-srv.Ready()
	return n
}

// follow waits until all nodes follow one leader's session.
func (r *relayed) follow(t *testing.T) (leader *relayedNode) {
	t.Helper()
	eventually(t, "all nodes follow a leader", func() bool {
		leader = nil
		for _, n := range r.nodes {
			st := n.Stats()
			if !st.Relayed {
				return false
			}
			if st.Leader {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

// judge takes in order what one subscriber gets of items, each row of which counts its versions, and ends when all have come to
// last.
type judge struct {
	t       *testing.T
	name    string
	stream  *notifyql.Stream
	versons map[int]int
	done    chan struct{}
}

func (r *relayed) judge(t *testing.T, n *relayedNode, name string, rows, last int) *judge {
	t.Helper()
	stream, err := n.Subscribe(t.Context(), notifyql.Request{
		Query: `subscription { itemsChanged { new { id ver } } }`, Identity: notifyql.Identity{UserID: "u", Tenants: []string{"a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	j := &judge{t: t, name: name, stream: stream, versons: map[int]int{}, done: make(chan struct{})}
	go func() {
		defer close(j.done)
		defer stream.Close() //nolint:errcheck // it has served
		for finished := 0; finished < rows; {
			raw, err := stream.Next(t.Context())
			if err != nil {
				t.Errorf("%s: after %v: %v", name, j.versons, err)
				return
			}
			var m struct {
				Data struct {
					ItemsChanged struct{ New struct{ ID, Ver int } }
				}
			}
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Errorf("%s: %s: %v", name, raw, err)
				return
			}
			got := m.Data.ItemsChanged.New
			if got.Ver != j.versons[got.ID]+1 {
				t.Errorf("%s: row %d has version %d after %d (%s)", name, got.ID, got.Ver, j.versons[got.ID], raw)
				return
			}
			j.versons[got.ID] = got.Ver
			if got.Ver == last {
				finished++
			}
		}
	}()
	return j
}

// write brings each of rows to the version last, in transactions of one to three rows, by so many writers.
func (r *relayed) write(t *testing.T, writers, rows, last int, between func(done int)) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			conn, err := pgx.Connect(t.Context(), r.db.URL)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.Background()) //nolint:errcheck // the test is over
			random := rand.New(rand.NewPCG(uint64(w), 1))
			var mine []int
			for id := w; id < rows; id += writers {
				mine = append(mine, id)
			}
			at := make([]int, len(mine))
			for left := len(mine) * last; left > 0; {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for range 1 + random.IntN(3) {
					i := random.IntN(len(mine))
					if at[i] == last {
						continue
					}
					at[i]++
					left--
					if _, err := tx.Exec(t.Context(), `insert into items values ($1, 'a', $2) on conflict (id) do update set ver = excluded.ver`, mine[i], at[i]); err != nil {
						t.Error(err)
						return
					}
				}
				if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
					return
				}
				if w == 0 && between != nil {
					between(len(mine)*last - left)
				}
			}
		})
	}
	wg.Wait()
}

// Whatever becomes of the broker and of the server that reads the database: each change comes once, in order, at every server.
func TestRelay(t *testing.T) {
	t.Parallel()
	terminate := func(r *relayed, t *testing.T, name string) {
		r.db.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = $1`, name)
	}
	for name, trouble := range map[string]func(t *testing.T, r *relayed){
		"none": func(*testing.T, *relayed) {},
		"records are lost": func(t *testing.T, r *relayed) {
			for _, n := range r.nodes {
				n.stream.Drop(3)
			}
		},
		"records come again": func(t *testing.T, r *relayed) {
			for _, n := range r.nodes {
				n.stream.Repeat(5)
			}
		},
		"the broker is killed and starts empty": func(t *testing.T, r *relayed) {
			r.broker.Kill()
			r.nodes[0].awaits(t, false)
			r.broker.Start()
		},
		"the leader is cut off from the broker": func(t *testing.T, r *relayed) {
			leader := r.follow(t)
			leader.stream.Cut()
			leader.awaits(t, false)
			eventually(t, "another leader", func() bool { return !leader.Stats().Leader })
			leader.stream.Heal()
		},
		"the leader's records vanish":        func(t *testing.T, r *relayed) { r.follow(t).stream.Swallow() },
		"an append may have been made":       func(t *testing.T, r *relayed) { r.follow(t).stream.Unsure(1) },
		"the leader's session is terminated": func(t *testing.T, r *relayed) { terminate(r, t, "notifyql leader") },
		"its listener is":                    func(t *testing.T, r *relayed) { terminate(r, t, "notifyql listener") },
		"all sessions are": func(t *testing.T, r *relayed) {
			for _, name := range []string{"notifyql", "notifyql leader", "notifyql listener"} {
				terminate(r, t, name)
			}
		},
		"the leader stops": func(t *testing.T, r *relayed) {
			leader := r.follow(t)
			if leader == r.nodes[0] || leader == r.nodes[1] {
				terminate(r, t, "notifyql leader") // it has subscribers: another one becomes the leader, or it again
				return
			}
			leader.stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelayed(t, 3)
			const rows, last = 6, 40
			judges := []*judge{r.judge(t, r.nodes[0], "the first", rows, last), r.judge(t, r.nodes[1], "the second", rows, last)}
			r.follow(t)
			r.write(t, 2, rows, last, func() func(int) {
				return func(done int) {
					if done >= last && trouble != nil {
						do := trouble
						trouble = nil
						do(t, r)
					}
				}
			}())
			for _, j := range judges {
				<-j.done
			}
			eventually(t, "both follow again", func() bool { return r.nodes[0].Stats().Relayed && r.nodes[1].Stats().Relayed })
		})
	}
}

func (n *relayedNode) awaits(t *testing.T, relayed bool) {
	t.Helper()
	eventually(t, fmt.Sprint("relayed is ", relayed), func() bool { return n.Stats().Relayed == relayed })
}

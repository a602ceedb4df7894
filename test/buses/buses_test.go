package buses

import (
	"fmt"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// TestServersOverEachBus: two to five servers, and one that comes late; the broker is restarted, the leader cut off from it, a
// connection to it dead without a word, the leader's session ended; somebody does not read, and somebody reads when all is
// over. Each subscriber at each server gets each row's versions in order, each once.
func TestServersOverEachBus(t *testing.T) {
	t.Parallel()
	for name := range carriers {
		for servers := 2; servers <= 5; servers++ {
			if !pgtest.Thorough() && servers != 3 {
				continue
			}
			t.Run(fmt.Sprintf("%s, %d servers", name, servers), func(t *testing.T) {
				t.Parallel()
				play(t, newCluster(t, name, servers))
			})
		}
	}
}

func play(t *testing.T, c *cluster) {
	const some = 60 // transactions between two troubles
	c.follow()
	var judges []*judge
	for i, s := range c.servers {
		judges = append(judges, c.subscribe(s, fmt.Sprintf("the subscriber of server %d", i), nil))
	}
	over := make(chan struct{})
	judges = append(judges, c.subscribe(c.servers[0], "who does not read", over))
	w := c.write()
	w.more(some)
	if c.broker != nil {
		c.broker.Kill(t)
		w.more(some)
		before := judges[0].got.Load()
		c.eventually("changes come while the broker is down", func() bool { return judges[0].got.Load() > before+2*some })
		c.broker.Start(t)
		w.more(some)

		leader := c.follow()
		leader.way.Cut()
		c.eventually("another leads", func() bool { return !leader.Stats().Leader })
		w.more(some)
		leader.way.Heal()

		leader = c.follow()
		for _, s := range c.servers {
			if s != leader {
				s.way.Swallow()
				break
			}
		}
		w.more(some)
		c.follow().way.Swallow()
		w.more(some)
	}
	judges = append(judges, c.subscribe(c.add(), "who comes late", nil))
	w.more(some)
	c.db.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'notifyql leader'`)
	w.more(some)
	c.follow()
	w.more(some)
	close(w.over)
	if err := <-w.ended; err != nil {
		t.Fatal(err)
	}
	close(over)
	for _, j := range judges {
		if err := <-j.ended; err != nil {
			t.Error(err)
		}
	}
}

// TestWithoutTheBroker: servers start while the broker is not there, read the database themselves, and say so; when it comes they
// follow one leader.
func TestWithoutTheBroker(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"memory", "redis", "nats"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, name, 0)
			c.broker.Kill(t)
			var judges []*judge
			for i := range 2 {
				s := c.add()
				judges = append(judges, c.subscribe(s, fmt.Sprintf("the subscriber of server %d", i), nil))
				if st := s.Stats(); st.Relayed || !st.Ready {
					t.Errorf("without a broker the server is %+v", st)
				}
			}
			w := c.write()
			w.more(50)
			for _, j := range judges {
				c.eventually("changes come without a broker to "+j.name, func() bool { return j.got.Load() > 20 })
			}
			c.broker.Start(t)
			c.follow()
			w.more(50)
			close(w.over)
			if err := <-w.ended; err != nil {
				t.Fatal(err)
			}
			for _, j := range judges {
				if err := <-j.ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

package nemesis

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/link"
	"github.com/notifyql/notifyql/internal/localbroker"
)

// carrier is a broker that carries the changes from the node that leads to all.
type carrier struct {
	scheme  string
	program localbroker.Program
}

var carriers = map[string]carrier{
	"redis": {"redis://", localbroker.Redis},
	"nats":  {"nats://", localbroker.NATS},
}

// brokerFaults are trouble with the broker, and with who carries to it.
var brokerFaults = []fault{
	{"broker killed -9", 4, (*world).killBroker},
	{"broker frozen", 3, (*world).freezeBroker},
	{"broker cut off", 3, apart((*link.Link).Cut, false)},
	{"broker half-open", 3, apart((*link.Link).Swallow, false)},
	{"way to the broker frozen", 3, apart((*link.Link).Freeze, false)},
	{"broker cut off from the leader", 3, apart((*link.Link).Cut, true)},
	{"broker half-open for the leader", 3, apart((*link.Link).Swallow, true)},
	{"kill -9 leader", 4, (*world).killLeader},
	{"leader frozen", 3, (*world).freezeLeader},
}

// killBroker ends the broker, with all that it knew, and starts it again.
func (w *world) killBroker(ctx context.Context) (time.Time, error) {
	down := w.some(0, 2500)
	if err := w.broker.Kill(); err != nil {
		return time.Time{}, err
	}
	pass(ctx, down)
	return time.Now(), w.broker.Resume()
}

// freezeBroker stops the broker's process, as a machine does that swaps.
func (w *world) freezeBroker(ctx context.Context) (time.Time, error) {
	lasts := w.some(50, 4000)
	if err := w.broker.Freeze(); err != nil {
		return time.Time{}, err
	}
	pass(ctx, lasts)
	return time.Now(), w.broker.Thaw()
}

// apart disturbs the way between the broker and one node, which may have to be the one that leads.
func apart(how func(*link.Link), leader bool) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		n, lasts := w.anyNode(), w.some(50, 4000)
		if leader {
			switch l, err := w.leader(ctx); {
			case err != nil:
				return time.Time{}, err
			case l != nil:
				n = l
			}
		}
		how(n.broker)
		pass(ctx, lasts)
		n.broker.Heal()
		return time.Now(), nil
	}
}

func (w *world) killLeader(ctx context.Context) (time.Time, error) {
	n, err := w.leader(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if n == nil {
		n = w.anyNode()
	}
	return w.downed(ctx, n, os.Kill)
}

// The same trouble, and that of the broker, where one node reads the database for all.
func TestNemesisOverBrokers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redis", "nats"} {
		t.Run(name, func(t *testing.T) {
			nemesis(t, plan{
				seed: *seedFlag, durable: true, retention: true, carrier: name, shares: 2, size: 3, bulk: *bulkFlag, rate: *rateFlag,
				// What the broker adds comes as often as all the rest.
				faults: slices.Concat(faults, modeFaults, brokerFaults, brokerFaults, brokerFaults),
			})
		})
	}
}

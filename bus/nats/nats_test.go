package nats

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/internal/link"
	"github.com/notifyql/notifyql/internal/localbroker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// broker is a nats-server as the suite takes one.
func broker(t testing.TB) bustest.Broker {
	server := localbroker.New(t, localbroker.NATS)
	return bustest.Broker{
		Join: func(t testing.TB, name string, opts bustest.Options) bustest.Node {
			l := link.New(t, server.Addr)
			s, err := New(Options{URL: "nats://" + l.Addr, Stream: name, Keep: opts.Keep})
			must(t, err)
			return bustest.Node{Stream: s, Cut: l.Cut, Swallow: l.Swallow, Heal: l.Heal}
		},
		Kill:  func(t testing.TB) { t.Helper(); must(t, server.Kill()) },
		Start: func(t testing.TB) { t.Helper(); must(t, server.Resume()) },
	}
}

func TestSuite(t *testing.T) { bustest.Run(t, broker) }

package pg

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// node is a source that drives the real machine, as the server does, and keeps all that is dispatched.
type node struct {
	*Source
	t    testing.TB
	mode Mode // that opened waits for
	stop func()

	mu      sync.Mutex
	machine *feed.Machine
	txns    []change.Txn
	inputs  []feed.Input
	start   change.Snapshot // what it sees is never dispatched
	news    chan struct{}   // closed and replaced whenever something happened
}

// startNode runs a source in quiet mode until the test ends, or stop is called.
func startNode(t testing.TB, cfg Config) *node {
	t.Helper()
	cfg.Mode = Quiet
	return startNodeIn(t, cfg)
}

// startNodeIn is startNode in the mode that is configured.
func startNodeIn(t testing.TB, cfg Config) *node {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	if cfg.Beat == 0 {
		cfg.Beat = 50 * time.Millisecond
	}
	n := &node{t: t, mode: cfg.Mode, machine: feed.New(), news: make(chan struct{})}
	cfg.Enter = func(era change.Era) *change.Point {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.machine.Enter(era)
	}
	src, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Source = src
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, n.emit) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		src.Close() // waits for the pool's connections
	})
	t.Cleanup(n.stop)
	return n
}

// testLog is a log that shows only when the test fails.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (n *node) emit(in feed.Input) {
	n.mu.Lock()
	defer n.mu.Unlock()
	txns, actions := n.machine.Step(time.Now(), in)
	n.txns = append(n.txns, txns...)
	if _, beat := in.(feed.Beat); !beat {
		n.inputs = append(n.inputs, in)
	}
	if o, ok := in.(feed.Opened); ok && n.start.Xmax == 0 {
		n.start = o.Snapshot
	}
	for _, a := range actions {
		n.Do(a)
	}
	n.tell()
}

func (n *node) tell() {
	close(n.news)
	n.news = make(chan struct{})
}

// until waits for what happens to the node until it satisfies ok.
func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for {
		n.mu.Lock()
		good, news := ok(), n.news
		n.mu.Unlock()
		if good {
			return
		}
		select {
		case <-news:
		case <-timeout.C:
			n.t.Fatalf("waited too long until %s; status %+v, machine %+v", what, n.Status(), n.stats())
		}
	}
}

// all are the transactions dispatched so far.
func (n *node) all() []change.Txn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.txns)
}

// stats are the machine's counters.
func (n *node) stats() feed.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.machine.Stats()
}

// count is how many inputs of a kind there were.
func count[I feed.Input](n *node) int {
	c := 0
	for _, in := range n.inputs {
		if _, ok := in.(I); ok {
			c++
		}
	}
	return c
}

// opened waits until the listener has opened this often, and the stream is in the node's mode.
func (n *node) opened(times int) {
	n.t.Helper()
	n.until("the listener is open", func() bool { return count[feed.Opened](n) >= times && n.Status().Listening && n.is(n.mode) })
}

// is reports whether the stream is in this mode, as the node knows, and nothing is owed to it. It is for until.
func (n *node) is(mode Mode) bool {
	st := n.machine.Stats()
	return mode == Auto || st.Mode == map[Mode]feed.Mode{Quiet: feed.Quiet, Busy: feed.Busy}[mode] && (mode == Busy || st.State == feed.Listening)
}

// enters waits until the stream is in this mode.
func (n *node) enters(mode Mode) {
	n.t.Helper()
	n.until("the stream is "+mode.String(), func() bool { return n.is(mode) })
}

// testSource is a source that is not run.
func testSource(t testing.TB, db *pgtest.DB) *Source {
	t.Helper()
	return sourceOf(t, db.URL)
}

// sourceOf is one with a login of its own.
func sourceOf(t testing.TB, url string) *Source {
	t.Helper()
	src, err := New(Config{DatabaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

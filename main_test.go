package notifyql_test

import (
	"context"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, migrate.Up) }

// start starts a server that ends with the test.
func start(t *testing.T, c notifyql.Config) *notifyql.Server {
	t.Helper()
	srv, err := notifyql.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv
}

// run starts a server and waits until it is ready.
func run(t *testing.T, c notifyql.Config) *notifyql.Server {
	t.Helper()
	srv := start(t, c)
	select {
	case <-srv.Ready():
	case <-t.Context().Done():
		t.Fatal("the server was never ready")
	}
	return srv
}

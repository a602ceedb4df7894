package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/notifyql/notifyql/internal/localpg"
)

// Setup prepares a database: usually the migrations.
type Setup func(ctx context.Context, databaseURL string) error

// suite is what the tests of one binary share.
type suite struct {
	setup Setup
	start func() (*localpg.Server, error) // once; concurrent callers wait for the same server
	begun bool                            // written inside start, read when all tests are over

	mu         sync.Mutex
	prototypes map[string]func() (*localpg.Server, error) // that tests' own servers are copies of, by version
}

var shared *suite

// Thorough reports whether one version of Postgres is asked for by name, as make matrix does: then everything is tried, else a share of
// what is much of the same.
func Thorough() bool { return os.Getenv(versionVariable) != "" }

const versionVariable = "NOTIFYQL_TEST_POSTGRES"

// startTime bounds the start of a server with its template: slow only on a machine that is busy with other tests.
const startTime = 2 * time.Minute

// Main runs the tests and exits: with a failure too if goroutines are left over. setup may be nil.
func Main(m *testing.M, setup Setup) {
	os.Exit(run(m, setup))
}

func run(m *testing.M, setup Setup) int {
	s := &suite{setup: setup}
	s.start = sync.OnceValues(func() (*localpg.Server, error) {
		s.begun = true
		return startServer(localpg.Options{}, setup)
	})
	s.prototypes = map[string]func() (*localpg.Server, error){}
	shared = s
	code := m.Run()
	made := slices.Collect(maps.Values(s.prototypes))
	if s.begun {
		made = append(made, s.start)
	}
	for _, start := range made {
		if srv, err := start(); err == nil {
			if err := srv.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, "stopping the tests' Postgres:", err)
				return 1
			}
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// prototype is a server of a version, with the template in it, that is down.
func (s *suite) prototype(version string) (*localpg.Server, error) {
	s.mu.Lock()
	start := s.prototypes[version]
	if start == nil {
		start = sync.OnceValues(func() (*localpg.Server, error) {
			srv, err := startServer(localpg.Options{Version: version}, s.setup)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(context.Background(), startTime)
			defer cancel()
			if err := srv.Shutdown(ctx, localpg.Fast); err != nil {
				return nil, errors.Join(err, srv.Stop())
			}
			return srv, nil
		})
		s.prototypes[version] = start
	}
	s.mu.Unlock()
	return start()
}

// own starts a server with the template in it, as a copy.
func (s *suite) own(opts localpg.Options) (srv *localpg.Server, err error) {
	if opts.From, err = s.prototype(opts.Version); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	opts.InMemory = true
	return localpg.Start(ctx, opts)
}

// template is the database that New copies.
const template = "notifyql_template"

// startServer makes a server with the template in it.
func startServer(opts localpg.Options, setup Setup) (*localpg.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if opts.Version == "" {
		opts.Version = os.Getenv(versionVariable)
	}
	opts.InMemory = true
	srv, err := localpg.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := makeTemplate(ctx, srv, setup); err != nil {
		return nil, errors.Join(err, srv.Stop())
	}
	return srv, nil
}

func makeTemplate(ctx context.Context, srv *localpg.Server, setup Setup) error {
	if err := srv.CreateDatabase(ctx, template, ""); err != nil {
		return err
	}
	if setup != nil {
		if err := setup(ctx, srv.URL(template)); err != nil {
			return fmt.Errorf("setting up the template database: %w", err)
		}
	}
	return srv.Freeze(ctx, template)
}

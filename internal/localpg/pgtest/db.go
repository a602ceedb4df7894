package pgtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/localpg"
)

// DB is a database of one test, dropped when the test ends.
type DB struct {
	URL    string // as superuser
	Name   string
	Server *localpg.Server

	pool  func() (*pgxpool.Pool, error)
	roles atomic.Int64
}

// New returns a database with the setup applied.
func New(t testing.TB) *DB {
	t.Helper()
	return create(t, server(t), template)
}

// Bare returns an empty database.
func Bare(t testing.TB) *DB {
	t.Helper()
	return create(t, server(t), "")
}

// Server starts a server that belongs to t alone and ends with it.
func Server(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	if shared == nil {
		t.Fatal("pgtest: the package's TestMain must call pgtest.Main")
	}
	srv, err := shared.own(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the server's log:\n" + srv.Log())
		}
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// NewOn is New on a server that Server has started.
func NewOn(t testing.TB, srv *localpg.Server) *DB {
	t.Helper()
	return create(t, srv, template)
}

// BareOn is Bare on a server that Server has started.
func BareOn(t testing.TB, srv *localpg.Server) *DB {
	t.Helper()
	return create(t, srv, "")
}

// server is the shared one.
func server(t testing.TB) *localpg.Server {
	t.Helper()
	if shared == nil {
		t.Fatal("pgtest: the package's TestMain must call pgtest.Main")
	}
	srv, err := shared.start()
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

var count atomic.Int64 // of databases, for their names

func create(t testing.TB, srv *localpg.Server, template string) *DB {
	t.Helper()
	name := fmt.Sprintf("test_%d", count.Add(1))
	ctx := t.Context()
	if err := srv.CreateDatabase(ctx, name, template); err != nil {
		t.Fatal(err)
	}
	db := &DB{URL: srv.URL(name), Name: name, Server: srv}
	t.Cleanup(func() {
		if err := db.drop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	db.pool = sync.OnceValues(func() (*pgxpool.Pool, error) {
		pool, err := pgxpool.New(ctx, db.URL)
		if err == nil {
			t.Cleanup(pool.Close)
		}
		return pool, err
	})
	return db
}

// URLAs is the database's URL for another role; any role may log in.
func (db *DB) URLAs(role string) string { return db.Server.URLAs(role, db.Name) }

// Pool returns the database's pool, always the same one. It is closed when the test that made the database ends.
func (db *DB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := db.pool()
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// Conn returns a connection as a role, closed when t ends. The role of the superuser is "postgres".
func (db *DB) Conn(t testing.TB, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URLAs(role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// Exec runs SQL, without arguments any number of statements, and fails the test if it fails. Unlike t.Context it works
// in a cleanup too.
func (db *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Pool(t).Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Role makes a role that may log in and has the given attributes beside ("createrole"), and returns its name. It is
// dropped after the database, so that what it owns there is no obstacle.
func (db *DB) Role(t testing.TB, attributes string) string {
	t.Helper()
	name := fmt.Sprintf("%s_role_%d", db.Name, db.roles.Add(1))
	db.Exec(t, "create role "+name+" login "+attributes)
	return name
}

// drop ends the database and its roles. A test that has stopped its server has nothing to drop.
func (db *DB) drop(ctx context.Context) error {
	if db.Server.PID() == 0 {
		return nil
	}
	if err := db.Server.DropDatabase(ctx, db.Name); err != nil || db.roles.Load() == 0 {
		return err
	}
	conn, err := pgx.Connect(ctx, db.Server.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for i := range db.roles.Load() {
		if _, err := conn.Exec(ctx, fmt.Sprintf("drop role if exists %s_role_%d", db.Name, i+1)); err != nil {
			return err
		}
	}
	return nil
}

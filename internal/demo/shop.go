package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// Tenants are the shop's two.
var Tenants = [...]string{"acme", "globex"}

//go:embed schema.sql
var schema string

// watches makes the shop's tables known to notifyql. What customers gave in confidence never leaves the database.
const watches = `
	select notifyql.watch('public.orders');
	select notifyql.watch('public.order_items');
	select notifyql.watch('public.products');
	select notifyql.watch('public.customers', exclude => '{email}')`

// Shop is a running demo.
type Shop struct{ server *localpg.Server }

// Start runs a private Postgres, out of the reach of other users, with notifyql's migrations and the shop, watched, in
// it. The caller must Stop it. Where no Postgres is installed the error, localpg.ErrNotInstalled, says how to get one.
func Start(ctx context.Context) (*Shop, error) {
	server, err := localpg.Start(ctx, localpg.Options{SocketOnly: true})
	if err != nil {
		return nil, err
	}
	s := &Shop{server: server}
	if err := s.fill(ctx); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return s, nil
}

const database = "shop"

func (s *Shop) fill(ctx context.Context) error {
	if err := s.server.CreateDatabase(ctx, database, ""); err != nil {
		return err
	}
	if err := migrate.Up(ctx, s.URL()); err != nil {
		return err
	}
	if err := Install(ctx, s.URL()); err != nil {
		return err
	}
	return Watch(ctx, s.URL())
}

// URL is the shop's database, for its superuser.
func (s *Shop) URL() string { return s.server.URL(database) }

// Version is the Postgres that runs, "15".
func (s *Shop) Version() string { return s.server.Version() }

// Stop ends Postgres and removes its folder.
func (s *Shop) Stop() error { return s.server.Stop() }

// Install makes the shop's tables, with customers and products, in the schema public: all of it or nothing.
func Install(ctx context.Context, url string) error {
	return execute(ctx, url, "installing the demo's tables", schema)
}

// Watch watches the shop's tables. The migrations must have run.
func Watch(ctx context.Context, url string) error {
	return execute(ctx, url, "watching the demo's tables", watches)
}

// execute runs statements in one transaction.
func execute(ctx context.Context, url, what, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil { // several statements at once are one transaction
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

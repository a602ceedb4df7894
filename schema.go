package notifyql

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/internal/pg"
)

// Schema is the GraphQL schema that a database's watched tables make: the whole, of which a client whose roles let it not see some columns
// has the part without them.
type Schema struct {
	SDL      string   // in the schema definition language
	Problems []string // what could not be taken as it is, and what was done about it, a line each
}

// ReadSchema reads what is watched in Config.DatabaseURL, once, and makes the schema of it that a Server with this Config has. It needs a
// database that is up, and listens to nothing.
func ReadSchema(ctx context.Context, c Config) (Schema, error) {
	if _, err := c.applyFeatures(); err != nil {
		return Schema{}, fmt.Errorf("notifyql: %w", err)
	}
	log := c.Logger
	if log == nil {
		log = slog.Default()
	}
	db, err := pg.New(pg.Config{DatabaseURL: c.DatabaseURL, PoolURL: c.PoolURL, Pool: c.Pool, Log: log})
	if err != nil {
		return Schema{}, fmt.Errorf("notifyql: %w", err)
	}
	defer db.Close()
	tables, _, err := db.Catalog(ctx)
	if err != nil {
		return Schema{}, fmt.Errorf("notifyql: %w", err)
	}
	schema, problems, err := buildSchema(c, gqlFields(c.Fields, nil), log, tables, reads{})
	if err != nil {
		return Schema{}, fmt.Errorf("notifyql: %w", err)
	}
	out := Schema{SDL: schema.SDL()}
	for _, p := range problems {
		out.Problems = append(out.Problems, p.String())
	}
	return out, nil
}

// reads is how a schema reads rows: not at all, if it is only to be shown.
type reads struct {
	rows   func(ctx context.Context, q *change.Query) ([]change.Change, error)
	narrow func(ctx context.Context, table string, id *auth.Identity) (map[string]any, error)
}

func buildSchema(c Config, fields []gql.Field, log *slog.Logger, tables catalog.Catalog, r reads) (*gql.Schema, []gql.Problem, error) {
	on, err := c.applyFeatures()
	if err != nil {
		return nil, nil, err
	}
	return gql.Options{
		NoBatches: !on["batches"], NoRows: !on["initial"], NoIntrospection: !on["introspection"],
		Version: version, Federation: c.Federation, Rows: r.rows, Narrow: r.narrow, Log: log,
		Limits: gql.Limits{ResolverTimeout: c.Limits.ResolverTimeout, ResolverBytes: c.Limits.ResolverBytes},
	}.Build(tables, fields)
}

const (
	entitiesPage    = 500             // rows read at a time
	entitiesTimeout = 5 * time.Second // to read them all, waiting for a turn included
)

// entities reads the rows that a gateway asks for by their keys: no more than it may ask for at once.
func (s *Server) entities(ctx context.Context, q *change.Query) (rows []change.Change, err error) {
	q.Quick = true
	ctx, cancel := context.WithTimeout(ctx, entitiesTimeout)
	defer cancel()
	_, err = s.database.Rows(ctx, q, entitiesPage, func(page []change.Change) error {
		rows = append(rows, page...)
		return nil
	})
	return rows, err
}

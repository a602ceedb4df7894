package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Event is a published event: one that is no row.
type Event struct {
	Channel string
	Type    string
	Tenant  string // empty: Shared must be set
	Shared  bool   // for every tenant
	Data    []byte // JSON; nil is null
}

// publish is the call of the database's function. Text parameters let jsonb find fault with what is no JSON.
const publish = `select notifyql.publish($1::text, $2::text::jsonb, $3::text, $4::boolean, $5::text)`

// Publish logs and announces an event in a transaction of its own. When it returns nil the event is committed. A commit may wait for
// a standby: so many at a time publish as leaves connections of the pool for all else.
func (s *Source) Publish(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	select {
	case s.publishers <- struct{}{}:
		defer func() { <-s.publishers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return explain(publishOn(ctx, s.pool, e), s.pool.Config().ConnConfig)
}

// PublishTx publishes in the caller's transaction: the event exists when, and only if, that commits.
func PublishTx(ctx context.Context, tx pgx.Tx, e Event) error { return publishOn(ctx, tx, e) }

func publishOn(ctx context.Context, on interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, e Event,
) error {
	data, tenant := "null", &e.Tenant
	if e.Data != nil {
		data = string(e.Data)
	}
	if e.Tenant == "" {
		tenant = nil
	}
	_, err := on.Exec(ctx, publish, e.Channel, data, tenant, e.Shared, e.Type)
	return err
}

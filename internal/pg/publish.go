package pg

import (
	"context"
	"encoding/json"
	"strconv"

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

// Execer is what publishing in somebody's transaction needs of it: a pgx.Tx, a connection or a pool has it.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func publishOn(ctx context.Context, on Execer, e Event) error {
	_, err := on.Exec(ctx, publish, e.Channel, e.json(), e.tenant(), e.Shared, e.Type)
	return err
}

func (e *Event) json() string {
	if e.Data == nil {
		return "null"
	}
	return string(e.Data)
}

// tenant is what the function takes for none if it is null.
func (e *Event) tenant() *string {
	if e.Tenant == "" {
		return nil
	}
	return &e.Tenant
}

// publishAll is many calls of the function, in order. One parameter of JSON goes through every pooler and every way that pgx has to send a
// statement.
const publishAll = `
select notifyql.publish(e ->> 'channel', e -> 'data', e ->> 'tenant', (e ->> 'shared')::boolean, e ->> 'type')
  from jsonb_array_elements($1::text::jsonb) with ordinality as of_list (e, n)
 order by n`

// PublishTx publishes events, in their order, by one statement in the caller's transaction: they exist when, and only if, that commits.
func PublishTx(ctx context.Context, tx Execer, events []Event) error {
	sql, args := PublishAll(events)
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// PublishAll is the statement that publishes events, and its arguments. Their data must be JSON.
func PublishAll(events []Event) (sql string, args []any) {
	list := []byte{'['}
	for i := range events {
		e := &events[i]
		if i > 0 {
			list = append(list, ',')
		}
		list = appendMember(list, `{"channel":`, e.Channel)
		list = appendMember(list, `,"type":`, e.Type)
		if e.Tenant != "" {
			list = appendMember(list, `,"tenant":`, e.Tenant)
		}
		list = strconv.AppendBool(append(list, `,"shared":`...), e.Shared)
		list = append(append(append(list, `,"data":`...), e.json()...), '}')
	}
	return publishAll, []any{string(append(list, ']'))}
}

func appendMember(list []byte, name, text string) []byte {
	value, _ := json.Marshal(text) // a string always encodes
	return append(append(list, name...), value...)
}

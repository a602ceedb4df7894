package notifyql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/pg"
)

// Event is something that happened and is no row. It goes to the subscriptions of its channel.
type Event struct {
	Channel string // required; at most 255 bytes
	Type    string // what kind of event, for subscribers to tell apart; at most 255 bytes
	Tenant  string // whom it belongs to; with Shared false, required
	Shared  bool   // it belongs to every tenant
	Data    any    // JSON text as json.RawMessage, or a value to encode; at most 16 MiB as JSON, of its numbers all digits counted
}

// maxEvent bounds an event's data. It is kept in memory by each server that has subscribers for it.
const maxEvent = 16 << 20

// Publish sends an event to all its subscribers: with Postgres as the bus, through its log, on every node. It waits
// until the server runs or ctx ends. A nil error means that the event is on the bus. A server that is read-only refuses, with ErrReadOnly.
func (s *Server) Publish(ctx context.Context, e Event) error {
	if s.ReadOnly() {
		return fmt.Errorf("notifyql: publish: %w", ErrReadOnly)
	}
	c, err := e.change()
	if err != nil {
		return fmt.Errorf("notifyql: publish: %w", err)
	}
	if err := s.source.Publish(ctx, c); err != nil {
		return fmt.Errorf("notifyql: publish to %q: %w", e.Channel, err)
	}
	return nil
}

// Execer runs a statement: a pgx.Tx, a *pgx.Conn, a *pgxpool.Conn or a *pgxpool.Pool.
type Execer interface {
	// Exec runs sql with its arguments.
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// PublishTx publishes events, in their order, as a part of the caller's transaction: subscribers get them when, and only if, that commits,
// and together with the rows that it writes. It takes one statement, however many events there are, and needs no Server. On a connection or
// a pool without a transaction it is one of its own. The login needs the right to execute notifyql.publish.
//
// What is wrong with an event is found before anything is sent: such an error leaves the transaction as it was. Any other, of the
// database, has aborted it, as errors of Postgres do.
func PublishTx(ctx context.Context, tx Execer, events ...Event) error {
	list, err := pgEvents(events)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := pg.PublishTx(ctx, tx, list); err != nil {
		return fmt.Errorf("notifyql: publish: %w", err)
	}
	return nil
}

// SQLExecer runs a statement: a *sql.Tx, *sql.Conn or *sql.DB, with any driver for Postgres.
type SQLExecer interface {
	// ExecContext runs query with its arguments.
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// PublishSQL is PublishTx for a transaction of database/sql.
func PublishSQL(ctx context.Context, tx SQLExecer, events ...Event) error {
	list, err := pgEvents(events)
	if err != nil || len(list) == 0 {
		return err
	}
	statement, args := pg.PublishAll(list)
	if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("notifyql: publish: %w", err)
	}
	return nil
}

// QueuePublish is PublishTx for a batch: it queues the statement. An error means that nothing is queued.
func QueuePublish(b *pgx.Batch, events ...Event) error {
	list, err := pgEvents(events)
	if err != nil || len(list) == 0 {
		return err
	}
	statement, args := pg.PublishAll(list)
	b.Queue(statement, args...)
	return nil
}

func pgEvents(events []Event) ([]pg.Event, error) {
	list := make([]pg.Event, len(events))
	size := 0
	for i, e := range events {
		c, err := e.change()
		if err != nil {
			return nil, fmt.Errorf("notifyql: publish: event %d of %d: %w", i+1, len(events), err)
		}
		if size += len(e.Channel) + len(e.Type) + len(e.Tenant) + len(c.New) + eventBytes; size > maxEvents {
			return nil, fmt.Errorf("notifyql: publish: %d events have more than %d MiB; publish them in parts", len(events), maxEvents>>20)
		}
		list[i] = pg.Event{Channel: e.Channel, Type: e.Type, Tenant: e.Tenant, Shared: e.Shared, Data: c.New}
	}
	return list, nil
}

// maxEvents bounds the events of one statement, each with eventBytes beside its data and its texts. Postgres' jsonb has no list of 256 MiB,
// and what it makes of a list of small numbers has six times the bytes of the text.
const (
	maxEvents  = 32 << 20
	eventBytes = 64
)

func (e Event) change() (change.Change, error) {
	switch {
	case e.Channel == "":
		return change.Change{}, errors.New("the event has no channel; set Event.Channel")
	case len(e.Channel) > 255:
		return change.Change{}, errors.New("the event's channel has more than 255 bytes")
	case len(e.Type) > 255:
		return change.Change{}, errors.New("the event's type has more than 255 bytes")
	case e.Tenant == "" && !e.Shared:
		return change.Change{}, errors.New("the event has no tenant, so nobody could see it; set Event.Tenant, or Event.Shared for everybody")
	case e.Tenant != "" && e.Shared:
		return change.Change{}, errors.New("the event has a tenant and is shared; set one of them")
	}
	for name, text := range map[string]string{"Channel": e.Channel, "Type": e.Type, "Tenant": e.Tenant} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return change.Change{}, fmt.Errorf("the field %s of the event is no text that Postgres can hold: it is not UTF-8, or has a zero byte", name)
		}
	}
	data, err := json.Marshal(e.Data)
	if err != nil {
		return change.Change{}, fmt.Errorf("Event.Data is not JSON: %w", err)
	}
	if len(data) > maxEvent {
		return change.Change{}, fmt.Errorf("Event.Data has %d bytes as JSON, more than %d", len(data), maxEvent)
	}
	switch size, err := pg.Storable(data); {
	case err != nil:
		return change.Change{}, fmt.Errorf("Event.Data can't be stored: %w", err)
	case size > maxEvent:
		return change.Change{}, fmt.Errorf("Event.Data has %d bytes as JSON with all digits of its numbers, more than %d", size, maxEvent)
	}
	return change.Change{
		Topic: change.Topic{Channel: e.Channel}, EventType: e.Type, Tenant: e.Tenant, Shared: e.Shared, New: data,
	}, nil
}

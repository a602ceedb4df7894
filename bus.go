package notifyql

import (
	"context"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/bus/memory"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/pg"
	"github.com/notifyql/notifyql/internal/relay"
)

// Bus is what carries changes to a Server: a value for Config.Bus. The zero Bus is Postgres: each server listens to it.
type Bus struct {
	memory bool
	stream bus.Stream
}

// MemoryBus returns the bus of one process: published events only, no database.
func MemoryBus() Bus { return Bus{memory: true} }

// StreamBus returns a bus over a message broker: one server, elected among all, reads the database and passes on what it
// dispatches; the others need the database only for their schema, for rows that stand and for what clients missed. All promises are kept
// whatever the broker does: while it can't be reached, each server reads the change log itself, and Health says so.
//
// All servers of a database must have a bus over the same stream. The caller closes stream, after Run has returned.
// Packages bus/redis and bus/nats, modules of their own, have streams; package bus says how to make another.
func StreamBus(stream bus.Stream) Bus { return Bus{stream: stream} }

// String names the bus, for people, without a secret.
func (b Bus) String() string {
	switch {
	case b.memory:
		return "memory"
	case b.stream != nil:
		return b.stream.String()
	}
	return "postgres"
}

// source is where a Server's changes come from.
type source interface {
	// Run emits what happens until ctx ends. It returns an error only for what trying again can't mend.
	Run(ctx context.Context, emit func(feed.Input)) error
	// Do carries out an action of the feed, without blocking.
	Do(feed.Action)
	// Settle asks for Server.settled to be called once all has been emitted of every transaction of which some has. It
	// does not wait, and returns false if that is so already or can't be asked.
	Settle() bool
	// Publish sends an event. It waits until the source runs or ctx ends.
	Publish(ctx context.Context, e change.Change) error
}

// inProcess is the memory bus as the source: its transactions are complete at once.
type inProcess struct{ *memory.Bus }

func (inProcess) Settle() bool { return false }

// database is Postgres as the source.
type database struct{ *pg.Source }

func (d database) Publish(ctx context.Context, e change.Change) error {
	return d.Source.Publish(ctx, pg.Event{Channel: e.Topic.Channel, Type: e.EventType, Tenant: e.Tenant, Shared: e.Shared, Data: e.New})
}

// relayed is Postgres, of which one server passes on to all what it reads.
type relayed struct {
	database
	relay *relay.Relay
}

func (r relayed) Run(ctx context.Context, emit func(feed.Input)) error {
	return r.relay.Run(ctx, r.Source, emit)
}

func (r relayed) Settle() bool { return r.relay.Settle() }

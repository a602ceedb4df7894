package notifyql

import (
	"context"

	"github.com/notifyql/notifyql/internal/bus/memory"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/pg"
)

// Bus is what carries changes to a Server: a value for Config.Bus. The zero Bus is Postgres.
type Bus struct {
	memory bool
}

// MemoryBus returns the bus of one process: published events only, no database.
func MemoryBus() Bus { return Bus{memory: true} }

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

package notifyql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/notifyql/notifyql/internal/change"
)

// Event is something that happened and is no row. It goes to the subscriptions of its channel.
type Event struct {
	Channel string // required
	Type    string // what kind of event, for subscribers to tell apart
	Tenant  string // whom it belongs to; with Shared false, required
	Shared  bool   // it belongs to every tenant
	Data    any    // JSON text as json.RawMessage, or a value to encode
}

// Publish sends an event to all its subscribers: with Postgres as the bus, through its log, on every node. It waits
// until the server runs or ctx ends. A nil error means that the event is on the bus.
func (s *Server) Publish(ctx context.Context, e Event) error {
	c, err := e.change()
	if err != nil {
		return fmt.Errorf("notifyql: publish: %w", err)
	}
	if err := s.source.Publish(ctx, c); err != nil {
		return fmt.Errorf("notifyql: publish to %q: %w", e.Channel, err)
	}
	return nil
}

func (e Event) change() (change.Change, error) {
	switch {
	case e.Channel == "":
		return change.Change{}, errors.New("the event has no channel; set Event.Channel")
	case e.Tenant == "" && !e.Shared:
		return change.Change{}, errors.New("the event has no tenant, so nobody could see it; set Event.Tenant, or Event.Shared for everybody")
	case e.Tenant != "" && e.Shared:
		return change.Change{}, errors.New("the event has a tenant and is shared; set one of them")
	}
	data, err := json.Marshal(e.Data)
	if err != nil {
		return change.Change{}, fmt.Errorf("Event.Data is not JSON: %w", err)
	}
	return change.Change{
		Topic: change.Topic{Channel: e.Channel}, EventType: e.Type, Tenant: e.Tenant, Shared: e.Shared, New: data,
	}, nil
}

package notifyql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
)

// HTTPHooks are addresses of yours that are told, by POST, what clients do, as functions are by OnConnect, OnSubscribe and OnDisconnect of Config.
// Each is asked if it is not empty. What is sent has the form
//
//	{"event": "connect", "connection": {"id": "…", "remoteAddr": "…", "identity": {"userId": "u1", "tenants": ["acme"], "roles": [], "claims": {}}}}
//
// and with the event subscribe also "subscription": {"id": "1", "field": "ordersChanged", "table": "public.orders", "args": {}}; in process, and
// for a gateway's query, the connection has no id.
//
// 204 allows; 401 and 403 refuse; to subscribe, 200 with {"where": {…}} narrows, as OnSubscribe does. Any other answer, and none in time,
// refuses as well, and is logged as a problem. What is answered to disconnect makes no difference; it is told once. That it was not told is
// logged to the Logger that c has when Apply is called.
type HTTPHooks struct {
	OnConnect, OnSubscribe, OnDisconnect string

	// Timeout is how long an answer may take. Default 3 s.
	Timeout time.Duration
}

// Apply sets the functions of c for the addresses that are there. The error says which address is none.
func (h HTTPHooks) Apply(c *Config) error {
	var errs []error
	hook := func(name, url string) *auth.EventHook {
		if url == "" {
			return nil
		}
		e, err := auth.NewEventHook(url, h.Timeout)
		if err != nil {
			errs = append(errs, fmt.Errorf("notifyql: HTTPHooks.%s: %w", name, err))
		}
		return e
	}
	if e := hook("OnConnect", h.OnConnect); e != nil {
		c.OnConnect = func(ctx context.Context, c *Connection) error {
			where, err := e.Tell(ctx, connectionEvent("connect", c))
			if err == nil && where != nil {
				err = fmt.Errorf("%w: the hook: a filter narrows a subscription, not a connection", auth.ErrUnavailable)
			}
			return err
		}
	}
	if e := hook("OnSubscribe", h.OnSubscribe); e != nil {
		c.OnSubscribe = func(ctx context.Context, s *Subscription) (map[string]any, error) {
			event := connectionEvent("subscribe", &Connection{ID: s.ConnectionID, Identity: s.Identity})
			event["subscription"] = map[string]any{"id": s.ID, "field": s.Field, "table": s.Table, "args": s.Args}
			return e.Tell(ctx, event)
		}
	}
	if e := hook("OnDisconnect", h.OnDisconnect); e != nil {
		log := c.Logger
		if log == nil {
			log = slog.Default()
		}
		c.OnDisconnect = func(c *Connection) { // bounded by the timeout
			if _, err := e.Tell(context.Background(), connectionEvent("disconnect", c)); err != nil {
				log.Warn("a hook was not told that a client has gone", "connection", c.ID, "error", err)
			}
		}
	}
	return errors.Join(errs...)
}

func connectionEvent(name string, c *Connection) map[string]any {
	id := map[string]any{"userId": c.Identity.UserID, "tenants": c.Identity.Tenants, "roles": c.Identity.Roles, "claims": c.Identity.Claims}
	if !c.Identity.ExpiresAt.IsZero() {
		id["expiresAt"] = c.Identity.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return map[string]any{"event": name, "connection": map[string]any{"id": c.ID, "remoteAddr": c.RemoteAddr, "identity": id}}
}

package notifyql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/internal/ws"
)

// Connection is a client that Config.Auth has accepted: a socket, or a stream of Server-Sent Events. It is not to be
// changed.
type Connection struct {
	ID         string // random, never used again
	Identity   Identity
	RemoteAddr string
}

// Subscription is one that a client wants to begin. It is not to be changed.
type Subscription struct {
	ID           string // the client's, unique on its connection; empty in process
	ConnectionID string // empty in process, and for a federation gateway's query
	Identity     Identity
	Field        string         // of Subscription, such as ordersChanged; _entities for rows that a federation gateway looks up
	Table        string         // such as public.orders; empty for a custom field
	Args         map[string]any // the field's, coerced, as FieldEvent has them; nil for _entities
}

// connecting asks Config.OnConnect.
func (s *Server) connecting(ctx context.Context, c *Connection) error {
	if s.cfg.OnConnect == nil {
		return nil
	}
	err := s.guarded("OnConnect", func() error { return s.cfg.OnConnect(ctx, c) })
	if err != nil {
		s.log.Log(ctx, refusal(err), "a client was refused by OnConnect", "connection", c.ID, "error", err)
	}
	return err
}

// refusal is at which level it is logged that somebody was refused: that it could not be found out whether he should be is a problem.
func refusal(err error) slog.Level {
	if errors.Is(err, auth.ErrUnavailable) {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (s *Server) disconnected(c *Connection) {
	if s.cfg.OnDisconnect == nil {
		return
	}
	_ = s.guarded("OnDisconnect", func() error { // a panic is logged
		s.cfg.OnDisconnect(c)
		return nil
	})
}

// allowed asks Config.OnSubscribe, and returns the plan that is narrowed to what it wants, or the errors that refuse it.
func (s *Server) allowed(ctx context.Context, schema *gql.Schema, plan *gql.Plan, op ws.Operation, c *Connection) (*gql.Plan, []byte) {
	if s.cfg.OnSubscribe == nil {
		return plan, nil
	}
	where, err := s.subscribing(ctx, &Subscription{
		ID: op.ID, ConnectionID: c.ID, Identity: c.Identity, Field: plan.Field(), Table: plan.Table(), Args: plan.Args(),
	})
	var told *RequestError
	switch {
	case errors.As(err, &told) && told.tells():
		return nil, told.Errors
	case err != nil:
		s.log.Log(ctx, refusal(err), "a subscription was refused by OnSubscribe", "connection", c.ID, "field", plan.Field(), "error", err)
		return nil, failure("FORBIDDEN", "the subscription is not allowed")
	case where == nil:
		return plan, nil
	}
	narrow, err := schema.Narrow(plan, where)
	if err != nil {
		s.log.Error("what OnSubscribe wants cannot be done; the subscription was refused", "field", plan.Field(), "error", err)
		return nil, failure("FORBIDDEN", "the subscription is not allowed")
	}
	return narrow, nil
}

func (s *Server) subscribing(ctx context.Context, sub *Subscription) (where map[string]any, err error) {
	err = s.guarded("OnSubscribe", func() error {
		where, err = s.cfg.OnSubscribe(ctx, sub)
		return err
	})
	return where, err
}

// narrow is gql.Options.Narrow: a gateway's query sees the rows that a subscription would.
func (s *Server) narrow(ctx context.Context, table string, id *auth.Identity) (map[string]any, error) {
	return s.subscribing(ctx, &Subscription{Identity: Identity(*id), Field: "_entities", Table: table})
}

// guarded turns a panic in a function of the user's into an error: it must end neither the program nor be taken for a yes.
func (s *Server) guarded(name string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error(name+" panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("%s panicked", name)
		}
	}()
	return f()
}

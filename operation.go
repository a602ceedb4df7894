package notifyql

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/subs"
	"github.com/notifyql/notifyql/internal/ws"
)

// start begins an operation. What can't begin, and a query, is a stream too: it ends at once.
func (s *Server) start(ctx context.Context, op ws.Operation, c *Connection, wake func()) ws.Stream {
	id := &c.Identity
	r := gql.Request{Query: op.Query, OperationName: op.OperationName, Variables: op.Variables, Extensions: op.Extensions}
	for {
		schema := s.schema.Load()
		var kind ast.Operation
		var plan *gql.Plan
		var refused []byte
		gone := s.work.Do(ctx, func() {
			if kind, refused = schema.OperationKind(r, id); refused == nil && kind == ast.Subscription {
				plan, refused = schema.Subscribe(r, id)
			}
		})
		switch {
		case gone != nil:
			return &ended{errors: failure("SHUTTING_DOWN", "the connection has ended")}
		case refused != nil:
			return &ended{errors: refused}
		case kind != ast.Subscription:
			return &ended{result: schema.Execute(ctx, r, id)}
		}
		if plan, refused = s.allowed(ctx, schema, plan, op, c); refused != nil {
			return &ended{errors: refused}
		}
		start := plan.Start(id)
		if op.After != "" {
			after, err := change.ParseCursor(op.After)
			if err != nil {
				return &ended{errors: failure("CURSOR_INVALID", "Last-Event-ID: "+err.Error())}
			}
			start = subs.Start{After: &after}
		}
		reader, err := s.attach(plan, id, start, wake)
		if errors.Is(err, subs.ErrNoHistory) {
			return &ended{errors: failure("CURSOR_INVALID", err.Error())}
		}
		if err != nil {
			return &ended{errors: failure("SHUTTING_DOWN", "the server is shutting down; connect again")}
		}
		if s.schema.Load() == schema { // else the plan may have been made for a table that has changed
			return live{reader, plan}
		}
		reader.Close()
	}
}

// reader is a subscription at the hub.
type reader interface {
	Next(dst [][]byte, limit int) ([][]byte, error)
	Progress() subs.Progress
	Close()
}

func (s *Server) attach(plan *gql.Plan, id *Identity, start subs.Start, wake func()) (reader, error) {
	if plan.Follows() {
		return s.hub.Follow(plan, id, start, wake)
	}
	return s.hub.Attach(plan, id, start, wake)
}

// live is a running subscription.
type live struct {
	reader
	plan *gql.Plan
}

// EventID implements sse.Identified.
func (l live) EventID(result []byte) string { return l.plan.EventID(result) }

func (l live) Next(dst [][]byte, limit int) ([][]byte, error) {
	dst, err := l.reader.Next(dst, limit)
	var changed *gql.SchemaChanged
	switch {
	case err == nil:
		return dst, nil
	case errors.Is(err, subs.ErrOverflow):
		err = &ws.OperationError{Errors: failure("OVERFLOW", err.Error()+"; subscribe again")}
	case errors.Is(err, change.ErrDropped), errors.Is(err, change.ErrCursorExpired), errors.Is(err, subs.ErrUntold):
		err = &ws.OperationError{Errors: failure("CURSOR_EXPIRED", err.Error()+"; subscribe again without the cursor, with initial: true")}
	case errors.Is(err, change.ErrCursorInvalid):
		err = &ws.OperationError{Errors: failure("CURSOR_INVALID", err.Error())}
	case errors.Is(err, subs.ErrTooManyRows):
		err = &ws.OperationError{Errors: failure("INITIAL_TOO_LARGE", err.Error()+"; ask for fewer with where or limit")}
	case errors.Is(err, change.ErrUnreadable):
		err = &ws.OperationError{Errors: failure("INITIAL_UNAVAILABLE", err.Error())}
	case errors.Is(err, subs.ErrInterrupted):
		err = &ws.OperationError{Errors: failure("INITIAL_INTERRUPTED", err.Error()+"; subscribe again")}
	case errors.As(err, &changed):
		err = &ws.OperationError{Errors: failure("SCHEMA_CHANGED", changed.Error())}
	case errors.Is(err, subs.ErrClosed):
		err = io.EOF
	}
	return dst, err
}

// ended is an operation that has all its answer.
type ended struct {
	result   []byte // nil if errors
	errors   []byte
	exceeded *limit.Exceeded // of errors
}

func (e *ended) Next(dst [][]byte, _ int) ([][]byte, error) {
	if e.errors != nil {
		return dst, &ws.OperationError{Errors: e.errors, Exceeded: e.exceeded}
	}
	if e.result != nil {
		dst = append(dst, e.result)
		e.result = nil
	}
	return dst, io.EOF
}

func (e *ended) Close() {}

// failure is a list of one GraphQL error.
func failure(code, message string) []byte {
	b, err := json.Marshal([]any{map[string]any{"message": message, "extensions": map[string]any{"code": code}}})
	if err != nil { // strings always encode
		return []byte(`[{"message":"internal error"}]`)
	}
	return b
}

package notifyql

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/gql"
	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/subs"
	"github.com/notifyql/notifyql/internal/ws"
)

// start begins an operation. What can't begin, and a query, is a stream too: it ends at once.
func (s *Server) start(ctx context.Context, op ws.Operation, c *Connection, wake func(), b *beginning) ws.Stream {
	id := c.Identity.inner()
	r := gql.Request{Query: op.Query, OperationName: op.OperationName, Variables: op.Variables, Extensions: op.Extensions}
	for {
		schema := s.schema.Load()
		var kind ast.Operation
		var plan *gql.Plan
		var refused []byte
		b.next("notifyql.validate")
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
		b.next("notifyql.authorize")
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
		b.next("notifyql.join")
		reader, err := s.attach(plan, &c.Identity, start, wake)
		if errors.Is(err, subs.ErrNoHistory) {
			return &ended{errors: failure("CURSOR_INVALID", err.Error())}
		}
		if err != nil {
			return &ended{errors: failure("SHUTTING_DOWN", "the server is shutting down; connect again")}
		}
		if s.schema.Load() == schema { // else the plan may have been made for a table that has changed
			return live{reader, plan, b, &s.written}
		}
		reader.Close()
	}
}

// reader is a subscription at the hub.
type reader interface {
	Next(dst [][]byte, limit int) ([][]byte, error)
	Progress() subs.Progress
	Trace() any
	Oldest() int64
	Close()
}

func (s *Server) attach(plan *gql.Plan, id *Identity, start subs.Start, wake func()) (reader, error) {
	if plan.Follows() {
		return s.hub.Follow(plan, id.inner(), start, wake)
	}
	return s.hub.Attach(plan, id.inner(), start, wake)
}

// live is a running subscription.
type live struct {
	reader
	plan  *gql.Plan
	begun *beginning // nil: nothing is traced of it
	lags  *lags
}

// EventID implements sse.Identified.
func (l live) EventID(result []byte) string { return l.plan.EventID(result) }

// Written implements ws.Timed.
func (l live) Written(at time.Time) {
	if oldest := l.Oldest(); oldest != 0 {
		l.lags.observe(at.UnixMicro() - oldest)
	}
}

func (l live) Next(dst [][]byte, limit int) ([][]byte, error) {
	had := len(dst)
	dst, err := l.reader.Next(dst, limit)
	if l.begun != nil {
		l.begun.gave(len(dst)-had, err, l.reader)
	}
	if err != nil {
		err = ending(err)
	}
	return dst, err
}

// ending is the end of an operation as its client is to see it.
func ending(err error) error {
	var changed *gql.SchemaChanged
	switch {
	case errors.Is(err, subs.ErrOverflow):
		return &ws.OperationError{Errors: failure("OVERFLOW", err.Error()+"; subscribe again")}
	case errors.Is(err, change.ErrDropped), errors.Is(err, change.ErrCursorExpired), errors.Is(err, subs.ErrUntold):
		return &ws.OperationError{Errors: failure("CURSOR_EXPIRED", err.Error()+"; subscribe again without the cursor, with initial: true")}
	case errors.Is(err, change.ErrCursorInvalid):
		return &ws.OperationError{Errors: failure("CURSOR_INVALID", err.Error())}
	case errors.Is(err, subs.ErrTooManyRows):
		return &ws.OperationError{Errors: failure("INITIAL_TOO_LARGE", err.Error()+"; ask for fewer with where or limit")}
	case errors.Is(err, change.ErrUnreadable):
		return &ws.OperationError{Errors: failure("INITIAL_UNAVAILABLE", err.Error())}
	case errors.Is(err, subs.ErrInterrupted):
		return &ws.OperationError{Errors: failure("INITIAL_INTERRUPTED", err.Error()+"; subscribe again")}
	case errors.As(err, &changed):
		return &ws.OperationError{Errors: failure("SCHEMA_CHANGED", changed.Error())}
	case errors.Is(err, subs.ErrClosed):
		return io.EOF
	}
	return err
}

// Taken implements ws.Traced.
func (l live) Taken() (written func(error)) {
	if p, ok := l.reader.Trace().(*passage); ok {
		return p.deliver(l.plan.Field())
	}
	return nil
}

// Close is called once.
func (l live) Close() {
	if l.begun != nil {
		l.begun.gave(0, errGone, l.reader)
	}
	l.reader.Close()
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

// failed is what traces show of it.
func (e *ended) failed() error {
	if e.errors != nil {
		return errRefused
	}
	return nil
}

// failure is a list of one GraphQL error.
func failure(code, message string) []byte {
	b, err := json.Marshal([]any{map[string]any{"message": message, "extensions": map[string]any{"code": code}}})
	if err != nil { // strings always encode
		return []byte(`[{"message":"internal error"}]`)
	}
	return b
}

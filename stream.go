package notifyql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/notifyql/notifyql/internal/ws"
)

// Request is a GraphQL operation and who asks.
type Request struct {
	Query         string
	OperationName string // needed if Query has several operations
	Variables     map[string]any
	Identity      Identity
}

// RequestError is a refused operation, or a subscription that the server ended.
type RequestError struct {
	Errors json.RawMessage // a JSON array of GraphQL errors, with message, locations, path and extensions.code
}

// tells reports whether there is what a client can be told: one that the program's own code made may be nil, empty or no JSON.
func (e *RequestError) tells() bool {
	var list []struct{ Message string }
	return e != nil && json.Unmarshal(e.Errors, &list) == nil && len(list) > 0
}

func (e *RequestError) Error() string {
	if e == nil {
		return "notifyql: <nil>"
	}
	var list []struct{ Message string }
	if json.Unmarshal(e.Errors, &list) != nil || len(list) == 0 {
		return "notifyql: " + string(e.Errors)
	}
	if len(list) > 1 {
		return fmt.Sprintf("notifyql: %s (and %d more errors)", list[0].Message, len(list)-1)
	}
	return "notifyql: " + list[0].Message
}

// Stream is a running subscription in process. Its methods may be called from any goroutine; of several that call Next, each gets
// results of its own.
type Stream struct {
	inner ws.Stream
	wake  chan struct{}
	gone  chan struct{} // closed by Close
	once  sync.Once

	turn  chan struct{} // holds a token while somebody is in Next: it guards
	ready [][]byte
	err   error
}

// Subscribe starts a subscription and gets every matching change from now on. It waits until the server is ready, or
// ctx ends; ctx has no bearing on the stream afterwards. The error is a *RequestError for an operation that is refused.
// The caller must close the stream.
func (s *Server) Subscribe(ctx context.Context, r Request) (*Stream, error) {
	if err := s.awaitReady(ctx); err != nil {
		return nil, err
	}
	var variables []byte
	if r.Variables != nil {
		var err error
		if variables, err = json.Marshal(r.Variables); err != nil {
			return nil, fmt.Errorf("notifyql: variables are not JSON: %w", err)
		}
	}
	st := &Stream{wake: make(chan struct{}, 1), gone: make(chan struct{}), turn: make(chan struct{}, 1)}
	op := ws.Operation{Query: r.Query, OperationName: r.OperationName, Variables: variables}
	p := partyOf(&r.Identity)
	st.inner = s.begin(ctx, op, &Connection{Identity: r.Identity}, &p, func() {
		select {
		case st.wake <- struct{}{}:
		default:
		}
	})
	if st.fill(); st.err != nil && len(st.ready) == 0 && !errors.Is(st.err, io.EOF) {
		st.inner.Close()
		return nil, st.err
	}
	return st, nil
}

// Next returns the next result, the JSON text of a GraphQL ExecutionResult, which must not be changed. It waits for one
// until ctx ends, which does the stream no harm. At the end of the operation, of the server, or after Close the error is io.EOF; a
// *RequestError if the server ended the subscription for a reason.
func (st *Stream) Next(ctx context.Context) ([]byte, error) {
	select {
	case st.turn <- struct{}{}:
		defer func() { <-st.turn }()
	case <-st.gone:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		select {
		case <-st.gone:
			return nil, io.EOF
		default:
		}
		if len(st.ready) == 0 && st.err == nil {
			st.fill()
		}
		if len(st.ready) > 0 {
			b := st.ready[0]
			st.ready[0] = nil
			st.ready = st.ready[1:]
			return b, nil
		}
		if st.err != nil {
			return nil, st.err
		}
		select {
		case <-st.wake:
		case <-st.gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (st *Stream) fill() {
	var err error
	st.ready, err = st.inner.Next(st.ready[:0], 64)
	if traced, ok := st.inner.(ws.Traced); ok && len(st.ready) > 0 {
		if written := traced.Taken(); written != nil {
			written(nil) // the program has it
		}
	}
	var refused *ws.OperationError
	if errors.As(err, &refused) {
		err = &RequestError{Errors: refused.Errors}
	}
	st.err = err
}

// Close ends the subscription; a Next that waits returns io.EOF. It may be called more than once.
func (st *Stream) Close() error {
	st.once.Do(func() {
		close(st.gone)
		st.turn <- struct{}{} // whoever has it sees gone, and leaves
		st.inner.Close()
		<-st.turn
	})
	return nil
}

package ws

import (
	"context"
	"time"

	"github.com/notifyql/notifyql/internal/limit"
)

// Socket is one accepted WebSocket of any library. Read is called by one goroutine, Write and Ping by one other at a
// time; Close by any, also while Read or Write is running, which it ends with an error.
type Socket interface {
	// Subprotocol is the one agreed on in the handshake; empty if none was.
	Subprotocol() string
	// Read returns the next text message; the slice is valid until the next Read. It returns an error once the socket is
	// closed, ctx is done or the peer has sent what is no text message.
	Read(ctx context.Context) ([]byte, error)
	// Write sends each slice as one text message, all in one flush where the library can. It keeps none of them.
	Write(ctx context.Context, messages ...[]byte) error
	// Close sends a close frame with code and reason, of at most 123 bytes, and closes the connection. It may wait some
	// seconds for the peer's close frame. It is safe to call more than once.
	Close(code int, reason string) error
}

// Pinger is a Socket that can send WebSocket's own pings, which the peer's library answers by itself. Without it the
// keep-alive is the protocol's ping message.
type Pinger interface {
	// Ping sends a ping frame and does not wait for the pong.
	Ping(ctx context.Context) error
	// Heard grows with everything that the peer sends, pongs included. Any goroutine may call it.
	Heard() uint64
}

// Service is what the protocol serves: the seam to everything behind it.
type Service interface {
	// Connect decides who the client is. init is the payload of connection_init, a JSON object, or nil. Its error closes
	// the socket: with its code and reason if it is a *CloseError, with 1013 if it is a *limit.Exceeded, otherwise with 4403. ctx
	// is done when the connection ends.
	Connect(ctx context.Context, init []byte) (Session, error)
}

// Session is one accepted client.
type Session interface {
	// Subscribe starts an operation. wake is called, from any goroutine and without blocking, when Next may have
	// something; also before Subscribe returns, and after Close, when it does nothing. A failure to validate, or a result
	// that is complete at once, is a Stream too. ctx is done when the connection ends; op may be kept.
	Subscribe(ctx context.Context, op Operation, wake func()) Stream
	// Close ends the session. Its streams are closed already.
	Close()
}

// Refresher is a Session whose right can be renewed while it is connected.
type Refresher interface {
	// Refresh is called with the payload of a client's ping, between Subscribes. It reports whether the payload asked for
	// that: the pong then comes after it was granted, and does not repeat the payload, which may be secret. An error ends the
	// connection as one of Connect does. ctx is done when the connection ends.
	Refresh(ctx context.Context, payload []byte) (asked bool, err error)
}

// Ender is a Session that can be over before its client goes, as when its right ends.
type Ender interface {
	// Ended is done when the session is over. Its cause says why, a *CloseError how to close the connection.
	Ended() context.Context
}

// Operation is a GraphQL request.
type Operation struct {
	ID            string // the client's, unique among what runs on its connection; empty where it needs none
	Query         string
	OperationName string
	Variables     []byte // a JSON object or nil
	Extensions    []byte // a JSON object or nil
	After         string // what EventID said of the last result that the client has got elsewhere; empty: nothing
}

// Stream is one running operation. Next is not called after Close, nor at the same time.
type Stream interface {
	// Next appends at most limit of what is ready to dst without blocking: ExecutionResults as JSON text, not to be
	// changed. It is called once after Subscribe, after each wake, and again if it gave limit. After the last one err is
	// io.EOF for an operation that is complete, or *OperationError for one that ends with errors; results given along
	// with err are sent first. Any other error ends the operation as an internal one.
	Next(dst [][]byte, limit int) ([][]byte, error)
	Close()
}

// Traced is a Stream that wants to know when some of its results are written.
type Traced interface {
	// Taken is called after each Next that gave results, by who called it. The function that it returns, if not nil, is called once
	// they have been written, with the error if they could not be.
	Taken() (written func(error))
}

// Timed is a Stream that is told when what Next gave is written.
type Timed interface {
	// Written is called when a write that has at least the first of what Next gave has returned: the socket has taken it, not the
	// client. It is called as Next is, but perhaps after Close.
	Written(at time.Time)
}

// OperationError ends an operation with the protocol's error message.
type OperationError struct {
	Errors   []byte          // a JSON array of GraphQL errors
	Exceeded *limit.Exceeded // not nil: the limit that they tell of
}

func (e *OperationError) Error() string { return string(e.Errors) }

// Unwrap gives the limit that was exceeded.
func (e *OperationError) Unwrap() error {
	if e.Exceeded == nil {
		return nil
	}
	return e.Exceeded
}

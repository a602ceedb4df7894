package ws

import "context"

// Socket is one accepted WebSocket of any library. Read is called by one goroutine, Write by one other at a time; Close
// by any.
type Socket interface {
	// Subprotocol is the one agreed on in the handshake; empty if none was.
	Subprotocol() string
	// Read returns the next text message; the slice is valid until the next Read. It returns an error once the socket is closed, ctx is done or the
	// peer has sent what is no text message.
	Read(ctx context.Context) ([]byte, error)
	// Write sends each slice as one text message, all in one flush where the library can. It keeps none of them.
	Write(ctx context.Context, messages ...[]byte) error
	// Close sends a close frame with code and reason and closes the connection. It is safe to call more than once.
	Close(code int, reason string) error
}

// Service is what the protocol serves: the seam to everything behind it.
type Service interface {
	// Connect decides who the client is. Its error closes the socket with 4403.
	Connect(ctx context.Context, init []byte) (Session, error)
}

// Session is one accepted client.
type Session interface {
	// Subscribe starts an operation. wake is called, from any goroutine and without blocking, when Next may have
	// something. A failure to validate, or a result that is complete at once, is a Stream too.
	Subscribe(ctx context.Context, op Operation, wake func()) Stream
	// Close ends the session. Its streams are closed already.
	Close()
}

// Operation is a GraphQL request.
type Operation struct {
	Query         string
	OperationName string
	Variables     []byte // a JSON object or nil
	Extensions    []byte // a JSON object or nil
}

// Stream is one running operation.
type Stream interface {
	// Next appends what is ready to dst without blocking: ExecutionResults as JSON text, not to be changed. After the
	// last one err is io.EOF for an operation that is complete, or *OperationError for one that ends with errors.
	Next(dst [][]byte, limit int) ([][]byte, error)
	Close()
}

// OperationError ends an operation with the protocol's error message.
type OperationError struct {
	Errors []byte // a JSON array of GraphQL errors
}

func (e *OperationError) Error() string { return string(e.Errors) }

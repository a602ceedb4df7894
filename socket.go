package notifyql

import (
	"context"
	"net/http"

	"github.com/notifyql/notifyql/internal/ws"
	"github.com/notifyql/notifyql/socket"
)

// Socket is one accepted WebSocket, of any library. Read is called by one goroutine, Write and Ping by one other at a time;
// Close by any, also while Read or Write is running, which it ends with an error. After an error of Read or Write it is called, too. Package
// sockettest holds an implementation to what is said here.
type Socket interface {
	// Subprotocol is the one agreed on in the handshake; empty if none was.
	Subprotocol() string

	// Read returns the next text message, put together from its fragments; the slice is valid until the next Read. It
	// returns an error once the socket is closed or ctx is done, a *CloseError if the peer has closed. A message that is not
	// text, or too long, is an error too, and the peer is closed with 1003 or 1009; where the library does not do so itself, Read
	// does. Whether a text is UTF-8 need not be looked at. The library answers pings meanwhile.
	Read(ctx context.Context) ([]byte, error)

	// Write sends each slice as one text message, in their order, all in one flush where the library can. It keeps none of
	// them. It returns when the network has taken them; an error once the socket is closed or ctx is done, after
	// which the socket is of no more use.
	Write(ctx context.Context, messages ...[]byte) error

	// Close sends a close frame with code and reason, of at most 123 bytes, and closes the connection. It may wait some
	// seconds for the peer's close frame, and never longer. Calls after the first do nothing.
	Close(code int, reason string) error
}

// Pinger is a Socket that can send WebSocket's own pings, which the peer's library answers by itself. Without it the
// keep-alive is the protocol's ping message, which not all clients answer.
type Pinger interface {
	// Ping sends a ping frame and does not wait for the pong.
	Ping(ctx context.Context) error

	// Heard grows with everything that the peer sends, pongs included. Any goroutine may call it.
	Heard() uint64
}

// CloseError is how a WebSocket was closed. A Socket's Read returns a pointer to one when the peer has closed, and ServeSocket when either
// side has.
type CloseError = socket.CloseError

// Handshake is what the configuration says of the WebSockets that are to be accepted.
type Handshake struct {
	Subprotocols    []string // that are spoken, the best first; a client that asks for none of them is accepted without one
	MaxMessageBytes int64    // of a client's message; a longer one is closed with 1009
	Compression     bool     // offer permessage-deflate
}

// Upgrade makes a Socket of a WebSocket's handshake. On error it has answered the request. It need not look at the origin,
// which has been looked at. The socket is used when the handler has returned, and must then not need its request.
type Upgrade func(w http.ResponseWriter, r *http.Request, h Handshake) (Socket, error)

// Handshake is what to accept a WebSocket with that is given to ServeSocket.
func (s *Server) Handshake() Handshake {
	return Handshake{Subprotocols: s.subprotocols(), MaxMessageBytes: s.cfg.Limits.MessageBytes, Compression: s.cfg.Compression}
}

// ServeSocket speaks the socket's subprotocol until the connection ends, and closes the socket. It is for programs that accept
// WebSockets in their own way; Config.Upgrade is simpler where Handler may do that. The limits, Config.Auth and the hooks are as for
// Handler's sockets; whether the request's origin may open one is for the caller to see. request is the handshake's.
//
// It returns nil if the client closed the connection normally, and otherwise why it ended: a *CloseError if one
// side said so. When ctx ends, the connection is closed with 1001, or as the *CloseError says that is ctx's cause; when Run
// ends, with 1012. Then clients come back.
func (s *Server) ServeSocket(ctx context.Context, socket Socket, request *http.Request) error {
	r := s.proxies.unwrap(request)
	if no := s.admit(r); no != nil {
		e := ws.Refusal(no)
		socket.Close(e.Code, e.Reason) //nolint:errcheck // there is nothing to be done about it
		return e
	}
	defer s.sockets.leave()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(s.sockets.ctx, func() { stop(context.Cause(s.sockets.ctx)) })()
	return s.speak(ctx, socket, s.serviceFor(r, socket))
}

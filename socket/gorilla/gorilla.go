// Package gorilla lets notifyql's sockets be those of gorilla/websocket:
//
//	srv, err := notifyql.New(notifyql.Config{Upgrade: gorilla.Upgrader(), …})
package gorilla

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/socket"
)

// Upgrader returns what accepts WebSockets with gorilla/websocket, for Config.Upgrade. Whoever accepts sockets in his own
// way calls it and gives the Socket to Server.ServeSocket; the origin is then his to check.
func Upgrader() notifyql.Upgrade {
	writing := new(sync.Pool) // buffers, which an idle connection does not hold
	return func(w http.ResponseWriter, r *http.Request, h notifyql.Handshake) (notifyql.Socket, error) {
		u := websocket.Upgrader{
			Subprotocols: h.Subprotocols, EnableCompression: h.Compression,
			ReadBufferSize: 512, WriteBufferSize: 4096, WriteBufferPool: writing,
			CheckOrigin: func(*http.Request) bool { return true }, // it has been looked at
		}
		under := &socket.Hijacker{ResponseWriter: w}
		c, err := u.Upgrade(under, r, nil)
		if err != nil {
			return nil, err
		}
		c.SetReadLimit(h.MaxMessageBytes) // of what comes over the network
		c.SetCloseHandler(func(code int, text string) error {
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Time{})
			return nil
		})
		return &conn{ws: c, under: under.Conn, max: h.MaxMessageBytes}, nil
	}
}

// conn is a Socket, and a Pinger.
type conn struct {
	ws    *websocket.Conn
	under *socket.Conn
	max   int64        // of a message
	in    bytes.Buffer // the message that Read has returned
}

func (c *conn) Subprotocol() string { return c.ws.Subprotocol() }

func (c *conn) Read(ctx context.Context) ([]byte, error) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, c.under.Abort)()
	}
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, c.readError(err)
	}
	if kind != websocket.TextMessage {
		return nil, c.refuse(websocket.CloseUnsupportedData, "Only text messages are supported")
	}
	if c.in.Cap() > 16<<10 {
		c.in = bytes.Buffer{}
	}
	c.in.Reset()
	if _, err := c.in.ReadFrom(io.LimitReader(r, c.max+1)); err != nil {
		return nil, c.readError(err)
	}
	if int64(c.in.Len()) > c.max { // it was compressed
		return nil, c.refuse(websocket.CloseMessageTooBig, "Message too big")
	}
	return c.in.Bytes(), nil
}

func (c *conn) refuse(code int, reason string) error {
	_ = c.Close(code, reason)
	return &notifyql.CloseError{Code: code, Reason: reason}
}

// readError sees to it that the peer is told, which the library has done in most cases.
func (c *conn) readError(err error) error {
	var peer *websocket.CloseError
	switch {
	case errors.As(err, &peer) && peer.Code != websocket.CloseAbnormalClosure: // which stands for an end without a close frame
		return &notifyql.CloseError{Code: peer.Code, Reason: peer.Text}
	case errors.Is(err, websocket.ErrReadLimit):
		return c.refuse(websocket.CloseMessageTooBig, "Message too big")
	}
	_ = c.Close(websocket.CloseProtocolError, "WebSocket protocol error")
	return fmt.Errorf("reading from websocket: %w", err)
}

func (c *conn) Write(ctx context.Context, messages ...[]byte) error {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, c.under.Abort)()
	}
	c.under.Cork()
	var err error
	for _, m := range messages {
		if err = c.ws.WriteMessage(websocket.TextMessage, m); err != nil {
			break
		}
	}
	return errors.Join(err, c.under.Uncork())
}

func (c *conn) Ping(context.Context) error {
	return c.ws.WriteControl(websocket.PingMessage, nil, time.Time{})
}

func (c *conn) Heard() uint64 { return c.under.Heard() }

func (c *conn) Close(code int, reason string) error {
	if code == 3008 { // a peer that is closed because it is silent is hardly waited for
		c.under.SetLinger(time.Second)
	}
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Time{}) // or it is closed already
	return c.under.Close()
}

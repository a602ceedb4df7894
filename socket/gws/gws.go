// Package gws lets notifyql's sockets be those of github.com/lxzan/gws:
//
//	srv, err := notifyql.New(notifyql.Config{Upgrade: gws.Upgrader(), …})
//
// The library calls back for each message, so a socket has a goroutine more than with the others.
package gws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lxzan/gws"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/socket"
)

// Upgrader returns what accepts WebSockets with gws, for Config.Upgrade. Whoever accepts sockets in his own way calls
// it and gives the Socket to Server.ServeSocket; the origin is then his to check.
func Upgrader() notifyql.Upgrade {
	var mu sync.Mutex
	made := map[string]*gws.Upgrader{} // each has pools of its own; a server has one Handshake
	return func(w http.ResponseWriter, r *http.Request, h notifyql.Handshake) (notifyql.Socket, error) {
		// The library refuses a client that asks for no subprotocol that it is to speak.
		h.Subprotocols = choose(h.Subprotocols, r)
		mu.Lock()
		key := fmt.Sprint(h)
		u := made[key]
		if u == nil {
			u = newUpgrader(h)
			made[key] = u
		}
		mu.Unlock()
		if r.Method != http.MethodGet || r.Header.Get("Sec-WebSocket-Key") == "" { // the library says so only to whom it has hijacked
			http.Error(w, "this is no handshake of a WebSocket", http.StatusBadRequest)
			return nil, errors.New("no handshake")
		}
		under := &socket.Hijacker{ResponseWriter: w}
		_, buffered, err := under.Hijack()
		if err != nil {
			http.Error(w, "a WebSocket can't be opened here", http.StatusInternalServerError)
			return nil, err
		}
		ws, err := u.UpgradeFromConn(under.Conn, buffered.Reader, r)
		if err != nil {
			return nil, err
		}
		c := &conn{ws: ws, under: under.Conn, in: make(chan *gws.Message), closing: make(chan struct{}), ended: make(chan struct{})}
		ws.Session().Store("", c)
		go c.readLoop()
		return c, nil
	}
}

// choose is the subprotocol to speak, the best that the client asks for; empty if it asks for none of ours.
func choose(ours []string, r *http.Request) []string {
	for _, name := range ours {
		for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
			for word := range strings.SplitSeq(line, ",") {
				if strings.TrimSpace(word) == name {
					return []string{name}
				}
			}
		}
	}
	return nil
}

func newUpgrader(h notifyql.Handshake) *gws.Upgrader {
	return gws.NewUpgrader(events{}, &gws.ServerOption{
		SubProtocols: h.Subprotocols, ReadMaxPayloadSize: int(h.MaxMessageBytes), WriteMaxPayloadSize: 1 << 30,
		PermessageDeflate: gws.PermessageDeflate{Enabled: h.Compression},
		Logger:            quiet{},
	})
}

// events are what the library calls, in the goroutine of ReadLoop.
type events struct{ gws.BuiltinEventHandler }

func of(ws *gws.Conn) *conn {
	v, _ := ws.Session().Load("")
	return v.(*conn)
}

func (events) OnPing(ws *gws.Conn, payload []byte) { _ = ws.WritePong(payload) }

func (events) OnMessage(ws *gws.Conn, m *gws.Message) {
	c := of(ws)
	switch {
	case m.Opcode != gws.OpcodeText:
		c.refuse(1003, "Only text messages are supported")
	default:
		select {
		case c.in <- m: // Read closes it
			return
		case <-c.closing:
		}
	}
	m.Close()
}

func (events) OnClose(ws *gws.Conn, err error) {
	c := of(ws)
	var peer *gws.CloseError
	var code interface{ Uint16() uint16 } // of the library's own close frame
	switch {
	case c.why != nil:
	case errors.As(err, &peer):
		c.why = &notifyql.CloseError{Code: int(peer.Code), Reason: string(peer.Reason)}
	case errors.As(err, &code) && code.Uint16() == 1009:
		c.why = &notifyql.CloseError{Code: 1009, Reason: "Message too big"}
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		c.why = err
	default:
		c.why = fmt.Errorf("reading from websocket: %w", err)
	}
	close(c.ended)
}

// quiet is where the library logs panics of callbacks, of which there are none.
type quiet struct{}

func (quiet) Error(...any) {}

// conn is a Socket, and a Pinger.
type conn struct {
	ws    *gws.Conn
	under *socket.Conn

	in      chan *gws.Message
	last    *gws.Message // that Read has returned
	closing chan struct{}
	once    sync.Once

	ended chan struct{} // closed when ReadLoop is over
	why   error         // of ReadLoop's goroutine, until then
}

func (c *conn) Subprotocol() string { return c.ws.SubProtocol() }

func (c *conn) Read(ctx context.Context) ([]byte, error) {
	if c.last != nil {
		c.last.Close()
		c.last = nil
	}
	select {
	case c.last = <-c.in:
		return c.last.Bytes(), nil
	case <-c.ended:
		return nil, c.why
	case <-c.closing:
		return nil, net.ErrClosed
	case <-ctx.Done():
		c.under.Abort()
		return nil, ctx.Err()
	}
}

// readLoop calls back until the connection ends. The library panics for a frame whose length is negative.
func (c *conn) readLoop() {
	defer func() {
		if p := recover(); p != nil {
			c.refuse(1002, "WebSocket protocol error")
			close(c.ended)
		}
	}()
	c.ws.ReadLoop()
}

// refuse closes from within ReadLoop.
func (c *conn) refuse(code uint16, reason string) {
	c.why = &notifyql.CloseError{Code: int(code), Reason: reason}
	_ = c.ws.WriteClose(code, []byte(reason))
}

func (c *conn) Write(ctx context.Context, messages ...[]byte) error {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, c.under.Abort)()
	}
	c.under.Cork()
	var err error
	for _, m := range messages {
		if err = c.ws.WriteMessage(gws.OpcodeText, m); err != nil {
			break
		}
	}
	return errors.Join(err, c.under.Uncork())
}

func (c *conn) Ping(context.Context) error { return c.ws.WritePing(nil) }

func (c *conn) Heard() uint64 { return c.under.Heard() }

func (c *conn) Close(code int, reason string) error {
	c.once.Do(func() { close(c.closing) })
	if code == 3008 { // a peer that is closed because it is silent is hardly waited for
		c.under.SetLinger(time.Second)
	}
	_ = c.ws.WriteClose(uint16(code), []byte(reason)) // or somebody else is at it; the library closes the connection in either case
	<-c.ended
	return nil
}

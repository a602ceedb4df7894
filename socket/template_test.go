package socket_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/socket"
	"github.com/notifyql/notifyql/sockettest"
)

// The template of docs/sockets.md.

// Upgrade is for Config.Upgrade.
func Upgrade(w http.ResponseWriter, r *http.Request, h notifyql.Handshake) (notifyql.Socket, error) {
	u := websocket.Upgrader{Subprotocols: h.Subprotocols, CheckOrigin: func(*http.Request) bool { return true }}
	under := &socket.Hijacker{ResponseWriter: w}
	c, err := u.Upgrade(under, r, nil)
	if err != nil {
		return nil, err // the library has answered
	}
	c.SetReadLimit(h.MaxMessageBytes)
	return &conn{c, under.Conn}, nil
}

type conn struct {
	ws    *websocket.Conn // the library's
	under *socket.Conn    // the connection below it
}

func (c *conn) Subprotocol() string { return c.ws.Subprotocol() }

func (c *conn) Read(ctx context.Context) ([]byte, error) {
	defer context.AfterFunc(ctx, c.under.Abort)()
	kind, b, err := c.ws.ReadMessage()
	var peer *websocket.CloseError
	switch {
	case errors.As(err, &peer) && peer.Code != websocket.CloseAbnormalClosure: // the peer has closed, and has not just gone
		return nil, &notifyql.CloseError{Code: peer.Code, Reason: peer.Text}
	case err == nil && kind != websocket.TextMessage:
		c.Close(websocket.CloseUnsupportedData, "Only text messages are supported")
		err = errors.New("the peer has sent what is no text")
	}
	return b, err
}

func (c *conn) Write(ctx context.Context, messages ...[]byte) error {
	defer context.AfterFunc(ctx, c.under.Abort)()
	c.under.Cork() // the library writes into memory
	var err error
	for _, m := range messages {
		if err = c.ws.WriteMessage(websocket.TextMessage, m); err != nil {
			break
		}
	}
	return errors.Join(err, c.under.Uncork()) // and this to the network
}

func (c *conn) Close(code int, reason string) error {
	c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Time{})
	return c.under.Close()
}

// conn is a Pinger, too.

func (c *conn) Ping(context.Context) error {
	return c.ws.WriteControl(websocket.PingMessage, nil, time.Time{})
}

func (c *conn) Heard() uint64 { return c.under.Heard() }

// The end of the template.

func TestTemplate(t *testing.T) { sockettest.Run(t, Upgrade) }

func TestTemplateIsInTheDocs(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, code, _ := strings.Cut(read("template_test.go"), "// The template of docs/sockets.md.\n\n")
	code, _, _ = strings.Cut(code, "// The end of the template.")
	if !strings.Contains(read("../docs/sockets.md"), "```go\n"+strings.TrimSpace(code)+"\n```") {
		t.Error("docs/sockets.md has another template than this file")
	}
}

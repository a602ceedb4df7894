package notifyql_test

import (
	"net/http"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/ws"
	"github.com/notifyql/notifyql/sockettest"
)

// The sockets that Handler has by itself.
func TestSocketByDefault(t *testing.T) {
	t.Parallel()
	sockettest.Run(t, func(w http.ResponseWriter, r *http.Request, h notifyql.Handshake) (notifyql.Socket, error) {
		return ws.Accept(w, r, ws.AcceptOptions{MaxMessageBytes: h.MaxMessageBytes, Compression: h.Compression})
	})
}

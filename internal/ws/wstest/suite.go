// Package wstest tries internal/ws: with a pipe in place of a socket, and with the sockets of any WebSocket library, clients that
// write frames by hand and the clients of npm.
package wstest

import (
	"net/http"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/ws"
)

// The subprotocols.
const (
	transportWS = "graphql-transport-ws"
	legacyWS    = "graphql-ws"
)

// Of internal/ws.
const (
	defaultMaxMessage = 1 << 20
	batchBytes        = 32 << 10
	perTurn           = 16
	maxWaiting        = 64 << 10
	maxFragments      = 1024
)

// library is where sockets come from.
type library struct {
	upgrade notifyql.Upgrade // nil: ws.Accept
}

// own is what the server has by itself.
var own library

func newServer(t testing.TB, f *fake, a ws.AcceptOptions, o ws.Options) *server {
	t.Helper()
	return own.newServer(t, f, a, o)
}

func (lib library) accept(w http.ResponseWriter, r *http.Request, o ws.AcceptOptions) (ws.Socket, error) {
	if lib.upgrade == nil {
		return ws.Accept(w, r, o)
	}
	if err := o.Allow(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return nil, err
	}
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = defaultMaxMessage
	}
	return lib.upgrade(w, r, notifyql.Handshake{Subprotocols: ws.Subprotocols(), MaxMessageBytes: o.MaxMessageBytes, Compression: o.Compression})
}

func (lib library) refuse(w http.ResponseWriter, r *http.Request, o ws.AcceptOptions, why *ws.CloseError) {
	if lib.upgrade == nil {
		_ = ws.Refuse(w, r, o, why)
		return
	}
	if s, err := lib.accept(w, r, o); err == nil {
		_ = s.Close(why.Code, why.Reason)
	}
}

// echo is what our close frame repeats of the client's. Other libraries need not.
func (lib library) echo(text string) string {
	if lib.upgrade != nil {
		return ""
	}
	return text
}

// Run runs all that does not depend on what a library is like inside over the sockets of another one.
func Run(t *testing.T, upgrade notifyql.Upgrade) {
	lib := library{upgrade}
	for name, test := range map[string]func(*testing.T){
		"FramesOfEveryShape":          lib.framesOfEveryShape,
		"FramesThatClose":             lib.framesThatClose,
		"ProtocolErrorsThroughFrames": lib.protocolErrorsThroughFrames,
		"Subprotocols":                lib.subprotocols,
		"ClientCloses":                lib.clientCloses,
		"IDsBelongToConnections":      lib.iDsBelongToConnections,
		"Refuse":                      lib.refused,
		"GraphQLWSClient":             lib.graphQLWSClient,
		"RollingRestart":              lib.rollingRestart,
		"CloseCodesInTheDocs":         lib.closeCodesInTheDocs,
		"LegacyClient":                lib.legacyClient,
		"ClientThatNeverReads":        lib.clientThatNeverReads,
		"ClientThatReadsBytes":        lib.clientThatReadsBytes,
		"ClientThatNeverPongs":        lib.clientThatNeverPongs,
		"ClientThatNeverBegins":       lib.clientThatNeverBegins,
		"ClientThatStopsInTheMiddle":  lib.clientThatStopsInTheMiddle,
		"ClientThatVanishes":          lib.clientThatVanishes,
		"ComingAndGoing":              lib.comingAndGoing,
		"FloodsHarmNobodyElse":        lib.floodsHarmNobodyElse,
	} {
		t.Run(name, test)
	}
}

package gorilla_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/notifyql/notifyql/internal/ws/wstest"
	"github.com/notifyql/notifyql/socket/gorilla"
	"github.com/notifyql/notifyql/sockettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSocket(t *testing.T) { sockettest.Run(t, gorilla.Upgrader()) }

// The server's protocols over these sockets, with clients that are real and clients that are none.
func TestProtocols(t *testing.T) { wstest.Run(t, gorilla.Upgrader()) }

package gorilla_test

import (
	"testing"

	"github.com/notifyql/notifyql/socket/gorilla"
	"github.com/notifyql/notifyql/sockettest"
)

func TestSocket(t *testing.T) { sockettest.Run(t, gorilla.Upgrader()) }

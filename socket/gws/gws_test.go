package gws_test

import (
	"testing"

	"github.com/notifyql/notifyql/socket/gws"
	"github.com/notifyql/notifyql/sockettest"
)

func TestSocket(t *testing.T) { sockettest.Run(t, gws.Upgrader()) }

package filter

import (
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, nil) }

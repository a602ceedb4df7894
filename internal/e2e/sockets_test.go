package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var buildSockets = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(root(), ".cache", "e2e", "sockets")
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", bin, "./test/sockets")
	cmd.Dir = root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, nil
})

// serving starts a server at an address and waits until it is ready.
type serving func(t *testing.T, url, addr string) *server

// overEachLibrary runs a test with the real binary, and with servers whose sockets are another library's.
func overEachLibrary(t *testing.T, test func(t *testing.T, serve serving)) {
	t.Run("coder", func(t *testing.T) { test(t, serve) })
	for _, library := range []string{"gorilla", "gws"} {
		t.Run(library, func(t *testing.T) {
			test(t, func(t *testing.T, url, addr string) *server {
				t.Helper()
				bin, err := buildSockets()
				if err != nil {
					t.Fatal(err)
				}
				s := &server{launch(t, "", []string{"DATABASE_URL=" + url, "NOTIFYQL_ADDR=" + addr, "LIBRARY=" + library}, bin), addr}
				s.await(t, "to be ready", func(h health) bool { return h.Status == "ready" })
				return s
			})
		})
	}
}

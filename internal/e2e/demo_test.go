package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The demo starts, a real client gets an event, it stops, and neither a process nor a folder of it remains.
func TestTheDemo(t *testing.T) {
	tmp := t.TempDir()
	if err := os.Chmod(filepath.Dir(tmp), 0o755); err != nil { // Postgres runs as another user where we are root
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	d := launch(t, "", []string{"TMPDIR=" + tmp}, binary(t), "demo", "--addr", addr, "--pace", "20ms")
	var said strings.Builder
	for !strings.Contains(said.String(), "subscribers see") {
		said.WriteString(d.line(t))
	}
	for _, want := range []string{"http://" + addr + "/graphql", "ordersChanged", `{"tenantId": "acme"}`} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the demo does not say %s:\n%s", want, said.String())
		}
	}
	for line := ""; !strings.Contains(line, `"kind":"INSERT"`); {
		line = d.line(t)
	}
	c := connect(t, addr, map[string]any{"tenantId": "globex"}, subscription{Query: `subscription { ordersChanged { kind new { number } } }`})
	if got := c.next(t); !strings.HasPrefix(got, `{"data":{"ordersChanged":{"kind":`) {
		t.Errorf("the client got %s", got)
	}
	if len(folders(t, tmp)) == 0 || len(processesIn(t, tmp)) == 0 {
		t.Fatal("the demo's database is not where this test looks for it")
	}
	if err := d.stop(syscall.SIGINT); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	if left := folders(t, tmp); len(left) > 0 {
		t.Errorf("the demo left %v", left)
	}
	for _, pid := range processesIn(t, tmp) {
		t.Errorf("process %s still runs", pid)
	}
}

func folders(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// processesIn lists the processes whose command names a file under dir.
func processesIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), dir) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

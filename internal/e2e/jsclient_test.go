package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/test/npm"
)

var buildJSClient = sync.OnceValues(func() (string, error) { return npmRun(filepath.Join(root(), "clients", "js"), "build") })

// jsClient is the folder of the JavaScript client, built.
func jsClient(t *testing.T) string {
	t.Helper()
	dir := npm.Install(t, filepath.Join(root(), "clients", "js"))
	if out, err := buildJSClient(); err != nil {
		t.Fatalf("npm run build: %v\n%s", err, out)
	}
	return dir
}

// npmRun runs a script of a package and returns what it wrote.
func npmRun(dir, script string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "npm", "run", "--silent", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The client's own tests, which need no server of ours.
func TestTheJavaScriptClientItself(t *testing.T) {
	t.Parallel()
	out, err := npmRun(jsClient(t), "check")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !regexp.MustCompile(`(?m)^# pass [1-9]`).MatchString(out) {
		t.Errorf("no test has passed:\n%s", out)
	}
}

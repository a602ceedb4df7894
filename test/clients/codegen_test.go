//go:build codegen

// Package clients has the common code generators read the schema: a sample app of each must generate, and type-check.
package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/test/npm"
)

// sample is a copy of a sample app in a folder of the test's own, with the schema in it.
func sample(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, noModules{os.DirFS(from)}); err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile("../../internal/gql/testdata/shop.graphql")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "schema.graphql"), schema, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	if out, err := run(t, dir, name, args...); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func npmSample(t *testing.T) string {
	t.Helper()
	modules, err := filepath.Abs(npm.Install(t, "npm"))
	if err != nil {
		t.Fatal(err)
	}
	dir := sample(t, "npm")
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTypeScript(t *testing.T) {
	dir := npmSample(t)
	must(t, dir, "npx", "graphql-codegen", "--config", "codegen.json")
	must(t, dir, "npx", "tsc", "-p", ".")

	// What the schema does not have, the types do not have.
	app := filepath.Join(dir, "src", "app.ts")
	text, err := os.ReadFile(app)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(app, []byte(strings.Replace(string(text), "'in_transit'", "'lost'", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, "npx", "tsc", "-p", "."); err == nil || !strings.Contains(out, "OrderStatus") {
		t.Errorf("a label that the enum lacks passes: %s", out)
	}
}

func TestRelay(t *testing.T) {
	dir := npmSample(t)
	must(t, dir, "npx", "relay-compiler", "relay.config.json")
	if made, _ := filepath.Glob(filepath.Join(dir, "relay", "__generated__", "*.ts")); len(made) != 2 {
		t.Errorf("relay-compiler made %v", made)
	}
}

func TestGenqlient(t *testing.T) {
	dir := sample(t, "golang")
	must(t, dir, "go", "tool", "genqlient")
	must(t, dir, "go", "vet", "./...")
}

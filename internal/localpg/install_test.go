//go:build unix

package localpg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAskedVersion(t *testing.T) {
	t.Parallel()
	any, err := find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Version: any.major()})
	if got := query[string](t, s.URL("postgres"), "show server_version"); !strings.HasPrefix(got, s.Version()+".") {
		t.Errorf("asked for %s, got %s", s.Version(), got)
	}
	_, err = Start(t.Context(), Options{Version: "12"})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "scripts/setup.sh postgres-12") {
		t.Errorf("a version that is not here: %v", err)
	}
}

// fake makes a folder that looks like a Postgres of a version.
func fake(t *testing.T, bin, version string) {
	t.Helper()
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"postgres", "initdb"} {
		text := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
		if err := os.WriteFile(filepath.Join(bin, program), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFindsVersionsInTheRepositorysCache(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "repository")
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repo, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(repo, "internal", "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	fake(t, filepath.Join(repo, ".cache", "postgres-77", "bin"), "77.3 (made up)")
	fake(t, filepath.Join(repo, ".cache", "postgres-78", "bin"), "78beta1")
	fake(t, filepath.Join(repo, ".cache", "postgres-9", "bin"), "9.6.24")
	t.Chdir(below)
	if err := os.WriteFile(filepath.Join(repo, "go.work"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(repo), "go.work"), nil, 0o644); err != nil { // is not looked at
		t.Fatal(err)
	}
	fake(t, filepath.Join(filepath.Dir(repo), ".cache", "postgres-79", "bin"), "79.1")
	if got, err := find(t.Context(), "79"); err == nil {
		t.Errorf("beyond the repository: %v", got)
	}
	module := filepath.Join(repo, "cmd", "module") // one of its own in the repository
	if err := os.MkdirAll(module, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(module, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(module)
	if got, err := find(t.Context(), "77"); err != nil || got.version != "77.3" {
		t.Errorf("from a module in it: %v, %v", got, err)
	}
	t.Chdir(below)
	for major, want := range map[string]string{"77": "77.3", "78": "78"} {
		got, err := find(t.Context(), major)
		if err != nil || got.version != want {
			t.Errorf("%s: %v, %v", major, got, err)
		}
	}
	if got, err := find(t.Context(), "9"); err == nil {
		t.Errorf("too old a version: %v", got)
	}
	want, ok := newest(t.Context(), systemDirs(), "") // goes first, for its other programs
	if !ok {
		want, _ = newest(t.Context(), cacheDirs(), "78")
	}
	if got, err := find(t.Context(), ""); err != nil || got != want {
		t.Errorf("with no version asked for: %v, %v; want %v", got, err, want)
	}
}

// TestBinariesOutOfReach: root's own folders are closed to the user that the server runs as.
func TestBinariesOutOfReach(t *testing.T) {
	t.Parallel()
	owner, err := runAs()
	if err != nil {
		t.Fatal(err)
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(closed, "postgres", "bin")
	fake(t, bin, "77.3")
	s := &Server{install: install{bin: bin, version: "77.3"}, owner: owner, dir: t.TempDir()}
	if err := s.reachable(); err != nil {
		t.Fatal(err)
	}
	if moved := s.install.bin != bin; moved != owner.other {
		t.Errorf("copied: %v, another user: %v", moved, owner.other)
	}
	info, err := os.Stat(filepath.Join(s.install.bin, "postgres"))
	if err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("the copy can't be run: %v, %v", info, err)
	}
}

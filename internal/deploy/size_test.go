package deploy

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// With a template package in the binary, whose templates may call any method by its name, the linker keeps every method
// of every type: five megabytes.
func TestTheLinkerMayLeaveOutMethods(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"Makefile", "Dockerfile"} {
		if !strings.Contains(read(t, file), " -tags grpcnotrace ") { // else grpc has its traces' pages
			t.Errorf("%s builds without the tag grpcnotrace", file)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "grpcnotrace", "./cmd/server")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if list := strings.Fields(string(out)); slices.Contains(list, "text/template") || len(list) < 100 {
		t.Error("the binary has text/template in it; find out by: go list -deps -tags grpcnotrace -f '{{.ImportPath}} {{.Imports}}' ./cmd/server")
	}
}

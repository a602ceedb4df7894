package notifyql_test

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table in docs/architecture.md is the import graph: no wall is broken unseen, and the page stays true.
func TestPackagesImportWhatTheArchitectureAllows(t *testing.T) {
	const module = "github.com/notifyql/notifyql"
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	allowed := map[string][]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		name := quoted.FindStringSubmatch(cells[1])
		if name == nil {
			continue
		}
		allowed[name[1]] = []string{}
		for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
			allowed[name[1]] = append(allowed[name[1]], m[1])
		}
	}
	seen := map[string]bool{}
	err = filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if base := d.Name(); dir != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || base == "examples" || base == "bench" || base == "test") {
			return filepath.SkipDir
		}
		pkg, err := build.ImportDir(dir, 0)
		if err != nil || len(pkg.GoFiles) == 0 {
			return nil // no Go in it, or tests only
		}
		name := filepath.ToSlash(dir)
		may, ok := allowed[name]
		if !ok {
			if strings.HasSuffix(name, "test") || strings.Contains(name, "/internal/") { // helpers of tests
				return nil
			}
			t.Errorf("package %s is not in the table of docs/architecture.md", name)
			return nil
		}
		seen[name] = true
		for _, imp := range pkg.Imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			ours := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
			if ours == "" {
				ours = "."
			}
			if !slices.Contains(may, ours) {
				t.Errorf("%s imports %s, which docs/architecture.md does not allow", name, ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("docs/architecture.md names %s, which is no package", name)
		}
	}
}

package deploy

import (
	"regexp"
	"testing"
)

// TestDependenciesAreExplained: each module that our code imports has its reason in docs/dependencies.md, and none is
// explained that is gone.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	listed, required := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(read(t, "docs", "dependencies.md"), -1) {
		listed[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		required[m[1]] = true
		if m[2] == "" && !listed[m[1]] {
			t.Errorf("docs/dependencies.md lacks %s", m[1])
		}
	}
	for module := range listed {
		if !required[module] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require", module)
		}
	}
	if len(listed) < 5 || len(required) < len(listed) {
		t.Errorf("found %d modules in the page and %d in go.mod", len(listed), len(required))
	}
}

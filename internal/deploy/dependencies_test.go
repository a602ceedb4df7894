package deploy

import (
	"regexp"
	"strings"
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
	modules := regexp.MustCompile(`(?m)^\t(\S+)$`).FindAllStringSubmatch(read(t, "go.work"), -1)
	for _, module := range modules {
		for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(read(t, module[1], "go.mod"), -1) {
			required[m[1]] = true
			if m[2] == "" && !listed[m[1]] && !strings.HasPrefix(m[1], "github.com/notifyql/notifyql") {
				t.Errorf("docs/dependencies.md lacks %s of %s", m[1], module[1])
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^tool (\S+)$`).FindAllStringSubmatch(read(t, "tools", "nats", "go.mod"), -1) {
		required[m[1]] = true // a program that only tests run
		if !listed[m[1]] {
			t.Errorf("docs/dependencies.md lacks %s", m[1])
		}
	}
	for module := range listed {
		if !required[module] {
			t.Errorf("docs/dependencies.md explains %s, which no go.mod requires", module)
		}
	}
	if len(modules) < 2 || len(listed) < 5 || len(required) < len(listed) {
		t.Errorf("found %d modules in the page and %d in each go.mod", len(listed), len(required))
	}
}

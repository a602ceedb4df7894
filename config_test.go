package notifyql_test

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
)

// An origin that no page could have is said at once, not found out by who is refused.
func TestOriginsThatNoPageHas(t *testing.T) {
	for origin, good := range map[string]bool{
		"app.example.com": true, "*.example.com": true, "localhost:3000": true, "https://app.example.com": true, "http://localhost:*": true, "*": true,
		"https://app.example.com/": false, "https://app.example.com/path": false, "app.example.com/": false, "https://": false, "": false, "a b": false, "app[": false,
	} {
		_, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus(), Origins: []string{origin}})
		if good != (err == nil) || err != nil && !strings.Contains(err.Error(), "want a host such as app.example.com") {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

// Whoever forgets to say where the database is hears it from New, not from what answers at a default address.
func TestADatabaseMustBeNamed(t *testing.T) {
	_, err := notifyql.New(notifyql.Config{})
	if err == nil || !strings.Contains(err.Error(), "neither DatabaseURL nor Pool is set") {
		t.Error(err)
	}
	if _, err := notifyql.ReadSchema(t.Context(), notifyql.Config{}); err == nil || !strings.Contains(err.Error(), "neither DatabaseURL nor Pool is set") {
		t.Error(err)
	}
}

package auth

import "testing"

func TestAnEmptyTenantMatchesNobody(t *testing.T) {
	id := Identity{Tenants: []string{"", "a"}}
	for tenant, want := range map[string]bool{"a": true, "": false, "b": false, "A": false} {
		if got := id.Sees(tenant); got != want {
			t.Errorf("Sees(%q) = %v", tenant, got)
		}
	}
}

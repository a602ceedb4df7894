// Package auth says who a client is.
package auth

import (
	"slices"
	"time"
)

// Identity is who a client is and what it may see.
type Identity struct {
	UserID    string
	Tenants   []string // whose rows it sees, beside shared ones; an empty string matches nothing
	Roles     []string
	ExpiresAt time.Time // zero: never
	Claims    map[string]any
}

// Sees reports whether the identity may see what belongs to tenant.
func (i *Identity) Sees(tenant string) bool {
	return tenant != "" && slices.Contains(i.Tenants, tenant)
}

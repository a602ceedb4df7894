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

// Claim returns a claim by its own name, dots and all, or by a way through objects, such as realm_access.roles; nil if there is none.
func (i *Identity) Claim(name string) any { return find(i.Claims, name) }

// HasRole reports whether the identity has one of the roles.
func (i *Identity) HasRole(roles []string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(i.Roles, r) })
}

// Sees reports whether the identity may see what belongs to tenant.
func (i *Identity) Sees(tenant string) bool {
	return tenant != "" && slices.Contains(i.Tenants, tenant)
}

package auth

import (
	"fmt"
	"strings"
)

// Names are the claims that an Identity is read from. A name is a claim's own name, dots and all, such as
// "https://app.example.com/tenant"; or a way through objects, such as "realm_access.roles". The claim's own name is
// tried first.
type Names struct {
	Tenants string // a string, a whole number, or a list of those
	User    string // a string or a whole number
	Roles   string // a list, or a string of names between spaces
}

// identity reads who it is. A claim that is missing or null is none; one of another type is an error, not a guess.
func (n Names) identity(claims map[string]any) (Identity, error) {
	id := Identity{Claims: claims}
	var ok bool
	if id.Tenants, ok = textsOf(find(claims, n.Tenants)); !ok {
		return Identity{}, fmt.Errorf("the claim %s is no text, whole number or list of those", n.Tenants)
	}
	if v := find(claims, n.User); v != nil {
		if id.UserID, ok = textOf(v); !ok {
			return Identity{}, fmt.Errorf("the claim %s is no text or whole number", n.User)
		}
	}
	switch v := find(claims, n.Roles).(type) {
	case string:
		id.Roles = strings.Fields(v)
	default:
		if id.Roles, ok = textsOf(v); !ok {
			return Identity{}, fmt.Errorf("the claim %s is no text or list of texts", n.Roles)
		}
	}
	return id, nil
}

// find returns the claim of that name, or below objects of a name that begins it; nil if there is none. Of several ways
// the one with the longest first step counts.
func find(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	for at := strings.LastIndexByte(name, '.'); at > 0; at = strings.LastIndexByte(name[:at], '.') {
		if below, ok := claims[name[:at]].(map[string]any); ok {
			if v := find(below, name[at+1:]); v != nil {
				return v
			}
		}
	}
	return nil
}

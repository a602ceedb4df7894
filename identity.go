package notifyql

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
)

// Identity is who a client is and what it may see. A subscription sees the rows of the identity's tenants, and shared
// ones; of those the ones that the tables' policies let it see, by its user, roles and claims.
type Identity struct {
	UserID    string
	Tenants   []string // whose rows it sees, beside shared ones; an empty string matches nothing
	Roles     []string
	ExpiresAt time.Time // its sockets are closed then; zero: never
	Claims    map[string]any
}

// Claim returns a claim by its own name, dots and all, or by a way through objects, such as realm_access.roles; nil if there is none.
func (i *Identity) Claim(name string) any { return i.inner().Claim(name) }

// HasRole reports whether the identity has one of the roles.
func (i *Identity) HasRole(roles []string) bool { return i.inner().HasRole(roles) }

// Sees reports whether the identity may see what belongs to tenant.
func (i *Identity) Sees(tenant string) bool { return i.inner().Sees(tenant) }

// inner is the same to the packages that know nothing of this one.
func (i *Identity) inner() *auth.Identity { return (*auth.Identity)(i) }

// Auth says who a client is, from the payload of its connection_init (nil if it sent none, and for a plain HTTP request)
// and the HTTP request that it came with. An error refuses the client: a socket is closed with 4403 Forbidden, an HTTP
// request answered with 401. ctx ends when the client goes away.
type Auth func(ctx context.Context, init json.RawMessage, r *http.Request) (Identity, error)

// Trust returns an Auth that believes what the client says of itself in connection_init: tenantId (or tenant_id) and
// userId (or user_id), strings or numbers. Anybody who can reach the server can then read every tenant's rows: it is for
// trying things out, and for a server that only a trusted backend can reach.
func Trust() Auth {
	return func(_ context.Context, init json.RawMessage, _ *http.Request) (Identity, error) {
		if len(init) == 0 || string(init) == "null" {
			return Identity{}, nil
		}
		var payload map[string]json.RawMessage
		if err := json.Unmarshal(init, &payload); err != nil {
			return Identity{}, fmt.Errorf("the payload of connection_init is not an object: %w", err)
		}
		var id Identity
		tenant, err := textOf(payload, "tenantId", "tenant_id")
		if err != nil {
			return Identity{}, err
		}
		if tenant != "" {
			id.Tenants = []string{tenant}
		}
		id.UserID, err = textOf(payload, "userId", "user_id")
		return id, err
	}
}

// textOf returns the first of the named members, a string or a number.
func textOf(payload map[string]json.RawMessage, names ...string) (string, error) {
	for _, name := range names {
		raw, ok := payload[name]
		if !ok || string(raw) == "null" {
			continue
		}
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s, nil
		}
		var n json.Number
		if json.Unmarshal(raw, &n) == nil {
			return n.String(), nil
		}
		return "", fmt.Errorf("%s in connection_init is neither a string nor a number", name)
	}
	return "", nil
}

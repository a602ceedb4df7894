package notifyql

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
)

// JWTOptions say which tokens JWT believes, where they come, and which of their claims make an Identity.
type JWTOptions struct {
	// Secret is shared with who signs: HS256, and with 48 and 64 bytes HS384 and HS512. It has at least 32 bytes.
	Secret []byte
	// PublicKeys are public keys or certificates in PEM, RSA of at least 2048 bits, P-256, P-384, P-521 or Ed25519; several
	// while keys are being changed.
	PublicKeys []byte
	// JWKS is the address of the issuer's keys. They are asked for when first needed, every ten minutes of use, and, at most
	// every ten seconds, for a token that names an unknown key.
	JWKS string
	// Algorithms are those allowed, by their names in tokens. Empty: all that are right for the keys. "none" is never one.
	Algorithms []string

	// Issuer must be the token's iss. Empty: any.
	Issuer string
	// Audience lists values of which the token's aud must have one. Empty: any.
	Audience []string
	// Leeway is how far clocks may differ: exp, nbf and iat are taken so much less exactly. Not negative.
	Leeway time.Duration
	// Require names claims that must be there, as in TenantClaim. Nil: exp, without which a token never ends.
	Require []string

	// TenantClaim, UserClaim and RolesClaim name the claims that an Identity is read from: a claim's own name, dots and all,
	// or a way through objects, such as "realm_access.roles". Empty: tenant_id, sub and roles.
	TenantClaim, UserClaim, RolesClaim string

	// Cookie is the name of a cookie that the token may also come in. Empty: none.
	Cookie string
}

// JWT returns an Auth that takes clients by a signed token. It is looked for in connection_init's payload (Authorization,
// authorization, authToken, or headers.Authorization; with or without "Bearer "), else in the request's header
// Authorization, else in a cookie if JWTOptions names one. The socket is closed when the token expires, unless the client
// sends a new one in time, in the payload of a ping. The error says which option is wrong.
func JWT(o JWTOptions) (Auth, error) {
	j, err := auth.NewJWT(auth.JWTOptions(o))
	if err != nil {
		return nil, fmt.Errorf("notifyql: JWT: %w", err)
	}
	return identifiedBy(j.Identify), nil
}

// HookOptions say whom Hook asks, and what it sends.
type HookOptions struct {
	// URL is asked by POST. Its answer of 200 has the identity as JSON; 401 and 403 refuse the client.
	URL string
	// Headers names the headers of the client's request that are sent along; no others are. Nil: Authorization and Cookie.
	Headers []string
	// Timeout is how long an answer may take: 3 s.
	Timeout time.Duration
}

// Hook returns an Auth that asks an HTTP service of yours. It is sent the payload of connection_init, in a JSON object as
// "payload", and the headers of the client's request that HookOptions names. It answers 401 or 403 to refuse the client,
// or 200 with who it is:
//
//	{"userId": "u1", "tenants": ["acme"], "roles": ["admin"], "expiresAt": "2030-01-01T00:00:00Z", "claims": {}}
//
// Any other answer, or none in time, refuses the client as well, and is logged as a problem. Set Config.Recheck for the
// hook to be asked again while the client is connected. The error says which option is wrong.
func Hook(o HookOptions) (Auth, error) {
	h, err := auth.NewHook(auth.HookOptions(o))
	if err != nil {
		return nil, fmt.Errorf("notifyql: Hook: %w", err)
	}
	return identifiedBy(h.Identify), nil
}

// identifiedBy is an Auth that asks a package which knows nothing of this one.
func identifiedBy(identify func(context.Context, json.RawMessage, *http.Request) (auth.Identity, error)) Auth {
	return func(ctx context.Context, init json.RawMessage, r *http.Request) (Identity, error) {
		id, err := identify(ctx, init, r)
		return Identity(id), err
	}
}

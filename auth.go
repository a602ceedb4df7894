package notifyql

import (
	"fmt"

	"github.com/notifyql/notifyql/internal/auth"
)

// JWTOptions say which tokens JWT believes, where they come, and which of their claims make an Identity.
type JWTOptions = auth.JWTOptions

// JWT returns an Auth that takes clients by a signed token. It is looked for in connection_init's payload (Authorization,
// authorization, authToken, or headers.Authorization; with or without "Bearer "), else in the request's header
// Authorization, else in a cookie if JWTOptions names one. The socket is closed when the token expires, unless the client
// sends a new one in time, in the payload of a ping. The error says which option is wrong.
func JWT(o JWTOptions) (Auth, error) {
	j, err := auth.NewJWT(o)
	if err != nil {
		return nil, fmt.Errorf("notifyql: JWT: %w", err)
	}
	return j.Identify, nil
}

// HookOptions say whom Hook asks, and what it sends.
type HookOptions = auth.HookOptions

// Hook returns an Auth that asks an HTTP service of yours. It is sent the payload of connection_init, in a JSON object as
// "payload", and the headers of the client's request that HookOptions names. It answers 401 or 403 to refuse the client,
// or 200 with who it is:
//
//	{"userId": "u1", "tenants": ["acme"], "roles": ["admin"], "expiresAt": "2030-01-01T00:00:00Z", "claims": {}}
//
// Any other answer, or none in time, refuses the client as well, and is logged as a problem. Set Config.Recheck for the
// hook to be asked again while the client is connected. The error says which option is wrong.
func Hook(o HookOptions) (Auth, error) {
	h, err := auth.NewHook(o)
	if err != nil {
		return nil, fmt.Errorf("notifyql: Hook: %w", err)
	}
	return h.Identify, nil
}

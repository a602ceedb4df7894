package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// parseAnswer reads the hook's answer:
//
//	{"userId": "u1", "tenants": ["acme"], "roles": ["admin"], "expiresAt": "2030-01-01T00:00:00Z", "claims": {}}
//
// All are optional, but one of userId and tenants must be there: an answer that says nothing of the kind is not the
// hook's. Ids may be whole numbers, tenants one of them alone, expiresAt seconds since 1970. What else is there is passed
// over. Errors name members, never their values.
func parseAnswer(text []byte) (Identity, error) {
	v, err := decode(text)
	object, ok := v.(map[string]any)
	if err != nil || !ok {
		return Identity{}, errors.New("the answer is no JSON object")
	}
	if object["userId"] == nil && object["tenants"] == nil {
		return Identity{}, errors.New("the answer has neither userId nor tenants")
	}
	var id Identity
	if user := object["userId"]; user != nil {
		if id.UserID, ok = textOf(user); !ok {
			return Identity{}, wrong("userId")
		}
	}
	if id.Tenants, ok = textsOf(object["tenants"]); !ok {
		return Identity{}, wrong("tenants")
	}
	if id.Roles, ok = textsOf(object["roles"]); !ok {
		return Identity{}, wrong("roles")
	}
	if claims := object["claims"]; claims != nil {
		if id.Claims, ok = claims.(map[string]any); !ok {
			return Identity{}, wrong("claims")
		}
	}
	id.ExpiresAt, ok = moment(object["expiresAt"])
	if !ok {
		return Identity{}, wrong("expiresAt")
	}
	return id, nil
}

func wrong(member string) error { return fmt.Errorf("%s in the answer is of another type", member) }

// moment is a time as RFC 3339 has it, or in seconds since 1970. Nil is none.
func moment(v any) (at time.Time, ok bool) {
	switch v := v.(type) {
	case nil:
		return at, true
	case string:
		at, err := time.Parse(time.RFC3339, v)
		return at, err == nil && !at.IsZero()
	case json.Number:
		n, err := v.Int64()
		return time.Unix(n, 0), err == nil && n > 0 && n < 1<<40
	}
	return at, false
}

package auth

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// maxToken is the longest token, in bytes, that is looked at: as much as servers take of one header.
const maxToken = 16 << 10

// ErrNoToken says that a client gave no token at all.
var ErrNoToken = errors.New("no token was given")

// members are the names under which connection_init's payload may carry a token, the first that is there counts.
var members = []string{"Authorization", "authorization", "authToken"}

// Token finds the client's token: in connection_init's payload, else in the request's header Authorization, else in the
// cookie of that name, if one is named. The first place that has one decides: a bad token there is not made good by another.
// A token in the address is none, since addresses are logged.
func Token(init []byte, r *http.Request, cookie string) (string, error) {
	token, err := payloadToken(init)
	if token != "" || err != nil {
		return token, err
	}
	if r == nil {
		return "", ErrNoToken
	}
	if scheme, rest, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return bounded(rest)
	}
	if cookie != "" {
		if c, err := r.Cookie(cookie); err == nil && c.Value != "" {
			return bounded(c.Value)
		}
	}
	return "", ErrNoToken
}

// CarriesToken reports whether a payload names a token. Such a ping asks for the client's right to be renewed.
func CarriesToken(payload []byte) bool {
	token, err := payloadToken(payload)
	return token != "" || err != nil
}

// payloadToken is the token in a payload, empty if it has none.
func payloadToken(payload []byte) (string, error) {
	object, ok := objectOf(payload)
	if !ok {
		return "", nil
	}
	for _, name := range members {
		if raw, there := object[name]; there && string(raw) != "null" {
			return bearer(raw)
		}
	}
	headers, ok := objectOf(object["headers"])
	if !ok {
		return "", nil
	}
	for _, name := range members[:2] {
		if raw, there := headers[name]; there && string(raw) != "null" {
			return bearer(raw)
		}
	}
	return "", nil
}

// objectOf takes an object apart. Of equal names the last counts, as in JavaScript.
func objectOf(text []byte) (map[string]json.RawMessage, bool) {
	var object map[string]json.RawMessage
	err := json.Unmarshal(text, &object)
	return object, err == nil && object != nil
}

// bearer is a token with or without the word before it.
func bearer(raw json.RawMessage) (string, error) {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return "", errors.New("the token in the payload is no string")
	}
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "Bearer") {
		text = rest
	}
	return bounded(text)
}

func bounded(token string) (string, error) {
	switch token = strings.TrimSpace(token); {
	case token == "":
		return "", errors.New("the token is empty")
	case len(token) > maxToken:
		return "", errors.New("the token is too long")
	}
	return token, nil
}

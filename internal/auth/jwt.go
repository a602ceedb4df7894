package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json" // names are case-sensitive, and none is there twice
	"github.com/go-jose/go-jose/v4/jwt"
)

// JWTOptions say which tokens are believed. Exactly one of Secret, PublicKeys and JWKS is set.
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

// JWT takes clients by their tokens.
type JWT struct {
	keys    keys
	algs    []jose.SignatureAlgorithm
	expect  jwt.Expected
	leeway  time.Duration
	require []string
	names   Names
	cookie  string
	now     func() time.Time
}

// NewJWT checks the options. Its errors have no key in them.
func NewJWT(o JWTOptions) (*JWT, error) {
	j := &JWT{
		expect: jwt.Expected{Issuer: o.Issuer, AnyAudience: o.Audience}, leeway: o.Leeway, require: o.Require,
		names: Names{Tenants: "tenant_id", User: "sub", Roles: "roles"}, cookie: o.Cookie, now: time.Now,
	}
	for _, n := range []struct{ to, from *string }{
		{&j.names.Tenants, &o.TenantClaim}, {&j.names.User, &o.UserClaim}, {&j.names.Roles, &o.RolesClaim},
	} {
		if *n.from != "" {
			*n.to = *n.from
		}
	}
	if j.require == nil {
		j.require = []string{"exp"}
	}
	if o.Leeway < 0 {
		return nil, errors.New("the leeway is negative")
	}
	known, err := j.setKeys(o)
	if err != nil {
		return nil, err
	}
	return j, j.allow(o.Algorithms, known)
}

// setKeys returns the algorithms that the keys are right for.
func (j *JWT) setKeys(o JWTOptions) (known []jose.SignatureAlgorithm, err error) {
	var all fixed
	switch {
	case len(o.Secret) > 0 && len(o.PublicKeys) == 0 && o.JWKS == "":
		var k key
		k, err = secret(o.Secret)
		all = fixed{k}
	case len(o.Secret) == 0 && len(o.PublicKeys) > 0 && o.JWKS == "":
		all, err = parsePEM(o.PublicKeys)
	case len(o.Secret) == 0 && len(o.PublicKeys) == 0 && o.JWKS != "":
		j.keys = newKeySet(o.JWKS)
		return algorithms[3:], checkURL(o.JWKS) // no secret is published
	default:
		return nil, errors.New("one of secret, public keys and JWKS address is needed, and one only")
	}
	for _, k := range all {
		known = append(known, k.algs...)
	}
	j.keys = all
	return known, err
}

func (j *JWT) allow(names []string, known []jose.SignatureAlgorithm) error {
	if len(names) == 0 {
		j.algs = known
		return nil
	}
	for _, name := range names {
		alg := jose.SignatureAlgorithm(name)
		if !slices.Contains(known, alg) {
			return fmt.Errorf("the algorithm %.20q is unknown, or not right for the key", name)
		}
		j.algs = append(j.algs, alg)
	}
	return nil
}

// Identify is an Auth of the root package. Its errors name no part of a token.
func (j *JWT) Identify(ctx context.Context, init json.RawMessage, r *http.Request) (Identity, error) {
	token, err := Token(init, r, j.cookie)
	if err != nil {
		return Identity{}, err
	}
	return j.verify(ctx, token)
}

func (j *JWT) verify(ctx context.Context, token string) (Identity, error) {
	payload, err := j.payload(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	expires, err := j.valid(payload)
	if err != nil {
		return Identity{}, err
	}
	all, err := decode(payload)
	claims, ok := all.(map[string]any)
	if err != nil || !ok {
		return Identity{}, errors.New("the token's claims are no JSON object")
	}
	for _, name := range j.require {
		if find(claims, name) == nil {
			return Identity{}, fmt.Errorf("the token lacks the claim %s", name)
		}
	}
	id, err := j.names.identity(claims)
	id.ExpiresAt = expires
	return id, err
}

// payload returns what the token's signature vouches for.
func (j *JWT) payload(ctx context.Context, token string) ([]byte, error) {
	if strings.Count(token, ".") != 2 {
		return nil, errors.New("the token is no JWT")
	}
	signed, err := jose.ParseSignedCompact(token, j.algs)
	var other *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &other):
		return nil, errors.New("the token is signed with an algorithm that is not allowed, or not at all")
	case err != nil:
		return nil, errors.New("the token is no JWT")
	}
	header := signed.Signatures[0].Protected
	fit, err := j.keys.find(ctx, header.KeyID, jose.SignatureAlgorithm(header.Algorithm))
	if err != nil {
		return nil, err
	}
	for _, k := range fit {
		if payload, err := signed.Verify(k.key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key that is trusted has signed the token")
}

// valid checks the registered claims and says when the token ends, leeway included; zero: never.
func (j *JWT) valid(payload []byte) (expires time.Time, err error) {
	var claims jwt.Claims
	if strict.Unmarshal(payload, &claims) != nil {
		return expires, errors.New("the token's claims are malformed")
	}
	now := j.now()
	switch err := claims.ValidateWithLeeway(j.expect.WithTime(now), j.leeway); {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return expires, errors.New("the token is of another issuer")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return expires, errors.New("the token is for another audience")
	case errors.Is(err, jwt.ErrNotValidYet):
		return expires, errors.New("the token is not valid yet")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return expires, errors.New("the token was issued in the future")
	case err != nil && !errors.Is(err, jwt.ErrExpired):
		return expires, errors.New("the token is not valid")
	}
	if claims.Expiry == nil {
		return expires, nil
	}
	expires = claims.Expiry.Time().Add(j.leeway)
	if !now.Before(expires) {
		return expires, ErrExpired
	}
	return expires, nil
}

// ErrExpired says that a token's time is over.
var ErrExpired = errors.New("the token has expired")

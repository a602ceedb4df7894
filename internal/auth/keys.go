package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are all that a token may be signed with. "none" is not among them, and what one key may be used for is
// decided by the key, never by the token: a public key is never the secret of an HMAC.
var algorithms = []jose.SignatureAlgorithm{
	jose.HS256, jose.HS384, jose.HS512,
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// key verifies signatures.
type key struct {
	id   string // empty: it has none
	key  any    // for go-jose
	algs []jose.SignatureAlgorithm
}

// keys finds the keys that a token may be signed with.
type keys interface {
	find(ctx context.Context, id string, alg jose.SignatureAlgorithm) ([]key, error)
}

// minRSA is the shortest RSA key, in bits, that is trusted.
const minRSA = 2048

// newKey returns a key with the algorithms that are right for it.
func newKey(id string, k any) (key, error) {
	switch k := k.(type) {
	case []byte:
		return secret(k)
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return key{}, fmt.Errorf("an RSA key has %d bits; at least %d are needed", k.N.BitLen(), minRSA)
		}
		return key{id, k, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}}, nil
	case *ecdsa.PublicKey:
		for curve, alg := range map[elliptic.Curve]jose.SignatureAlgorithm{elliptic.P256(): jose.ES256, elliptic.P384(): jose.ES384, elliptic.P521(): jose.ES512} {
			if k.Curve == curve {
				return key{id, k, []jose.SignatureAlgorithm{alg}}, nil
			}
		}
		return key{}, errors.New("an elliptic curve that no algorithm uses")
	case ed25519.PublicKey:
		return key{id, k, []jose.SignatureAlgorithm{jose.EdDSA}}, nil
	}
	return key{}, errors.New("a key of a kind that no algorithm uses")
}

// secret allows the algorithms for which it is long enough (RFC 7518, 3.2).
func secret(k []byte) (key, error) {
	if strings.Contains(string(k), "-----BEGIN ") {
		return key{}, errors.New("the secret is a PEM file; public keys have a setting of their own")
	}
	out := key{key: k}
	for size, alg := range map[int]jose.SignatureAlgorithm{32: jose.HS256, 48: jose.HS384, 64: jose.HS512} {
		if len(k) >= size {
			out.algs = append(out.algs, alg)
		}
	}
	if out.algs == nil {
		return key{}, errors.New("the secret is shorter than 32 bytes")
	}
	return out, nil
}

// parsePEM reads public keys and certificates. What is in the file is in no error.
func parsePEM(text []byte) (fixed, error) {
	var all fixed
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		k, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		one, err := newKey("", k)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no public key in PEM")
	}
	return all, nil
}

func parseBlock(block *pem.Block) (k any, err error) {
	switch {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("a private key; the public one belongs here")
	case block.Type == "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			return c.PublicKey, nil
		}
	case block.Type == "RSA PUBLIC KEY":
		k, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		k, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("a PEM block that is no public key or certificate")
	}
	return k, nil
}

// fixed are keys that never change.
type fixed []key

func (f fixed) find(_ context.Context, id string, alg jose.SignatureAlgorithm) ([]key, error) {
	return f.match(id, alg), nil
}

// match returns the keys for an algorithm; of a token that names its key, that one and those without a name.
func (f fixed) match(id string, alg jose.SignatureAlgorithm) (fit []key) {
	for _, k := range f {
		if slices.Contains(k.algs, alg) && (id == "" || k.id == "" || k.id == id) {
			fit = append(fit, k)
		}
	}
	return fit
}

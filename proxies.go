package notifyql

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the addresses whose word is believed about the client behind them.
type proxies []netip.Prefix

func newProxies(list []netip.Prefix) (proxies, error) {
	for i, p := range list {
		if !p.IsValid() {
			return nil, fmt.Errorf("Config.TrustedProxies[%d] is no network", i)
		}
	}
	return slices.Clone(list), nil
}

func (p proxies) trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// handler shows next each request as its client made it.
func (p proxies) handler(next http.Handler) http.Handler {
	if len(p) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, p.unwrap(r)) })
}

// schemeKey is the scheme that the client used, in a request's context, if a trusted proxy says it.
type schemeKey struct{}

// unwrap is the request as its client made it to the outermost trusted proxy: its address, the host it asked for, and whether
// it was encrypted. What comes from elsewhere may say what it likes.
func (p proxies) unwrap(r *http.Request) *http.Request {
	peer, ok := parseAddr(r.RemoteAddr)
	if !ok || !p.trust(peer) {
		return r
	}
	ctx := r.Context()
	switch scheme := strings.ToLower(lastWord(r.Header["X-Forwarded-Proto"])); scheme {
	case "http", "https":
		ctx = context.WithValue(ctx, schemeKey{}, scheme)
	}
	out := r.WithContext(ctx)
	if client := p.client(peer, r.Header["X-Forwarded-For"]); client != peer {
		out.RemoteAddr = net.JoinHostPort(client.String(), "0")
	}
	if host := lastWord(r.Header["X-Forwarded-Host"]); host != "" {
		out.Host = host
	}
	return out
}

// client is the last address of the chain that no trusted proxy has: each proxy adds to its right whom it was asked by. What
// stands before it is the client's own word.
func (p proxies) client(peer netip.Addr, chain []string) netip.Addr {
	for i := len(chain) - 1; i >= 0; i-- {
		for rest, more := chain[i], true; more; {
			var word string
			rest, word, more = cutLast(rest)
			addr, ok := parseAddr(word)
			if !ok {
				return peer
			}
			if peer = addr; !p.trust(addr) {
				return peer
			}
		}
	}
	return peer
}

// cutLast cuts the last word off a list with commas; more says whether there are others.
func cutLast(list string) (rest, word string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", strings.TrimSpace(list), false
	}
	return list[:i], strings.TrimSpace(list[i+1:]), true
}

// lastWord is what the nearest proxy says.
func lastWord(values []string) string {
	if len(values) == 0 {
		return ""
	}
	_, word, _ := cutLast(values[len(values)-1])
	return word
}

// encrypted reports whether the client's own connection is, as far as is known.
func encrypted(r *http.Request) bool {
	if scheme, ok := r.Context().Value(schemeKey{}).(string); ok {
		return scheme == "https"
	}
	return r.TLS != nil
}

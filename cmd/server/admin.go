package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/notifyql/notifyql"
)

// minToken is how many bytes an administrator's token has at least.
const minToken = 16

// checkAdmin refuses settings that would let anybody in.
func (s *settings) checkAdmin() error {
	switch {
	case s.adminToken != "" && s.adminAddr == "":
		return errors.New("there is NOTIFYQL_ADMIN_TOKEN and nothing to protect with it; set NOTIFYQL_ADMIN_ADDR too")
	case s.adminToken != "" && len(s.adminToken) < minToken:
		return fmt.Errorf("NOTIFYQL_ADMIN_TOKEN has fewer than %d bytes", minToken)
	}
	return nil
}

// adminFace listens for operators, on this machine's own addresses only unless there is a token.
func (s *settings) adminFace(srv *notifyql.Server, encryption *tls.Config) (*face, error) {
	ln, err := net.Listen("tcp", s.adminAddr)
	if err != nil {
		return nil, fmt.Errorf("can't serve operators on %s: %w; set NOTIFYQL_ADMIN_ADDR to another address", s.adminAddr, err)
	}
	f := &face{listener: ln, handler: srv.AdminHandler()}
	at, ok := ln.Addr().(*net.TCPAddr)
	local := ok && at.IP.IsLoopback()
	if !local {
		f.encryption = encryption.Clone() // each HTTP server changes its own
	}
	switch {
	case s.adminToken != "":
		f.handler = withToken(f.handler, s.adminToken)
		if !local && encryption == nil {
			srv.Logger().Warn("the operators' token is not encrypted on its way; set NOTIFYQL_TLS_CERT and NOTIFYQL_TLS_KEY", "address", ln.Addr().String())
		}
	case local:
		f.handler = forThisMachine(f.handler)
	default:
		ln.Close() //nolint:errcheck // nothing was served
		return nil, fmt.Errorf("whoever reaches NOTIFYQL_ADMIN_ADDR, %s, could end connections; set NOTIFYQL_ADMIN_TOKEN, or an address such as 127.0.0.1:9000", s.adminAddr)
	}
	return f, nil
}

// withToken lets those in who have the token. How long it looks at a wrong one says nothing of the right one.
func withToken(next http.Handler, token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(given)))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the operators' token is missing or wrong", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// forThisMachine lets those in who ask for an address of this machine by that. A page of the Web could have a name of its own
// lead here, and its visitor's browser would take us for that page's server.
func forThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && (err != nil || !addr.Unmap().IsLoopback()) {
			http.Error(w, "ask for localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often a handshake looks whether the files have changed.
const lookEvery = time.Second

// keyPair is the server's certificate and key, in files that may be replaced while it runs: a handshake that comes later has
// the new ones. Open connections go on. What can't be used is reported once, and the pair before it stays.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger
	every             time.Duration

	mu      sync.Mutex
	looked  time.Time
	seen    [sha256.Size]byte // of what was found then
	current *tls.Certificate
}

// encryption is how to serve what the settings say: nil for unencrypted.
func (s *settings) encryption(log *slog.Logger) (*tls.Config, error) {
	if s.tlsCert == "" && s.tlsKey == "" {
		return nil, nil
	}
	if s.tlsCert == "" || s.tlsKey == "" {
		return nil, errors.New("of NOTIFYQL_TLS_CERT and NOTIFYQL_TLS_KEY there is only one; set both, or neither")
	}
	k := &keyPair{certFile: s.tlsCert, keyFile: s.tlsKey, log: log, every: lookEvery}
	if err := k.look(); err != nil {
		return nil, fmt.Errorf("NOTIFYQL_TLS_CERT and NOTIFYQL_TLS_KEY: %w", err)
	}
	return k.config(), nil
}

func (k *keyPair) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}
}

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= k.every {
		k.looked = now
		if err := k.look(); err != nil {
			k.log.Error("the new certificate can't be used; the one before stays", "error", err)
		}
	}
	return k.current, nil
}

// look takes what is in the files, if it is not what it found there before. It needs the lock, once the pair is in use.
func (k *keyPair) look() error {
	cert, err := os.ReadFile(k.certFile)
	var key []byte
	if err == nil {
		key, err = os.ReadFile(k.keyFile)
	}
	found := sha256.New()
	fmt.Fprintf(found, "%d %v ", len(cert), err)
	found.Write(cert)
	found.Write(key)
	if seen := [sha256.Size]byte(found.Sum(nil)); seen != k.seen {
		k.seen = seen
	} else {
		return nil
	}
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	if k.current != nil {
		k.log.Info("a new certificate is in use", "names", pair.Leaf.DNSNames, "until", pair.Leaf.NotAfter)
	}
	k.current = &pair
	return nil
}

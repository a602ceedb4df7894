package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql"
)

// newPair makes a certificate, known by its number, and its key, in PEM.
func newPair(t *testing.T, number int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"server.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed by the next Write; nil: nobody waits
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return l.text.Write(b)
}

// find looks for what matches, and else gives what is closed when there is more to look at.
func (l *lockedLog) find(what *regexp.Regexp) (match []string, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if match = what.FindStringSubmatch(l.text.String()); match != nil {
		return match, nil
	}
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return nil, l.grown
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A new certificate is served from the next handshake on; open sockets notice nothing. What can't be used is reported once, and
// the one before it stays.
func TestTheCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	cert, key := newPair(t, 1)
	write(t, certFile, cert)
	write(t, keyFile, key)
	var log lockedLog
	srv, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	pair := &keyPair{certFile: certFile, keyFile: keyFile, log: srv.Logger()} // looks at each handshake
	if err := pair.look(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serveOn(ctx, srv, &face{listener: ln, handler: routes(srv, true), encryption: pair.config()})
	}()
	<-srv.Ready()
	addr := ln.Addr().String()

	serves := func(number int64) {
		t.Helper()
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != number {
			t.Fatalf("certificate %d is served, want %d", got, number)
		}
	}
	reports := func() int { return strings.Count(log.String(), "can't be used") }

	serves(1)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	socket, _, err := websocket.Dial(ctx, "wss://"+addr+"/graphql", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow() //nolint:errcheck // it has served
	two, keyOfTwo := newPair(t, 2)
	write(t, certFile, two) // its key is yet to come
	serves(1)
	serves(1)
	if n := reports(); n != 1 {
		t.Errorf("reported %d times:\n%s", n, log.String())
	}
	write(t, keyFile, keyOfTwo)
	serves(2)
	write(t, certFile, []byte("no certificate"))
	serves(2)
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	serves(2)
	serves(2)
	if n := reports(); n != 3 {
		t.Errorf("reported %d times:\n%s", n, log.String())
	}
	three, keyOfThree := newPair(t, 3)
	write(t, keyFile, keyOfThree)
	write(t, certFile, three)
	serves(3)
	if err := socket.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := socket.Read(ctx); err != nil || string(b) != `{"type":"pong"}` {
		t.Errorf("the socket got %s, %v", b, err)
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	answer, err := client.Get("https://" + addr + "/errors")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	said.ReadFrom(answer.Body) //nolint:errcheck // what it says is looked at
	answer.Body.Close()        //nolint:errcheck // a test
	if !strings.Contains(said.String(), "can't be used") {
		t.Errorf("/errors says %s", &said)
	}
	p, out, errs := world(map[string]string{"NOTIFYQL_TLS_CERT": certFile, "NOTIFYQL_ADDR": addr})
	if code := p.main(ctx, []string{"health"}); code != 0 || !strings.Contains(out.String(), `"status":"ready"`) {
		t.Errorf("health: exit %d, %s%s", code, out, errs)
	}
	client.CloseIdleConnections()
	socket.CloseNow() //nolint:errcheck // it has served
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What can't be used at the start ends it, with a reason that has nothing of the key.
func TestCertificatesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := newPair(t, 1)
	other, _ := newPair(t, 2)
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		write(t, name, content)
		return name
	}
	good, goodKey, foreign, broken := file("cert", cert), file("key", key), file("other", other), file("broken", []byte("hunter2"))
	for name, c := range map[string]struct{ cert, key, want string }{
		"no key":        {good, "", "there is only one"},
		"no cert":       {"", goodKey, "there is only one"},
		"another's key": {foreign, goodKey, "does not match"},
		"broken key":    {good, broken, "NOTIFYQL_TLS_KEY"},
		"no file":       {filepath.Join(dir, "nothing"), goodKey, "no such file"},
	} {
		p, _, errs := world(map[string]string{"NOTIFYQL_TLS_CERT": c.cert, "NOTIFYQL_TLS_KEY": c.key, "NOTIFYQL_BUS": "memory", "NOTIFYQL_ADDR": "127.0.0.1:0"})
		if code := p.main(t.Context(), []string{"serve"}); code != 1 || !strings.Contains(errs.String(), c.want) || strings.Contains(errs.String(), "hunter2") {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "[]", "10.0.0.0/8, 192.0.2.7": "[10.0.0.0/8 192.0.2.7/32]", "fd00::/8,::1": "[fd00::/8 ::1/128]",
	} {
		if got, err := parseNetworks(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"10.0.0.0/33", "proxy.example", "10.0.0.1/", "10.0.0.0/8,x"} {
		if got, err := parseNetworks(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

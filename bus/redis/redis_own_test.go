package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/localbroker"
)

// open returns a stream on a server of its own, and somebody who looks at that by hand.
func open(t *testing.T, options Options) (*Stream, hand) {
	t.Helper()
	server := localbroker.New(t, localbroker.Redis)
	options.URL = "redis://" + server.Addr
	return join(t, options), byHand(t, server.Addr)
}

// hand is a connection on which whatever fails fails the test.
type hand struct {
	redis.Conn
	t *testing.T
}

func byHand(t *testing.T, addr string) hand {
	t.Helper()
	conn, err := redis.DialContext(t.Context(), "tcp", addr)
	must(t, err)
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // it has served
	return hand{conn, t}
}

func (h hand) do(name string, args ...any) any {
	h.t.Helper()
	answer, err := h.Do(name, args...)
	must(h.t, err)
	return answer
}

// length is how many records are there.
func (h hand) length() int64 {
	h.t.Helper()
	return h.do("XLEN", "notifyql").(int64)
}

func (h hand) groups() []group {
	h.t.Helper()
	list, err := groups(h.do("XINFO", "GROUPS", "notifyql"))
	must(h.t, err)
	return list
}

func join(t *testing.T, options Options) *Stream {
	t.Helper()
	s, err := New(options)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func reading(t *testing.T, s *Stream) bus.Reader {
	t.Helper()
	r, err := s.Open(t.Context())
	must(t, err)
	return r
}

func appendTo(t *testing.T, s *Stream, count, size int) {
	t.Helper()
	for range count {
		must(t, s.Append(t.Context(), make([]byte, size)))
	}
}

// TestTrimmed: what all have read is removed soon, what one has not read yet is not, and nothing is left of who leaves.
func TestTrimmed(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	s, look := open(t, Options{Keep: 16 * size})
	appendTo(t, s, 10, size)
	if n := look.length(); n > 1 {
		t.Errorf("%d records are kept for nobody", n)
	}
	slow, fast := reading(t, s), reading(t, s)
	for range 10 {
		appendTo(t, s, 1, size)
		_, err := fast.Read(t.Context())
		must(t, err)
	}
	if n := look.length(); n < 10 || n > 11 {
		t.Errorf("%d records are kept for one that has 10 to read", n)
	}
	for n := 0; n < 10; {
		records, err := slow.Read(t.Context())
		must(t, err)
		n += len(records)
	}
	appendTo(t, s, 1, size)
	if n := look.length(); n > 2 {
		t.Errorf("%d records are kept that all have read", n)
	}
	slow.Close()
	fast.Close()
	groups := look.groups()
	if len(groups) != 0 {
		t.Errorf("groups are left: %v", groups)
	}
	if ttl := look.do("PTTL", "notifyql").(int64); ttl <= 0 || ttl > expires.Milliseconds() {
		t.Errorf("the stream stays for %d ms when all have left", ttl)
	}
}

// TestPassed: who stops reading is told by the first record behind the gap, before anybody has given it up.
func TestPassed(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	s, look := open(t, Options{Keep: 8 * size})
	r := reading(t, s)
	defer r.Close()
	appendTo(t, s, 9, size)
	groups := look.groups()
	if len(groups) != 1 {
		t.Fatalf("there are %d groups", len(groups))
	}
	if records, err := r.Read(t.Context()); !errors.Is(err, bus.ErrGap) || strings.Contains(err.Error(), "NOGROUP") {
		t.Errorf("the reader got %d records, %v", len(records), err)
	}
}

// TestForgotten: a server that has died without a word does not keep records, nor itself; what others do with the stream is
// left alone.
func TestForgotten(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	s, look := open(t, Options{Keep: 64 * size, Forget: time.Nanosecond})
	dead := reading(t, s)
	look.do("XGROUP", "CREATE", "notifyql", "somebody", "0")
	appendTo(t, s, 20, size)
	groups := look.groups()
	if len(groups) != 1 || groups[0].name != "somebody" {
		t.Errorf("there are the groups %v", groups)
	}
	if n := look.length(); n > 5 {
		t.Errorf("%d records are kept for nobody", n)
	}
	if _, err := dead.Read(t.Context()); !errors.Is(err, bus.ErrGap) {
		t.Errorf("who was given up got %v", err)
	}
	dead.Close()
}

// TestBoundOverAppenders: each appender counts what those before it left.
func TestBoundOverAppenders(t *testing.T) {
	t.Parallel()
	const size, keep = 64 << 10, 16
	first, look := open(t, Options{Keep: keep * size})
	defer reading(t, first).Close() // it reads nothing
	for range 5 {
		s := join(t, first.options)
		appendTo(t, s, keep-2, size)
		if n := look.length(); n > keep+1 {
			t.Fatalf("%d records are kept, of %d", n, keep)
		}
		must(t, s.Close())
	}
}

// TestSomethingElse: a key that something else uses is an error that says so.
func TestSomethingElse(t *testing.T) {
	t.Parallel()
	s, look := open(t, Options{})
	r := reading(t, s)
	defer r.Close()
	look.do("XADD", "notifyql", "*", "a", "b")
	if _, err := r.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "does something else use the key?") {
		t.Errorf("Read: %v", err)
	}
	if err := s.Append(t.Context(), []byte("c")); err == nil || !strings.Contains(err.Error(), "does something else use the key?") {
		t.Errorf("Append: %v", err)
	}
}

// TestPassword: it is used, and said nowhere.
func TestPassword(t *testing.T) {
	t.Parallel()
	const secret = "open-sesame"
	server := localbroker.New(t, localbroker.Redis, "--requirepass", secret)
	s := join(t, Options{URL: "redis://:" + secret + "@" + server.Addr})
	r := reading(t, s)
	appendTo(t, s, 1, 10)
	_, err := r.Read(t.Context())
	must(t, err)
	r.Close()

	wrong := join(t, Options{URL: "redis://:" + secret + "!@" + server.Addr})
	_, openErr := wrong.Open(t.Context())
	appendErr := wrong.Append(t.Context(), []byte("a"))
	_, urlErr := New(Options{URL: "redis://:" + secret + "@local host:70000"})
	_, schemeErr := New(Options{URL: "http://:" + secret + "@localhost"})
	_, pathErr := New(Options{URL: "redis://:" + secret + "@localhost/x"})
	must(t, server.Kill())
	downErr := s.Append(t.Context(), []byte("a"))
	for _, err := range []error{openErr, appendErr, urlErr, schemeErr, pathErr, downErr} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("got %v", err)
		}
	}
	if name := s.String(); strings.Contains(name, secret) || !strings.Contains(name, server.Addr) {
		t.Errorf("it is called %s", name)
	}
}

// TestTLS: rediss:// is encrypted, and believes nobody whose certificate is of no authority that is trusted.
func TestTLS(t *testing.T) {
	t.Parallel()
	certificate, key, pool := localbroker.Certificate(t)
	server := localbroker.New(t, localbroker.Redis) // the port without TLS says that it runs
	_, port, err := net.SplitHostPort(server.Addr)
	must(t, err)
	look := byHand(t, server.Addr)
	for name, value := range map[string]string{"tls-cert-file": certificate, "tls-key-file": key, "tls-auth-clients": "no"} {
		look.do("CONFIG", "SET", name, value)
	}
	look.do("CONFIG", "SET", "port", "0")
	look.do("CONFIG", "SET", "tls-port", port)
	url := "rediss://" + server.Addr
	s := join(t, Options{URL: url, TLS: &tls.Config{RootCAs: pool}})
	r := reading(t, s)
	defer r.Close()
	appendTo(t, s, 1, 10)
	_, err = r.Read(t.Context())
	must(t, err)
	var unknown x509.UnknownAuthorityError
	if err := join(t, Options{URL: url}).Append(t.Context(), []byte("a")); !errors.As(err, &unknown) {
		t.Errorf("a certificate of nobody: %v", err)
	}
	if err := join(t, Options{URL: "redis://" + server.Addr}).Append(t.Context(), []byte("a")); err == nil {
		t.Error("it works without TLS")
	}
}

// TestPlaces: ids are compared as numbers.
func TestPlaces(t *testing.T) {
	t.Parallel()
	texts := []string{"0-0", "9-10", "10-9", "10-10", "18446744073709551615-0"}
	for i, a := range texts {
		p, err := parsePlace(a)
		must(t, err)
		if p.String() != a {
			t.Errorf("%s became %s", a, p)
		}
		for j, b := range texts {
			q, err := parsePlace(b)
			must(t, err)
			if p.before(q) != (i < j) {
				t.Errorf("%s before %s: %v", a, b, p.before(q))
			}
		}
	}
	for _, bad := range []string{"", "1", "-", "1-", "a-1", "1-a", "-1-1"} {
		if p, err := parsePlace(bad); err == nil {
			t.Errorf("%q was read as %v", bad, p)
		}
	}
}

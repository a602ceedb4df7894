package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/localbroker"
)

func join(t *testing.T, options Options) *Stream {
	t.Helper()
	s, err := New(options)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func appendTo(t *testing.T, s *Stream, count, size int) {
	t.Helper()
	for range count {
		must(t, s.Append(t.Context(), make([]byte, size)))
	}
}

func reading(t *testing.T, s *Stream) bus.Reader {
	t.Helper()
	r, err := s.Open(t.Context())
	must(t, err)
	return r
}

// look returns what JetStream has of the stream.
func look(t *testing.T, server *localbroker.Server) *jetstream.StreamInfo {
	t.Helper()
	nc, err := natsgo.Connect(server.Addr)
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	s, err := js.Stream(t.Context(), "notifyql")
	must(t, err)
	return s.CachedInfo()
}

// TestLimits: the stream is in memory, within what the one that appends has been told, and who leaves leaves nothing.
func TestLimits(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	server := localbroker.New(t, localbroker.NATS)
	url := "nats://" + server.Addr
	r := reading(t, join(t, Options{URL: url}))
	if info := look(t, server); info.Config.Storage != jetstream.MemoryStorage || info.Config.MaxBytes != 64<<20 || info.Config.MaxAge != time.Minute {
		t.Errorf("the stream is %+v", info.Config)
	}
	appendTo(t, join(t, Options{URL: url, Keep: 8 * size, Forget: time.Hour}), 20, size)
	info := look(t, server)
	if info.Config.MaxBytes != 8*size || info.Config.MaxAge != time.Hour {
		t.Errorf("the stream's limits are still %+v", info.Config)
	}
	if info.State.Bytes > 8*size {
		t.Errorf("%d bytes are kept", info.State.Bytes)
	}
	if info.State.Consumers != 1 {
		t.Errorf("there are %d consumers", info.State.Consumers)
	}
	r.Close()
	if info := look(t, server); info.State.Consumers != 0 {
		t.Errorf("there are %d consumers when all have left", info.State.Consumers)
	}
}

// TestPassed: who was passed reads what it had, and then an error that says it.
func TestPassed(t *testing.T) {
	t.Parallel()
	const size = 512 << 10
	server := localbroker.New(t, localbroker.NATS)
	s := join(t, Options{URL: "nats://" + server.Addr, Keep: size + 1000})
	r := reading(t, s)
	defer r.Close()
	appendTo(t, s, 40, size)
	for n := 0; ; {
		records, err := r.Read(t.Context())
		if n += len(records); n > most/size*4 {
			t.Fatalf("%d records were kept for it", n)
		}
		if errors.Is(err, bus.ErrGap) {
			break
		}
		must(t, err)
	}
}

// TestStreamRemoved: a stream that somebody deletes is made again, and who reads is told.
func TestStreamRemoved(t *testing.T) {
	t.Parallel()
	server := localbroker.New(t, localbroker.NATS)
	s := join(t, Options{URL: "nats://" + server.Addr})
	r := reading(t, s)
	appendTo(t, s, 1, 10)
	_, err := r.Read(t.Context())
	must(t, err)
	nc, err := natsgo.Connect(server.Addr)
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	must(t, js.DeleteStream(t.Context(), "notifyql"))
	if _, err := r.Read(t.Context()); err == nil {
		t.Error("a reader of a stream that was removed got no error")
	}
	r.Close()
	if err := s.Append(t.Context(), []byte("a")); err == nil {
		t.Error("Append to a stream that was removed got no error")
	}
	r = reading(t, s)
	defer r.Close()
	appendTo(t, s, 1, 10)
	_, err = r.Read(t.Context())
	must(t, err)
}

// TestPassword: it is used, and said nowhere.
func TestPassword(t *testing.T) {
	t.Parallel()
	const secret = "open-sesame"
	server := localbroker.New(t, localbroker.NATS, "--user", "u", "--pass", secret)
	s := join(t, Options{URL: "nats://u:" + secret + "@" + server.Addr})
	r := reading(t, s)
	appendTo(t, s, 1, 10)
	_, err := r.Read(t.Context())
	must(t, err)
	r.Close()

	wrong := join(t, Options{URL: "nats://u:" + secret + "!@" + server.Addr})
	_, openErr := wrong.Open(t.Context())
	appendErr := wrong.Append(t.Context(), []byte("a"))
	_, urlErr := New(Options{URL: "nats://u:" + secret + "@local host:4222"})
	_, schemeErr := New(Options{URL: "http://u:" + secret + "@localhost"})
	_, listErr := New(Options{URL: "nats://localhost,u:" + secret + "@localhost"})
	_, nameErr := New(Options{URL: "nats://" + secret + "@localhost", Stream: "a.b"})
	must(t, server.Kill())
	downErr := s.Append(t.Context(), []byte("a"))
	for i, err := range []error{openErr, appendErr, urlErr, schemeErr, listErr, nameErr, downErr} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%d: got %v", i, err)
		}
	}
	if name := s.String(); strings.Contains(name, secret) || !strings.Contains(name, server.Addr) {
		t.Errorf("it is called %s", name)
	}
}

// TestWithoutJetStream: the error of a server that has none says so.
func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	server := localbroker.New(t, localbroker.NATS, "--jetstream=false")
	if _, err := join(t, Options{URL: "nats://" + server.Addr}).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "is it enabled?") {
		t.Errorf("got %v", err)
	}
}

// TestTLS: tls:// is encrypted, and believes nobody whose certificate is of no authority that is trusted.
func TestTLS(t *testing.T) {
	t.Parallel()
	certificate, key, pool := localbroker.Certificate(t)
	server := localbroker.New(t, localbroker.NATS, "--tls", "--tlscert", certificate, "--tlskey", key)
	url := "tls://" + server.Addr
	s := join(t, Options{URL: url, Connect: []natsgo.Option{natsgo.Secure(&tls.Config{RootCAs: pool})}})
	r := reading(t, s)
	defer r.Close()
	appendTo(t, s, 1, 10)
	_, err := r.Read(t.Context())
	must(t, err)
	var unknown x509.UnknownAuthorityError
	if err := join(t, Options{URL: url}).Append(t.Context(), []byte("a")); !errors.As(err, &unknown) {
		t.Errorf("a certificate of nobody: %v", err)
	}
}

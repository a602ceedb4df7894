// Package nats is a bus.Stream in NATS: a stream of JetStream, with an ordered consumer for each server that reads.
//
// The stream is made when it is not there, in memory, with one subject of the same name, and with limits: Options.Keep
// bytes and Options.Forget. Who reads more slowly than that is passed, and told so by the numbers of the messages.
//
// A reader has a connection of its own, that does not reconnect: when it is lost, the reader is over. So is what appends,
// for which Append makes another. Whoever is silent for some three seconds is given up. The client's own ordered consumer
// would begin anew by itself, and hide that the stream did too.
package nats

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/notifyql/notifyql/bus"
)

// Options say where the stream is and what of it is kept. All servers have the same.
type Options struct {
	// URL is nats://[user:password@]host[:port] or nats://token@host, or tls:// for TLS; several, of one cluster, with commas
	// between. The certificate must be of one of the authorities that the system trusts, unless Connect says otherwise.
	URL string
	// Stream is the stream's name, and its subject; default "notifyql". Servers that share a database in Postgres share it,
	// and no others.
	Stream string
	// Keep is how many bytes NATS holds for servers that are behind; default 64 MiB.
	Keep int64
	// Forget is how long NATS holds a record for them; default one minute.
	Forget time.Duration
	// Replicas is how many servers of a cluster have the stream; default 1, or what a stream that is there has. With three it
	// outlives one of them.
	Replicas int
	// Connect are further options of the connection: certificates, credentials, a dialer.
	Connect []natsgo.Option
}

const (
	maxRecord = 512 << 10
	// silence is how long NATS may take for an answer.
	silence = 1500 * time.Millisecond
	// pings: a connection over which two in turn are not answered is dead.
	pings = time.Second
)

// Stream is a bus.Stream in NATS.
type Stream struct {
	options Options
	name    string // without a secret

	mu       sync.Mutex // held by Append, which is called by one at a time anyway, and Close
	appender *connection
	closed   bool
}

// New returns the stream. It connects when it is used; an error is one in the options.
func New(options Options) (*Stream, error) {
	var hosts []string
	for one := range strings.SplitSeq(options.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil {
			var inURL *url.Error // it has the whole of it, and that may have a password
			if errors.As(err, &inURL) {
				err = inURL.Err
			}
			return nil, fmt.Errorf("nats: the URL can't be read: %w", err)
		}
		if u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
			return nil, errors.New("nats: the URL must be nats://host or tls://host")
		}
		hosts = append(hosts, u.Host)
	}
	if options.Stream == "" {
		options.Stream = "notifyql"
	}
	if strings.ContainsAny(options.Stream, " .*>/\\\t\r\n") {
		return nil, fmt.Errorf("nats: %q can't be a stream's name", options.Stream)
	}
	if options.Keep <= 0 {
		options.Keep = 64 << 20
	}
	if options.Forget <= 0 {
		options.Forget = time.Minute
	}
	return &Stream{options: options, name: fmt.Sprintf("the stream %s of NATS at %s", options.Stream, strings.Join(hosts, ", "))}, nil
}

// MaxRecord is how many bytes a record may have.
func (s *Stream) MaxRecord() int { return maxRecord }

func (s *Stream) String() string { return s.name }

// Append adds a record, and returns when JetStream has it. It connects if there is no connection. After an error there is
// none.
func (s *Stream) Append(ctx context.Context, record []byte) error {
	if len(record) > maxRecord {
		return fmt.Errorf("nats: a record of %d bytes, of %d at most", len(record), maxRecord)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed {
		return errors.New("nats: the stream was closed")
	}
	if s.appender == nil {
		c, err := s.dial(ctx)
		if err != nil {
			return err
		}
		s.appender = c
		if _, err := s.ensure(ctx, c, true); err != nil {
			s.drop()
			return err
		}
	}
	appending, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, err := s.appender.js.Publish(appending, s.options.Stream, record,
		jetstream.WithExpectStream(s.options.Stream), jetstream.WithRetryAttempts(0))
	if err != nil {
		err = s.appender.because(err)
		s.drop()
		return fmt.Errorf("nats: appending: %w", plain(err))
	}
	return nil
}

// ensure finds the stream, or makes it, and returns the number of its newest message. Whoever appends also sets its limits.
func (s *Stream) ensure(ctx context.Context, c *connection, limits bool) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	config := jetstream.StreamConfig{
		Name: s.options.Stream, Subjects: []string{s.options.Stream}, Storage: jetstream.MemoryStorage,
		MaxBytes: s.options.Keep, MaxAge: s.options.Forget, Replicas: max(s.options.Replicas, 1),
	}
	stream, err := c.js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = c.js.CreateStream(ctx, config)
	} else if err == nil && limits {
		old := stream.CachedInfo().Config
		if s.options.Replicas == 0 {
			config.Replicas = old.Replicas
		}
		if old.MaxBytes != config.MaxBytes || old.MaxAge != config.MaxAge || old.Replicas != config.Replicas {
			old.MaxBytes, old.MaxAge, old.Replicas = config.MaxBytes, config.MaxAge, config.Replicas
			stream, err = c.js.UpdateStream(ctx, old)
		}
	}
	if errors.Is(err, natsgo.ErrNoResponders) {
		return 0, fmt.Errorf("nats: JetStream does not answer, is it enabled? %w", err)
	}
	if err != nil {
		return 0, fmt.Errorf("nats: the stream %s: %w", config.Name, c.because(err))
	}
	info := stream.CachedInfo()
	takes := func(subject string) bool { return subject == config.Name || strings.ContainsAny(subject, "*>") }
	if !slices.ContainsFunc(info.Config.Subjects, takes) {
		return 0, fmt.Errorf("nats: the stream %s is another's: its subjects are %q, and not %[1]s", config.Name, info.Config.Subjects)
	}
	return info.State.LastSeq, nil
}

func (s *Stream) drop() {
	s.appender.Close()
	s.appender = nil
}

// Close ends the connection of what appends.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.appender != nil {
		s.drop()
	}
	return nil
}

var _ bus.Stream = (*Stream)(nil)

// Package redis is a bus.Stream in Redis: one of its Streams, with a consumer group for each server that reads.
//
// Redis 6.2 or newer, or what speaks its protocol; one server, or whatever stands behind one address. It needs no
// persistence. The groups are there so that whoever appends knows how far each server has read, and removes no more than
// all have; up to Options.Keep bytes, behind which a server that reads too slowly is passed, and told so.
//
// A reader has a connection of its own, that is never replaced: when it is lost, the reader is over. So is what appends,
// for which Append makes another. Whoever is silent for two and a half seconds is given up.
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/notifyql/notifyql/bus"
)

// Options say where the stream is and what of it is kept. All servers have the same.
type Options struct {
	// URL is redis://[[user]:password@]host[:port][/database], or rediss:// for TLS. The certificate must be of one of the
	// authorities that the system trusts, unless TLS says otherwise.
	URL string
	// Stream is the key; default "notifyql". Servers that share a database in Postgres share it, and no others.
	Stream string
	// Keep is how many bytes of records Redis holds for servers that are behind; default 64 MiB.
	Keep int64
	// Forget is after how long a server that reads nothing of what is there is given up; default one minute.
	Forget time.Duration
	// TLS, if set, is how a rediss:// URL is encrypted. ServerName is filled in.
	TLS *tls.Config
	// Dial, if set, connects to host:port, before TLS.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Credentials, if set, are asked for at each connection, instead of the URL's. With an empty user it is the default one.
	Credentials func(ctx context.Context) (user, password string, err error)
}

const (
	maxRecord = 512 << 10
	readCount = 8 // records of one Read: with maxRecord, 4 MiB
	// expires is when Redis removes a stream that nobody uses any more.
	expires = time.Hour
	// silence is how long Redis may take for an answer.
	silence = 1500 * time.Millisecond
	// block is how long a read waits in Redis. What is silent longer than both is dead.
	block = time.Second
)

// Stream is a bus.Stream in Redis.
type Stream struct {
	options Options
	server  server

	mu       sync.Mutex // held by Append, which is called by one at a time anyway, and Close
	appender *appender  // nil: no connection
	closed   bool
}

// New returns the stream. It connects when it is used; an error is one in the options.
func New(options Options) (*Stream, error) {
	server, err := parseURL(options.URL)
	if err != nil {
		return nil, fmt.Errorf("redis: the URL can't be read: %w", err)
	}
	if options.Stream == "" {
		options.Stream = "notifyql"
	}
	if options.Keep <= 0 {
		options.Keep = 64 << 20
	}
	if options.Forget <= 0 {
		options.Forget = time.Minute
	}
	if options.Dial == nil {
		options.Dial = new(net.Dialer).DialContext
	}
	if server.tls {
		options.TLS = options.TLS.Clone()
		if options.TLS == nil {
			options.TLS = new(tls.Config)
		}
		if options.TLS.ServerName == "" {
			options.TLS.ServerName, _, _ = net.SplitHostPort(server.address)
		}
	} else if options.TLS != nil {
		return nil, errors.New("redis: TLS is set, and the URL is not a rediss:// one")
	}
	return &Stream{options: options, server: server}, nil
}

// server is what the URL says.
type server struct {
	address        string
	tls            bool
	user, password string
	database       string // a number; empty: zero
}

// parseURL reads a URL. Its errors have nothing of it: there may be a password.
func parseURL(text string) (s server, err error) {
	u, err := url.Parse(text)
	if err != nil {
		var inURL *url.Error // it has the whole of it
		if errors.As(err, &inURL) {
			err = inURL.Err
		}
		return s, err
	}
	switch u.Scheme {
	case "redis":
	case "rediss":
		s.tls = true
	default:
		return s, errors.New("its scheme is neither redis nor rediss")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return s, errors.New("it has more than user, password, host, port and database")
	}
	host, port := u.Hostname(), u.Port()
	s.address = net.JoinHostPort(cmp.Or(host, "localhost"), cmp.Or(port, "6379"))
	s.user = u.User.Username()
	s.password, _ = u.User.Password()
	if s.database = strings.Trim(u.Path, "/"); s.database != "" {
		if _, err := strconv.ParseUint(s.database, 10, 31); err != nil {
			return s, errors.New("the database is no number")
		}
	}
	return s, nil
}

// MaxRecord is how many bytes a record may have.
func (s *Stream) MaxRecord() int { return maxRecord }

func (s *Stream) String() string {
	return fmt.Sprintf("the stream %s of Redis at %s", s.options.Stream, s.server.address)
}

// Append adds a record, and returns when Redis has it. It connects if there is no connection. After an error there is none.
func (s *Stream) Append(ctx context.Context, record []byte) error {
	if len(record) > maxRecord {
		return fmt.Errorf("redis: a record of %d bytes, of %d at most", len(record), maxRecord)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed {
		return errors.New("redis: the stream was closed")
	}
	var err error
	if s.appender == nil {
		if s.appender, err = s.newAppender(ctx); err != nil {
			return err
		}
	}
	if err = s.appender.append(ctx, record); err != nil {
		s.appender.close()
		s.appender = nil
	}
	return err
}

// Close ends the connection of what appends.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.appender != nil {
		s.appender.close()
		s.appender = nil
	}
	return nil
}

var _ bus.Stream = (*Stream)(nil)

// isReply says whether an error is Redis's answer and starts with a word, like NOGROUP.
func isReply(err error, word string) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(string(reply), word)
}

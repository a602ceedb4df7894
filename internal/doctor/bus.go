package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/relay"
)

// Bus is a broker that carries changes.
type Bus struct {
	Stream bus.Stream // nil: there is none
	URL    string     // of the broker: redis://… or nats://…
	Name   string     // the stream's
}

const busWhy = "Until a server can use it, it reads the change log in the database itself: nothing is lost, and each server is a load."

// bus sends a record around: whoever can do that can do all that a server does there. Servers pass the record over.
func (v *visit) bus(ctx context.Context) (string, error) {
	b := v.o.Bus
	if b.Stream == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	began := time.Now()
	err := roundTrip(ctx, b.Stream)
	if err == nil {
		return fmt.Sprintf("a record went around by %s in %v", b.Stream, time.Since(began).Round(100*time.Microsecond)), nil
	}
	id, fix := b.diagnose(said(err))
	v.found(Error, id, "", fmt.Sprintf("%s can't be used: %s", b.Stream, said(err)), busWhy, fix...)
	return "", nil
}

var errSilent = errors.New("a record that was added does not arrive")

// roundTrip opens the stream, adds the largest record that is allowed, and reads until it is there.
func roundTrip(ctx context.Context, stream bus.Stream) error {
	reader, err := stream.Open(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	probe := relay.Probe(stream.MaxRecord())
	if err := stream.Append(ctx, probe); err != nil {
		return err
	}
	for {
		records, err := reader.Read(ctx)
		if ctx.Err() != nil {
			return errSilent
		}
		if err != nil {
			return err
		}
		for _, record := range records {
			if bytes.Equal(record, probe) {
				return nil
			}
		}
	}
}

// diagnose tells by the broker's own words what is wrong, and what mends it.
func (b Bus) diagnose(words string) (id string, fix []Step) {
	has := func(any ...string) bool {
		for _, one := range any {
			if strings.Contains(words, one) {
				return true
			}
		}
		return false
	}
	scheme, host := "redis", "HOST:6379"
	user := "default"
	u, err := url.Parse(strings.Split(b.URL, ",")[0]) // of several, any one's user is the user of all
	if err == nil {
		scheme, host = u.Scheme, u.Host
		if name := u.User.Username(); name != "" {
			user = name
		}
	}
	credentials := setting("NOTIFYQL_BUS=%s://USER:PASSWORD@%s", scheme, host)
	switch {
	case has("NOAUTH", "WRONGPASS", "invalid password", "without any password configured", "Authorization Violation", "authorization violation", "Authentication Expired"):
		return "bus-credentials", []Step{credentials}
	case has("NOPERM"):
		return "bus-rights", []Step{shell("redis-cli ACL SETUSER %s '~%s' +select +xadd +xreadgroup +xgroup +xinfo +xtrim +pexpire", user, b.Name)}
	case has("ermissions Violation", "ermissions violation"):
		return "bus-rights", []Step{advice(fmt.Sprintf("let the user publish to %s and $JS.API.>, and subscribe to _INBOX.>", b.Name))}
	case has("JetStream does not answer", "jetstream not enabled"):
		return "bus-jetstream", []Step{shell("nats-server --jetstream"), advice("or put jetstream {} into its configuration; where there are accounts, into the account, too")}
	case has("WRONGTYPE", "is another's", "subjects overlap", "expected stream does not match"):
		return "bus-name", []Step{setting("NOTIFYQL_BUS_STREAM=%s_changes", b.Name), advice("something else has the stream's name; or remove that")}
	case has("maximum payload exceeded", "message size exceeds maximum"):
		return "bus-record", []Step{advice(fmt.Sprintf("let messages be of %d bytes: max_payload of the server, or max_msg_size of the stream (notifyql makes it without one)", b.Stream.MaxRecord()))}
	case has("READONLY"):
		return "bus-stream", []Step{advice("the broker is a replica; set NOTIFYQL_BUS to what it is a replica of")}
	case has("OOM ", "insufficient resources", "maximum bytes exceeded"):
		return "bus-stream", []Step{advice("give the broker more memory than NOTIFYQL_BUS_BYTES, or lower that")}
	case has("unknown command"):
		return "bus-stream", []Step{advice("Redis 6.2 or newer is needed")}
	case has("connection refused", "no servers available", "no such host", "timeout", "deadline exceeded", "unreachable", "EOF", "reset by peer", "certificate", "tls:"):
		return "bus-unreachable", []Step{setting("NOTIFYQL_BUS=%s://%s", scheme, map[bool]string{true: "HOST:4222", false: "HOST:6379"}[scheme == "nats" || scheme == "tls"]), advice("or start the broker there, and let this machine reach it")}
	}
	return "bus-stream", []Step{advice("look at the broker's log; NOTIFYQL_BUS=postgres does without one")}
}

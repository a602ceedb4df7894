package main

import (
	"fmt"
	"strings"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/bus/nats"
	"github.com/notifyql/notifyql/bus/redis"
)

// carry makes what NOTIFYQL_BUS names. The stream, if there is one, is closed by whom it is returned to.
func (s *settings) carry() (_ notifyql.Bus, stream bus.Stream, err error) {
	scheme, _, isURL := strings.Cut(s.bus, "://")
	switch {
	case s.bus == "postgres":
		return notifyql.Bus{}, nil, nil
	case s.bus == "memory":
		return notifyql.MemoryBus(), nil, nil
	case isURL && (scheme == "redis" || scheme == "rediss"):
		stream, err = redis.New(redis.Options{URL: s.bus, Stream: s.busStream, Keep: s.busBytes})
	case isURL && (scheme == "nats" || scheme == "tls"):
		stream, err = nats.New(nats.Options{URL: s.bus, Stream: s.busStream, Keep: s.busBytes})
	default:
		said := s.bus
		if strings.ContainsAny(said, ":@/") { // it may have a password
			said = "…"
		}
		return notifyql.Bus{}, nil, fmt.Errorf("NOTIFYQL_BUS is %q; it can be postgres, memory, redis://host:6379 or nats://host:4222", said)
	}
	if err != nil {
		return notifyql.Bus{}, nil, fmt.Errorf("NOTIFYQL_BUS: %w", err)
	}
	return notifyql.StreamBus(stream), stream, nil
}

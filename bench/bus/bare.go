package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// loop publishes for so long, waits until all who subscribe have got all, and returns how many a second that were. Each of
// subscribe waits for messages, at least one, and says how many came.
func loop(ctx context.Context, during time.Duration, publish func() error, subscribe []func(ctx context.Context) (int, error)) (float64, error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var published, over atomic.Int64
	over.Store(-1)
	errs := make(chan error, len(subscribe))
	for _, take := range subscribe {
		wg.Go(func() {
			for got := int64(0); got != over.Load(); {
				n, err := take(ctx)
				if err != nil {
					errs <- err
					return
				}
				got += int64(n)
			}
			errs <- nil
		})
	}
	began := time.Now()
	for time.Since(began) < during {
		if err := publish(); err != nil {
			return 0, err
		}
		published.Add(1)
	}
	over.Store(published.Load() + 1) // and one more, which tells those who wait
	if err := publish(); err != nil {
		return 0, err
	}
	for range subscribe {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	return float64(published.Load()) / time.Since(began).Seconds(), nil
}

// barePostgres notifies and listens.
func barePostgres(ctx context.Context, url string, subscribers int, payload []byte, during time.Duration) (float64, error) {
	publisher, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer publisher.Close(ctx) //nolint:errcheck // it has served
	var subscribe []func(context.Context) (int, error)
	for range subscribers {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, err
		}
		defer conn.Close(ctx) //nolint:errcheck // it has served
		if _, err := conn.Exec(ctx, "listen bare"); err != nil {
			return 0, err
		}
		subscribe = append(subscribe, func(ctx context.Context) (int, error) {
			_, err := conn.WaitForNotification(ctx)
			return 1, err
		})
	}
	return loop(ctx, during, func() error {
		_, err := publisher.Exec(ctx, "select pg_notify('bare', $1)", string(payload))
		return err
	}, subscribe)
}

// bareRedis adds to a stream and reads it.
func bareRedis(ctx context.Context, address string, subscribers int, payload []byte, during time.Duration) (float64, error) {
	publisher, err := redis.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer publisher.Close() //nolint:errcheck // it has served
	var subscribe []func(context.Context) (int, error)
	for range subscribers {
		conn, err := redis.DialContext(ctx, "tcp", address)
		if err != nil {
			return 0, err
		}
		defer conn.Close() //nolint:errcheck // it has served
		last := "0"
		subscribe = append(subscribe, func(context.Context) (int, error) {
			streams, err := redis.Values(conn.Do("XREAD", "COUNT", 1000, "BLOCK", 0, "STREAMS", "bare", last))
			if err != nil {
				return 0, err
			}
			stream, err := redis.Values(streams[0], nil)
			if err != nil {
				return 0, err
			}
			entries, err := redis.Values(stream[1], nil)
			if err != nil {
				return 0, err
			}
			newest, err := redis.Values(entries[len(entries)-1], nil)
			if err != nil {
				return 0, err
			}
			last, err = redis.String(newest[0], nil)
			return len(entries), err
		})
	}
	return loop(ctx, during, func() error {
		_, err := publisher.Do("XADD", "bare", "*", "r", payload)
		return err
	}, subscribe)
}

// bareNATS publishes to a stream of JetStream and consumes it.
func bareNATS(ctx context.Context, address string, subscribers int, payload []byte, during time.Duration) (float64, error) {
	nc, err := natsgo.Connect(address)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "bare", Subjects: []string{"bare"}, Storage: jetstream.MemoryStorage, MaxBytes: 1 << 30})
	if err != nil {
		return 0, err
	}
	var subscribe []func(context.Context) (int, error)
	for range subscribers {
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		if err != nil {
			return 0, err
		}
		messages, err := consumer.Messages()
		if err != nil {
			return 0, err
		}
		defer messages.Stop()
		subscribe = append(subscribe, func(context.Context) (int, error) {
			_, err := messages.Next()
			return 1, err
		})
	}
	return loop(ctx, during, func() error {
		_, err := js.Publish(ctx, "bare", payload)
		return err
	}, subscribe)
}

// bareStream is the same over a bus.Stream: what our adapter costs.
func bareStream(ctx context.Context, c carrier, address string, subscribers int, payload []byte, during time.Duration) (float64, error) {
	publisher, err := c.open(address, "stream")
	if err != nil {
		return 0, err
	}
	defer publisher.Close() //nolint:errcheck // it has served
	var subscribe []func(context.Context) (int, error)
	for range subscribers {
		stream, err := c.open(address, "stream")
		if err != nil {
			return 0, err
		}
		defer stream.Close() //nolint:errcheck // it has served
		r, err := stream.Open(ctx)
		if err != nil {
			return 0, err
		}
		defer r.Close()
		subscribe = append(subscribe, func(ctx context.Context) (int, error) {
			records, err := r.Read(ctx)
			return len(records), err
		})
	}
	return loop(ctx, during, func() error { return publisher.Append(ctx, payload) }, subscribe)
}

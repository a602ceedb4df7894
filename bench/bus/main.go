// Command bus measures what servers over each bus deliver, beside a bare publish and subscribe loop of the same client
// library in the same run, and what they ask of Postgres.
//
//	go run ./bench/bus                     all buses, with 1, 2 and 4 servers
//	go run ./bench/bus -seconds 10 redis   one of them
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/bus/nats"
	"github.com/notifyql/notifyql/bus/redis"
	"github.com/notifyql/notifyql/internal/localbroker"
)

// carrier is one bus.
type carrier struct {
	name    string
	program *localbroker.Program
	// open returns a server's way to a stream in the broker at the address.
	open func(address, name string) (bus.Stream, error)
	// bare publishes payloads one after the other for so long, to so many who subscribe, with nothing but the client library.
	bare func(ctx context.Context, address string, subscribers int, payload []byte, during time.Duration) (rate float64, err error)
}

var carriers = []carrier{
	{name: "postgres", bare: barePostgres},
	{
		name: "redis", program: &localbroker.Redis, bare: bareRedis,
		open: func(address, name string) (bus.Stream, error) {
			return redis.New(redis.Options{URL: "redis://" + address, Stream: name})
		},
	},
	{
		name: "nats", program: &localbroker.NATS, bare: bareNATS,
		open: func(address, name string) (bus.Stream, error) {
			return nats.New(nats.Options{URL: "nats://" + address, Stream: name})
		},
	},
}

func main() {
	seconds := flag.Int("seconds", 5, "length of each measured phase")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Printf("%s, %d cores, %s; Postgres, broker, servers and clients share them\n\n", runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Println("| bus | servers | events/s | bare loop, messages/s | ratio | bus.Stream, as bare | ratio | p50 | p99 | connections a server | transactions/s, idle | at 100 writes/s, besides them |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, c := range carriers {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), c.name) {
			continue
		}
		for _, servers := range []int{1, 2, 4} {
			if err := measure(ctx, c, servers, time.Duration(*seconds)*time.Second); err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s, %d servers: %v\n", c.name, servers, err)
				os.Exit(1)
			}
		}
	}
}

// measure prints a row of the table.
func measure(ctx context.Context, c carrier, servers int, during time.Duration) error {
	w, err := begin(ctx, c, servers)
	if err != nil {
		return err
	}
	defer w.end()
	connections, idle, err := w.load(ctx, 0, during)
	if err != nil {
		return err
	}
	_, busy, err := w.load(ctx, 100, during)
	if err != nil {
		return err
	}
	p50, p99 := w.latencies()
	rate, err := w.rate(ctx, during)
	if err != nil {
		return err
	}
	bare, err := c.bare(ctx, w.bareAddress(), servers, w.payload(), during)
	if err != nil {
		return fmt.Errorf("the bare loop: %w", err)
	}
	stream := bare // Postgres is none
	if c.open != nil {
		if stream, err = bareStream(ctx, c, w.bareAddress(), servers, w.payload(), during); err != nil {
			return fmt.Errorf("the stream: %w", err)
		}
	}
	fmt.Printf("| %s | %d | %.0f | %.0f | %.2f | %.0f | %.2f | %s | %s | %.1f | %.1f | %.1f |\n", c.name, servers, rate, bare, rate/bare, stream, stream/bare, ms(p50), ms(p99),
		float64(connections)/float64(servers), idle, busy)
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

// server is one notifyql server with one socket to it.
type server struct {
	*notifyql.Server
	client *client
}

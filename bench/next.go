package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/notifyql/notifyql"
)

// next measures what an event costs whoever reads it in process, beside reading the same bytes from a channel of Go's: when
// all are there already, and when each comes on its own.
func next(ctx context.Context, seconds int) error {
	srv, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus(), Limits: notifyql.Limits{TailBytes: 1 << 30}})
	if err != nil {
		return err
	}
	inner, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(inner) }()
	defer func() {
		stop()
		<-ended
	}()
	var streams [2]*notifyql.Stream // equal, so that what the first one reads is encoded for the second
	for i := range streams {
		streams[i], err = srv.Subscribe(ctx, notifyql.Request{
			Query: `subscription { channel(name: "c") { data } }`, Identity: notifyql.Identity{Tenants: []string{"acme"}},
		})
		if err != nil {
			return err
		}
		defer streams[i].Close()
	}
	publish := func() error {
		return srv.Publish(ctx, notifyql.Event{Channel: "c", Tenant: "acme", Data: strings.Repeat("x", 150)})
	}
	if err := publish(); err != nil {
		return err
	}
	var payload []byte
	for _, stream := range streams {
		if payload, err = stream.Next(ctx); err != nil {
			return err
		}
	}

	const many = 100_000
	waiting := make(chan []byte, many)
	readers := []struct {
		name string
		read func() error
		costs
	}{
		{name: "the first of a group, for which they are encoded", read: func() error { _, err := streams[0].Next(ctx); return err }},
		{name: "each other of the group", read: func() error { _, err := streams[1].Next(ctx); return err }},
		{name: "a channel", read: func() error { return receive(ctx, waiting) }},
	}
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end) || len(readers[0].nanoseconds) < 3; {
		for range many {
			if err := publish(); err != nil {
				return err
			}
			waiting <- payload
		}
		for i := range readers {
			if err := readers[i].measure(many, readers[i].read); err != nil {
				return err
			}
		}
	}
	channel := median(readers[2].nanoseconds)
	fmt.Printf("%d bytes an event, all there already:\n", len(payload))
	for _, r := range readers {
		took := median(r.nanoseconds)
		fmt.Printf("  %-50s %5.0f ns, %5.2f allocations, %4.1f times a channel\n", r.name, took, median(r.allocations), took/channel)
	}

	const few = 20_000
	turn := make(chan []byte)
	go func() {
		for {
			select {
			case turn <- payload:
			case <-inner.Done():
				return
			}
		}
	}()
	var each, alone costs
	err = each.measure(few, func() error {
		if err := publish(); err != nil {
			return err
		}
		_, err := streams[0].Next(ctx)
		return err
	})
	if err == nil {
		err = alone.measure(few, func() error { return receive(ctx, turn) })
	}
	if err != nil {
		return err
	}
	fmt.Printf("one by one, published, matched, encoded and read: %.0f ns, %.1f allocations, %.1f times a goroutine that sends on a channel\n",
		each.nanoseconds[0], each.allocations[0], each.nanoseconds[0]/alone.nanoseconds[0])
	return nil
}

func receive(ctx context.Context, c chan []byte) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// costs are of one of many calls.
type costs struct{ nanoseconds, allocations []float64 }

// measure calls f n times.
func (c *costs) measure(n int, f func() error) error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	c.nanoseconds = append(c.nanoseconds, float64(took)/float64(n))
	c.allocations = append(c.allocations, float64(after.Mallocs-before.Mallocs)/float64(n))
	return nil
}

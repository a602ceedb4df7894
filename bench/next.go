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
	stream, err := srv.Subscribe(ctx, notifyql.Request{
		Query: `subscription { channel(name: "c") { data } }`, Identity: notifyql.Identity{Tenants: []string{"acme"}},
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	publish := func() error {
		return srv.Publish(ctx, notifyql.Event{Channel: "c", Tenant: "acme", Data: strings.Repeat("x", 150)})
	}
	if err := publish(); err != nil {
		return err
	}
	payload, err := stream.Next(ctx)
	if err != nil {
		return err
	}

	const many = 100_000
	waiting := make(chan []byte, many)
	var ofStream, ofChannel, allocs, allocsOfChannel []float64
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end) || len(ofStream) < 3; {
		for range many {
			if err := publish(); err != nil {
				return err
			}
			waiting <- payload
		}
		took, made, err := costs(many, func() error { _, err := stream.Next(ctx); return err })
		if err != nil {
			return err
		}
		ofStream, allocs = append(ofStream, took), append(allocs, made)
		took, made, err = costs(many, func() error { return receive(ctx, waiting) })
		if err != nil {
			return err
		}
		ofChannel, allocsOfChannel = append(ofChannel, took), append(allocsOfChannel, made)
	}
	fmt.Printf("%d bytes an event, those that wait: Next %.0f ns and %.3f allocations, a channel %.0f ns and %.3f: %.1f of its time\n",
		len(payload), median(ofStream), median(allocs), median(ofChannel), median(allocsOfChannel), median(ofStream)/median(ofChannel))

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
	each, made, err := costs(few, func() error {
		if err := publish(); err != nil {
			return err
		}
		_, err := stream.Next(ctx)
		return err
	})
	if err != nil {
		return err
	}
	alone, _, err := costs(few, func() error { return receive(ctx, turn) })
	if err != nil {
		return err
	}
	fmt.Printf("one by one, published, matched, encoded and read: %.0f ns and %.1f allocations; from a goroutine that sends on a channel %.0f ns\n", each, made, alone)
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

// costs runs f n times and gives the nanoseconds and allocations of one.
func costs(n int, f func() error) (nanoseconds, allocations float64, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for range n {
		if err := f(); err != nil {
			return 0, 0, err
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return float64(took) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n), nil
}

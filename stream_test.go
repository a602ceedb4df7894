package notifyql_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/notifyql/notifyql"
)

const anything = `subscription { channel(name: "c") { data } }`

// A Next that waits ends with its stream, and with its server.
func TestNextEndsWithWhatItWaitsFor(t *testing.T) {
	srv, err := notifyql.New(notifyql.Config{Bus: notifyql.MemoryBus()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	var next [2]chan error
	var streams [2]*notifyql.Stream
	for i := range next {
		if streams[i], err = srv.Subscribe(t.Context(), notifyql.Request{Query: anything}); err != nil {
			t.Fatal(err)
		}
		next[i] = make(chan error, 1)
		go func() {
			_, err := streams[i].Next(t.Context())
			next[i] <- err
		}()
	}
	if err := streams[0].Close(); err != nil {
		t.Error(err)
	}
	if err := <-next[0]; !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
	stop()
	if err := <-next[1]; !errors.Is(err, io.EOF) {
		t.Errorf("after the server's end: %v", err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	var refused *notifyql.RequestError
	if _, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything}); !errors.As(err, &refused) {
		t.Errorf("a subscription that comes too late: %v", err)
	}
	if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Shared: true}); err == nil {
		t.Error("published to a server that has ended")
	}
	if err := srv.Run(t.Context()); err == nil {
		t.Error("it ran twice")
	}
	for range 2 {
		if err := streams[1].Close(); err != nil {
			t.Error(err)
		}
	}
}

// A Next that was given up has taken nothing, and one result is given to one of several that wait.
func TestNextMayBeGivenUp(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus()})
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close() //nolint:errcheck // it has served
	over, cancel := context.WithCancel(t.Context())
	given := make(chan error, 3)
	for range cap(given) { // one waits for a result, the others for their turn
		go func() {
			_, err := stream.Next(over)
			given <- err
		}()
	}
	cancel()
	for range cap(given) {
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	for _, data := range []int{1, 2} {
		if err := srv.Publish(t.Context(), notifyql.Event{Channel: "c", Shared: true, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan string, 2)
	for range 2 {
		go func() {
			b, err := stream.Next(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- string(b)
		}()
	}
	one, two := <-got, <-got
	if one == two || one+two != `{"data":{"channel":{"data":1}}}{"data":{"channel":{"data":2}}}` && two+one != `{"data":{"channel":{"data":1}}}{"data":{"channel":{"data":2}}}` {
		t.Errorf("got %s and %s", one, two)
	}
}

// A query is a stream of one result.
func TestAQueryInProcess(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus()})
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `{ __typename }`})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close() //nolint:errcheck // it has served
	if b, err := stream.Next(t.Context()); err != nil || string(b) != `{"data":{"__typename":"Query"}}` {
		t.Errorf("got %s, %v", b, err)
	}
	if _, err := stream.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
}

package ws

import (
	"context"
	"testing"
	"time"
)

// sink takes whatever is written.
type sink struct{}

func (sink) Subprotocol() string                    { return transportWS }
func (sink) Read(context.Context) ([]byte, error)   { return nil, context.Canceled }
func (sink) Write(context.Context, ...[]byte) error { return nil }
func (sink) Close(int, string) error                { return nil }

// source gives a few results each time.
type source struct{ result []byte }

func (s *source) Next(dst [][]byte, limit int) ([][]byte, error) {
	for range min(limit, 8) {
		dst = append(dst, s.result)
	}
	return dst, nil
}

func (s *source) Close() {}

type timedSource struct {
	source
	written int
	at      time.Time
}

func (s *timedSource) Written(at time.Time) { s.written++; s.at = at }

// writes returns what pulls from a stream and writes what it gave.
func writes(stream Stream) func() error {
	c := &conn{socket: sink{}, background: context.Background(), opts: Options{}.withDefaults()}
	s, b := &subscription{stream: stream, prefix: `{"id":"1","type":"next","payload":`}, new(batch)
	return func() error {
		if err := c.pull(s, b); err != nil {
			return err
		}
		return c.flush(b)
	}
}

// A stream that wants to know it is told of each write, and that costs no memory.
func TestTimedStreams(t *testing.T) {
	s := &timedSource{source: source{[]byte(`{"data":{}}`)}}
	write := writes(s)
	began := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s.written != 101 || s.at.Before(began) {
		t.Errorf("%d writes, at %v", s.written, s.at)
	}
}

func BenchmarkWrite(b *testing.B) {
	result := make([]byte, 200)
	for name, stream := range map[string]Stream{"plain": &source{result}, "timed": &timedSource{source: source{result}}} {
		b.Run(name, func(b *testing.B) {
			write := writes(stream)
			b.ReportAllocs()
			for b.Loop() {
				if err := write(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

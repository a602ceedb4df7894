package bustest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/bus/bustest"
)

// mistake is an adapter's, put between the suite and Memory.
type mistake struct {
	finds  string // the test that finds it
	join   func(m *bustest.Memory, name string, opts bustest.Options) bus.Stream
	stream func(s *wrong) // sets what the stream does otherwise
}

// wrong is a stream of which a part is replaced.
type wrong struct {
	*bustest.MemoryStream
	append func(ctx context.Context, record []byte) error
	open   func(ctx context.Context) (bus.Reader, error)
}

func (w *wrong) Append(ctx context.Context, record []byte) error { return w.append(ctx, record) }

func (w *wrong) Open(ctx context.Context) (bus.Reader, error) { return w.open(ctx) }

// reading is a reader of which Read is replaced.
type reading struct {
	bus.Reader
	read func(ctx context.Context, r bus.Reader) ([][]byte, error)
}

func (r *reading) Read(ctx context.Context) ([][]byte, error) { return r.read(ctx, r.Reader) }

// reads replaces what the stream's readers do.
func reads(read func(s *wrong, ctx context.Context, r *bus.Reader) ([][]byte, error)) func(*wrong) {
	return func(s *wrong) {
		s.open = func(ctx context.Context) (bus.Reader, error) {
			r, err := s.MemoryStream.Open(ctx)
			if err != nil {
				return nil, err
			}
			return &reading{Reader: r, read: func(ctx context.Context, _ bus.Reader) ([][]byte, error) { return read(s, ctx, &r) }}, nil
		}
	}
}

// reopens begins anew, where Read fails with what is said, and tells nobody.
func reopens(when func(error) bool) func(*wrong) {
	return reads(func(s *wrong, ctx context.Context, r *bus.Reader) ([][]byte, error) {
		for {
			records, err := (*r).Read(ctx)
			if err == nil || !when(err) || ctx.Err() != nil {
				return records, err
			}
			(*r).Close()
			for {
				if *r, err = s.MemoryStream.Open(ctx); err == nil {
					break
				}
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}
	})
}

var mistakes = map[string]mistake{
	"two records change places": {finds: "Order", stream: func(s *wrong) {
		var held []byte
		s.append = func(ctx context.Context, record []byte) error {
			if len(record) == 104 && held == nil {
				held = bytes.Clone(record)
				return nil
			}
			err := s.MemoryStream.Append(ctx, record)
			if held != nil && err == nil {
				err, held = s.MemoryStream.Append(ctx, held), nil
			}
			return err
		}
	}},
	"a record is appended after Append has returned": {finds: "Sizes", stream: func(s *wrong) {
		var before []byte // refers to what is the caller's
		s.append = func(ctx context.Context, record []byte) error {
			if before != nil {
				if err := s.MemoryStream.Append(ctx, before); err != nil {
					return err
				}
			}
			before = record
			return nil
		}
	}},
	"a gap is passed over in silence":        {finds: "TooFarBehind", stream: reopens(func(err error) bool { return errors.Is(err, bus.ErrGap) })},
	"a lost connection is mended in silence": {finds: "ReaderCutOff", stream: reopens(func(err error) bool { return !errors.Is(err, bus.ErrGap) })},
	"Append does not wait for the broker": {finds: "Restart", stream: func(s *wrong) {
		s.append = func(ctx context.Context, record []byte) error {
			_ = s.MemoryStream.Append(ctx, record)
			return nil
		}
	}},
	"what is too large is cut off": {finds: "Sizes", stream: func(s *wrong) {
		s.append = func(ctx context.Context, record []byte) error {
			return s.MemoryStream.Append(ctx, record[:min(len(record), s.MaxRecord())])
		}
	}},
	"it begins to read at the first Read": {finds: "Late", stream: func(s *wrong) {
		s.open = func(context.Context) (bus.Reader, error) {
			r := &reading{Reader: nothing{}}
			r.read = func(ctx context.Context, _ bus.Reader) (_ [][]byte, err error) {
				if _, unopened := r.Reader.(nothing); unopened {
					if r.Reader, err = s.MemoryStream.Open(ctx); err != nil {
						return nil, err
					}
				}
				return r.Reader.Read(ctx)
			}
			return r, nil
		}
	}},
	"Read does not look at its context": {finds: "Cancel", stream: reads(func(_ *wrong, _ context.Context, r *bus.Reader) ([][]byte, error) {
		return (*r).Read(context.Background())
	})},
	"silence is taken for an error": {finds: "Idle", stream: reads(func(_ *wrong, ctx context.Context, r *bus.Reader) ([][]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return (*r).Read(ctx)
	})},
	"a half-open connection is not noticed": {finds: "ReaderHalfOpen", stream: reads(func(_ *wrong, ctx context.Context, r *bus.Reader) ([][]byte, error) {
		records, err := (*r).Read(ctx)
		if err != nil && strings.Contains(err.Error(), "dead") {
			<-ctx.Done()
		}
		return records, err
	})},
	"what was appended for others is kept without a bound": {finds: "TooFarBehind", join: func(m *bustest.Memory, name string, _ bustest.Options) bus.Stream {
		return m.Join(name, bustest.Options{Keep: 1 << 40})
	}},
	"little is kept": {finds: "Behind", join: func(m *bustest.Memory, name string, _ bustest.Options) bus.Stream {
		return m.Join(name, bustest.Options{Keep: 1 << 20})
	}},
	"the name is not looked at": {finds: "Names", join: func(m *bustest.Memory, _ string, opts bustest.Options) bus.Stream {
		return m.Join("", opts)
	}},
	"a goroutine stays": {finds: "NoGoroutineIsLeft", stream: func(s *wrong) {
		s.open = func(ctx context.Context) (bus.Reader, error) {
			go func() { select {} }()
			return s.MemoryStream.Open(ctx)
		}
	}},
	"an empty answer is passed on": {finds: "Idle", stream: reads(func(_ *wrong, ctx context.Context, r *bus.Reader) ([][]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		records, err := (*r).Read(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, nil
		}
		return records, err
	})},
	"readers get each a share": {finds: "Order", stream: reads(func(_ *wrong, ctx context.Context, r *bus.Reader) ([][]byte, error) {
		records, err := (*r).Read(ctx)
		if len(records) > 1 {
			records = slices.Delete(records, 0, 1)
		}
		return records, err
	})},
}

// nothing is a reader that was not opened.
type nothing struct{ bus.Reader }

func (nothing) Close() {}

var which = flag.String("mistake", "", "run TestMistake with this one put in")

// TestMistake is not for itself: TestSuiteFindsMistakes runs it with a mistake.
func TestMistake(t *testing.T) {
	if *which == "" {
		return // TestMemory is the suite without one
	}
	bustest.SetPatience(time.Second)
	bustest.Run(t, func(testing.TB) bustest.Broker {
		memory := bustest.NewMemory()
		broker := memory.Broker()
		join := broker.Join
		broker.Join = func(t testing.TB, name string, opts bustest.Options) bustest.Node {
			mistake := mistakes[*which]
			node := join(t, name, opts)
			if mistake.join != nil {
				node.Stream = mistake.join(memory, name, opts)
			}
			if mistake.stream != nil {
				s := &wrong{MemoryStream: node.Stream.(*bustest.MemoryStream)}
				s.append, s.open = s.MemoryStream.Append, s.MemoryStream.Open
				mistake.stream(s)
				node.Stream = s
			}
			return node
		}
		return broker
	})
}

// TestSuiteFindsMistakes: each mistake that an adapter may have is found by the test of the suite that is there for it.
func TestSuiteFindsMistakes(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), exe, "-test.timeout", "1m", "-test.run", "^TestMistake$/^"+mistake.finds+"$", "-mistake", name).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestMistake/"+mistake.finds) {
				t.Errorf("%s did not find it: %v\n%s", mistake.finds, err, out)
			}
		})
	}
}

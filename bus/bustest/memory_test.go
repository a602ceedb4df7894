package bustest_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	bustest.Run(t, func(testing.TB) bustest.Broker { return bustest.NewMemory().Broker() })
}

// TestMemoryFaults: the faults that Memory makes when asked to are those that it says.
func TestMemoryFaults(t *testing.T) {
	t.Parallel()
	stream := bustest.NewMemory().Join("faults", bustest.Options{})
	r, err := stream.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := func() (got string) {
		t.Helper()
		records, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range records {
			got += string(b)
		}
		return got
	}
	add := func(records ...string) {
		t.Helper()
		for _, b := range records {
			if err := stream.Append(t.Context(), []byte(b)); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("a", "b", "c")
	if got := read(); got != "abc" {
		t.Errorf("read %q", got)
	}
	stream.Drop(1)
	add("d", "e")
	if got := read(); got != "e" {
		t.Errorf("read %q where the first was to be dropped", got)
	}
	stream.Repeat(2)
	if got := read(); got != "de" {
		t.Errorf("read %q where two were to be repeated", got)
	}
	stream.Unsure(1)
	if err := stream.Append(t.Context(), []byte("f")); err == nil {
		t.Error("Append returned no error")
	}
	if got := read(); got != "f" {
		t.Errorf("read %q of what was added with an error", got)
	}
	stream.Cut()
	if _, err := r.Read(t.Context()); err == nil || errors.Is(err, bus.ErrGap) {
		t.Errorf("a reader that is cut off got %v", err)
	}
}

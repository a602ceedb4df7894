package pg

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func sizeOf(v *[]int) int64 { return int64(len(*v)) }

// What many want at once is made once, by one after the other where that fails, and each goes on from what there is.
func TestShelf(t *testing.T) {
	t.Parallel()
	s := newShelf[string](3, 100, sizeOf)
	var makers, calls atomic.Int32
	failed := errors.New("not yet")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for {
				v, err := s.get(t.Context(), "a", func(v *[]int) error {
					if makers.Add(1) > 1 {
						t.Error("two make it at a time")
					}
					defer makers.Add(-1)
					*v = append(*v, int(calls.Add(1)))
					if len(*v) < 4 {
						return failed
					}
					return nil
				})
				switch {
				case err == nil:
					if !slices.Equal(*v, []int{1, 2, 3, 4}) {
						t.Errorf("got %v", *v)
					}
					return
				case !errors.Is(err, failed):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if calls.Load() != 4 {
		t.Errorf("it was made in %d calls, want 4", calls.Load())
	}
	s.put("a", []int{7})
	if v, found := s.look("a"); !found || len(*v) != 4 {
		t.Errorf("what was there was replaced: %v", v)
	}
}

// One who has no time does not wait for another.
func TestShelfWaits(t *testing.T) {
	t.Parallel()
	s := newShelf[string](3, 100, sizeOf)
	began, end := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := s.get(t.Context(), "a", func(*[]int) error { close(began); <-end; return nil })
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.get(ctx, "a", func(*[]int) error { t.Error("two make it"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	s.put("a", []int{1})
	if _, found := s.look("a"); found {
		t.Error("it is found before it is made")
	}
	close(end)
	wg.Wait()
	if v, found := s.look("a"); !found || *v != nil {
		t.Error("it is not found")
	}
}

// The oldest goes when there are too many or too large ones, and what somebody wants again is not the oldest.
func TestShelfForgets(t *testing.T) {
	t.Parallel()
	s := newShelf[string](3, 100, sizeOf)
	add := func(key string, size int) {
		if _, err := s.get(t.Context(), key, func(v *[]int) error { *v = make([]int, size); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want ...string) {
		t.Helper()
		if !slices.Equal(s.keys, want) {
			t.Errorf("kept are %v, want %v", s.keys, want)
		}
	}
	add("a", 1)
	add("b", 1)
	add("c", 1)
	add("a", 1)
	is("b", "c", "a")
	add("d", 1000)
	is("c", "a", "d")
	add("e", 1)
	is("e")
	add("f", 60)
	add("g", 60)
	is("e", "f", "g")
	add("h", 1)
	is("g", "h")
	if _, found := s.look("a"); found {
		t.Error("a is found")
	}
	if v, found := s.find(func(k string, v *[]int) bool { return len(*v) > 10 }); !found || len(*v) != 60 {
		t.Error("g is not found")
	}
}

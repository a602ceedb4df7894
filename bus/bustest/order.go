package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// order: up to five servers read, the one that appends among them, and all see all in one order.
func order(s *suite) {
	const count = 2000
	var readers []*reader
	first := s.join()
	readers = append(readers, first.open())
	for range 4 {
		readers = append(readers, s.join().open())
	}
	appended := make(chan error, 1)
	go func() {
		for i := range count {
			if err := first.tryAppend(id{1, uint32(i)}, header+(i*37)%3000); err != nil {
				appended <- err
				return
			}
		}
		appended <- nil
	}()
	all(s, readers, func(r *reader) error { return r.until(id{1, count - 1}) })
	if err := <-appended; err != nil {
		s.Fatal(err)
	}
	for _, r := range readers {
		r.mustRead(1, 0, count)
		if !slices.Equal(r.got, readers[0].got) || !slices.IsSortedFunc(r.got, func(a, b id) int { return int(a.number) - int(b.number) }) {
			s.Fatal("the readers saw different orders, or another than the appender's")
		}
	}
}

// late: who opens while others are at it reads what comes from then on.
func late(s *suite) {
	appender, early := s.join(), s.join().open()
	appender.append(1, 0, 100, 200)
	second := s.join().open()
	appender.append(1, 100, 100, 200)
	third := s.join().open()
	again := s.join()
	again.open().close()
	appender.append(1, 200, 100, 200)
	fourth := again.open()
	appender.append(1, 300, 1, 200)
	early.mustRead(1, 0, 301)
	second.mustRead(1, 100, 301)
	third.mustRead(1, 200, 301)
	fourth.mustRead(1, 300, 301)
}

// slow: who does not read holds up nobody. Afterwards it reads on, or is told that it can't.
func slow(s *suite) {
	const count, size = 512, 32 << 10
	appender := s.join()
	stopped := s.join().open()
	fast := []*reader{appender.open(), s.join().open()}
	for i := range count {
		appender.append(1, i, 1, size)
		if i%64 == 63 {
			all(s, fast, func(r *reader) error { return r.until(id{1, uint32(i)}) })
		}
	}
	if err := stopped.until(id{1, count - 1}); errors.Is(err, errPassedOver) || errors.Is(err, context.DeadlineExceeded) {
		s.Fatal(err)
	} else if err == nil {
		stopped.mustRead(1, 0, count)
	}
}

// sizes: records up to MaxRecord come as they are; more is an error that hurts nobody.
func sizes(s *suite) {
	appender, r := s.join(), s.join().open()
	most := appender.MaxRecord()
	if most < 256<<10 {
		s.Fatalf("MaxRecord is %d: it must be 256 KiB at least", most)
	}
	sizes := []int{header, header + 1, 1000, 4095, 4096, 64 << 10, 256 << 10, most - 1, most}
	for i, size := range sizes {
		appender.append(1, i, 1, size)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := appender.Append(ctx, make([]byte, most+1)); err == nil {
		s.Error("Append took a record of more than MaxRecord bytes")
	}
	after := s.eventuallyAppend(appender, 1, len(sizes))
	r.mustRead(1, 0, after+1)
}

// behind: what a reader still needs, within what the broker keeps, is there when it comes.
func behind(s *suite) {
	const count, size = 256, 32 << 10
	keep := Options{Keep: 32 << 20}
	appender, r := s.join(keep), s.join(keep).open()
	fast := s.join(keep).open()
	appender.append(1, 0, count, size)
	fast.mustRead(1, 0, count)
	r.mustRead(1, 0, count/2)
	appender.append(1, count, count, size)
	r.mustRead(1, 0, 2*count)
}

// tooFarBehind: the broker does not keep everything for who has stopped reading; and who was passed is told.
func tooFarBehind(s *suite) {
	const count, size = 384, 64 << 10
	keep := Options{Keep: 1 << 20}
	appender, other := s.join(keep), s.join(keep)
	fast, stopped := appender.open(), other.open()
	appender.append(1, 0, 1, size)
	stopped.mustRead(1, 0, 1)
	for i := 1; i < count; i++ {
		appender.append(1, i, 1, size)
		if err := fast.until(id{1, uint32(i)}); err != nil {
			s.Fatal(err)
		}
	}
	if stopped.seen[id{1, count - 1}] {
		s.Fatal("it was read already")
	}
	s.Logf("the reader that was passed is told: %v", stopped.mustFail())
	if stopped.seen[id{1, count - 1}] {
		s.Fatalf("%d MiB were kept for a reader that had stopped: the broker's memory has no bound", count*size>>20)
	}
	stopped.close()
	r := other.open()
	appender.append(1, count, 1, size)
	r.mustRead(1, count, count+1)
	fast.mustRead(1, 0, count+1)
}

// buffers: one Read returns a few MiB at most, however much there is, and its records stay as they are until the next.
func buffers(s *suite) {
	const count, most = 32, 8 << 20
	keep := Options{Keep: 64 << 20}
	appender, r := s.join(keep), s.join(keep).open()
	size := min(appender.MaxRecord(), 1<<20)
	appender.append(1, 0, count, size)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for n, reads := 0, 0; n < count; reads++ {
		if reads > 10*count {
			s.Fatalf("after %d calls of Read there are %d records of %d", reads, n, count)
		}
		records, err := r.Read(ctx)
		if err != nil {
			s.Fatal(err)
		}
		appender.append(2, reads, 1, 100) // what else is under way touches none of them
		bytes := 0
		for _, b := range records {
			bytes += len(b)
			i, err := parse(b)
			if err != nil {
				s.Fatal(err)
			}
			if i.appender == 1 {
				n++
			}
		}
		if bytes > most {
			s.Fatalf("one Read returned %d MiB", bytes>>20)
		}
	}
}

// names: streams of different names have nothing to do with each other.
func names(s *suite) {
	a, b := s.joinAs("one"), s.joinAs("other")
	ra, rb := a.open(), b.open()
	a.append(1, 0, 10, 100)
	b.append(2, 0, 10, 100)
	ra.mustRead(1, 0, 10)
	rb.mustRead(2, 0, 10)
	if len(ra.got) != 10 || len(rb.got) != 10 {
		s.Error("records came over a stream of another name")
	}
}

// idle: that nothing comes is no error.
func idle(s *suite) {
	r := s.join().open()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.once(ctx); ctx.Err() == nil {
		s.Errorf("a reader for whom there was nothing ended: %v", err)
	}
}

// twoAppenders: for a moment there may be two that append. All readers see the same order, and each one's own in it.
func twoAppenders(s *suite) {
	const count = 300
	nodes := []*node{s.join(), s.join()}
	readers := []*reader{nodes[0].open(), nodes[1].open(), s.join().open()}
	all(s, []int{0, 1}, func(a int) error {
		for i := range count {
			if err := nodes[a].tryAppend(id{byte(a), uint32(i)}, 500); err != nil {
				return fmt.Errorf("appender %d: %w", a, err)
			}
		}
		return nil
	})
	for _, r := range readers {
		r.mustRead(0, 0, count)
		r.mustRead(1, 0, count)
		if !slices.Equal(r.got, readers[0].got) {
			s.Fatal("two readers saw different orders")
		}
	}
}

// appenderFollows: one appender follows another, which has died. Nobody who reads notices.
func appenderFollows(s *suite) {
	keep := Options{Keep: 16 << 20}
	readers := []*reader{s.join(keep).open(), s.join(keep).open()}
	for a := range 5 {
		n := s.join(keep)
		n.append(byte(a), 0, 50, 40<<10)
		if a == 1 {
			n.Cut()
		}
		readers[0].mustRead(byte(a), 0, 50)
	}
	for a := range 5 {
		readers[1].mustRead(byte(a), 0, 50)
	}
}

// noGoroutineIsLeft: what was closed leaves nothing behind.
func noGoroutineIsLeft(s *suite) {
	n := s.broker.Join(s, "leaving", Options{})
	appending, reading := &node{Node: n, s: s}, s.broker.Join(s, "leaving", Options{})
	before := goroutines() // those among them that the tests' broker has
	r, err := reading.Open(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	appending.append(1, 0, 10, 100)
	if _, err := r.Read(s.Context()); err != nil {
		s.Fatal(err)
	}
	r.Close()
	if r, err = reading.Open(s.Context()); err != nil {
		s.Fatal(err)
	}
	reading.Cut() // and what ends otherwise
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	for err == nil {
		_, err = r.Read(ctx)
	}
	r.Close()
	reading.Heal()
	for _, stream := range []Node{n, reading} {
		if err := stream.Close(); err != nil {
			s.Error(err)
		}
	}
	waiting, stop := context.WithTimeout(s.Context(), patience)
	defer stop()
	for {
		var left [][]byte
		for name, stack := range goroutines() {
			if _, ok := before[name]; !ok && !bytes.Contains(stack, []byte("testing.(*T)")) {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-waiting.Done():
			s.Fatalf("%d goroutines are left:\n%s", len(left), bytes.Join(left, []byte("\n\n")))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// goroutines returns the stacks of all goroutines, by their numbers.
func goroutines() map[string][]byte {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	found := map[string][]byte{}
	for _, stack := range bytes.Split(buf, []byte("\n\n")) {
		name, _, _ := bytes.Cut(stack, []byte(" ["))
		found[string(name)] = stack
	}
	return found
}

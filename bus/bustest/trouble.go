package bustest

import (
	"context"
	"time"
)

// restart: the broker dies, with all that it knew, and comes back. Who reads and who appends is told; then all goes on.
func restart(s *suite) {
	appender, other := s.join(), s.join()
	readers := []*reader{appender.open(), other.open()}
	appender.append(1, 0, 20, 100)
	for _, r := range readers {
		r.mustRead(1, 0, 20)
	}
	s.broker.Kill(s)
	for _, r := range readers {
		r.mustFail()
		r.close()
	}
	if err := appender.tryAppend(id{1, 20}, 100); err == nil {
		s.Error("Append works without a broker")
	}
	if _, err := other.tryOpen(); err == nil {
		s.Error("Open works without a broker")
	}
	s.broker.Start(s)
	a, b := s.eventuallyOpen(appender), s.eventuallyOpen(other)
	last := s.eventuallyAppend(appender, 1, 30)
	appender.append(1, last+1, 20, 100)
	a.mustRead(1, last, last+21)
	b.mustRead(1, last, last+21)
}

// brokerDown: a server can start while the broker is not there.
func brokerDown(s *suite) {
	s.broker.Kill(s)
	n := s.join()
	if _, err := n.tryOpen(); err == nil {
		s.Error("Open works without a broker")
	}
	if err := n.tryAppend(id{1, 0}, 100); err == nil {
		s.Error("Append works without a broker")
	}
	s.broker.Start(s)
	r := s.eventuallyOpen(n)
	last := s.eventuallyAppend(n, 1, 1)
	r.mustRead(1, last, last+1)
}

// appenderCutOff: who appends is cut off from the broker, and nobody else. Another appends; those who read notice nothing.
func appenderCutOff(s *suite) {
	appender, other := s.join(), s.join()
	r := other.open()
	appender.append(1, 0, 10, 100)
	appender.Cut()
	if err := appender.tryAppend(id{1, 11}, 100); err == nil {
		s.Error("Append works when cut off")
	}
	other.append(2, 0, 10, 100)
	r.mustRead(1, 0, 10)
	r.mustRead(2, 0, 10)
	appender.Heal()
	last := s.eventuallyAppend(appender, 3, 0)
	if err := r.until(id{3, uint32(last)}); err != nil {
		s.Fatal(err)
	}
}

// readerCutOff: who reads is cut off, and nobody else.
func readerCutOff(s *suite) {
	appender, cut, other := s.join(), s.join(), s.join()
	r, near := cut.open(), other.open()
	appender.append(1, 0, 10, 100)
	r.mustRead(1, 0, 10)
	cut.Cut()
	r.mustFail()
	r.close()
	if _, err := cut.tryOpen(); err == nil {
		s.Error("Open works when cut off")
	}
	appender.append(1, 10, 10, 100)
	near.mustRead(1, 0, 20)
	cut.Heal()
	r = s.eventuallyOpen(cut)
	appender.append(1, 20, 10, 100)
	r.mustRead(1, 20, 30)
	near.mustRead(1, 0, 30)
}

// readerHalfOpen: the connection of who reads is dead without a word. It is noticed, and a new one works.
func readerHalfOpen(s *suite) {
	appender, n := s.join(), s.join()
	r := n.open()
	appender.append(1, 0, 10, 100)
	r.mustRead(1, 0, 10)
	n.Swallow()
	began := time.Now()
	err := r.mustFail()
	s.noticed(began, err)
	r.close()
	r = n.open()
	appender.append(1, 10, 10, 100)
	r.mustRead(1, 10, 20)
}

// noticed says how long it took to notice a dead connection.
func (s *suite) noticed(began time.Time, err error) {
	s.Helper()
	took := time.Since(began).Round(10 * time.Millisecond)
	s.Logf("the dead connection was noticed after %v: %v", took, err)
	if took > notice {
		s.Errorf("that is more than %v", notice)
	}
}

// appenderHalfOpen: the connection of who appends is dead without a word.
func appenderHalfOpen(s *suite) {
	appender, r := s.join(), s.join().open()
	appender.append(1, 0, 10, 100)
	appender.Swallow()
	began := time.Now()
	err := appender.tryAppend(id{1, 10}, 100)
	if err == nil {
		s.Error("Append works over a connection that is dead")
	}
	s.noticed(began, err)
	last := s.eventuallyAppend(appender, 2, 0)
	r.mustRead(1, 0, 10)
	if err := r.until(id{2, uint32(last)}); err != nil {
		s.Fatal(err)
	}
}

// cancel: whoever waits for the broker returns soon when it must not wait any longer, also when the broker is mute.
func cancel(s *suite) {
	ended, end := context.WithCancel(s.Context())
	end()
	n, mute := s.join(), s.join()
	s.mustReturnError("Open", func() error { _, err := n.Open(ended); return err })
	s.mustReturnError("Append", func() error { return n.Append(ended, record(id{1, 0}, 100)) })
	nothing := n.open()
	s.mustReturnError("Read", func() error { return nothing.once(ended) })
	waiting := []*reader{n.open(), mute.open()}
	mute.append(2, 0, 1, 100)
	for _, r := range waiting {
		r.mustRead(2, 0, 1)
	}
	mute.Swallow()
	for _, r := range waiting {
		ctx, stop := context.WithTimeout(s.Context(), 50*time.Millisecond)
		s.mustReturnError("Read", func() error { return r.once(ctx) })
		stop()
		r.close()
	}
	last := s.eventuallyAppend(mute, 2, 1)
	r := n.open()
	n.append(1, 1, 1, 100)
	r.mustRead(1, 1, 2)
	if last < 1 {
		s.Error("nothing was appended")
	}
}

// mustReturnError says that a call whose context has ended, or ends soon, returns.
func (s *suite) mustReturnError(name string, call func() error) {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		if err == nil {
			s.Errorf("%s returned no error when its context had ended", name)
		}
	case <-time.After(patience):
		s.Fatalf("%s goes on without its context", name)
	}
}

// closes: what was opened can be closed, in any state and with nobody there.
func closes(s *suite) {
	unused := s.broker.Join(s, "suite", Options{})
	if err := unused.Close(); err != nil {
		s.Errorf("closing what was never used: %v", err)
	}
	n := s.join()
	r := n.open()
	for range 20 { // many in turn: what they hold in the broker is given back
		n.open().close()
	}
	n.append(1, 0, 5, 100)
	other := n.open()
	r.mustRead(1, 0, 5)
	r.close()
	n.append(1, 5, 5, 100)
	other.mustRead(1, 5, 10)
	s.broker.Kill(s)
	other.close()
	if n.tryAppend(id{1, 10}, 100) == nil {
		s.Error("Append works without a broker")
	}
}

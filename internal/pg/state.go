package pg

import (
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Status is how the source is doing, for health checks.
type Status struct {
	Listening  bool
	Since      time.Time         // of Listening, or of not listening
	Problems   map[string]string // by part (listener, leader, gate, sweep, heartbeat, catalog, tick, retention): what it suffers from now
	Unreadable int64             // notifications that could not be read
	Lost       int64             // listener sessions that ended
	Leader     bool              // this node says which mode the stream is in
}

// state keeps the status and says each problem once: when it begins, when it changes and when it is over. What several
// parts suffer from is one problem.
type state struct {
	log *slog.Logger

	mu         sync.Mutex
	status     Status
	unreadSaid time.Time
}

func newState(log *slog.Logger) *state {
	return &state{log: log, status: Status{Since: time.Now(), Problems: map[string]string{}}}
}

func (s *state) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Problems = maps.Clone(st.Problems)
	return st
}

// listening records that a session has opened, or, with err, that there is none.
func (s *state) listening(err error) {
	s.mu.Lock()
	if up := err == nil; up != s.status.Listening {
		s.status.Listening, s.status.Since = up, time.Now()
		if !up {
			s.status.Lost++
		}
	}
	s.mu.Unlock()
	s.problem("listener", err)
}

// leading records whether this node is the leader.
func (s *state) leading(yes bool) {
	s.mu.Lock()
	s.status.Leader = yes
	s.mu.Unlock()
	if yes {
		s.problem("leader", nil)
	} else {
		s.problem("gate", nil)
	}
}

// problem records what a part suffers from; nil: it is well.
func (s *state) problem(part string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, had := s.status.Problems[part]
	switch {
	case err == nil && had:
		delete(s.status.Problems, part)
		if !s.suffers(was) {
			s.log.Info(part+" works again", "was", was)
		}
	case err != nil && was != err.Error():
		known := s.suffers(err.Error())
		s.status.Problems[part] = err.Error()
		if !known {
			s.log.Warn(part+" has a problem; it tries again until it is over", "error", err)
		}
	}
}

// suffers reports whether some part has this problem.
func (s *state) suffers(problem string) bool {
	for _, p := range s.status.Problems {
		if p == problem {
			return true
		}
	}
	return false
}

// unreadable counts a notification that could not be read, and says so once a minute. Its text is somebody's data: only its
// length is said.
func (s *state) unreadable(payload string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Unreadable++
	if now := time.Now(); now.Sub(s.unreadSaid) >= time.Minute {
		s.unreadSaid = now
		s.log.Error("a notification can't be read; its change comes from the log", "error", err, "bytes", len(payload), "so far", s.status.Unreadable)
	}
}

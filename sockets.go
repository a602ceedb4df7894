package notifyql

import (
	"context"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/ws"
)

// sockets counts the open sockets and event streams, refuses those beyond the limit, and closes them all when the server goes down.
type sockets struct {
	limit int
	ctx   context.Context // the sockets' own; its end closes them
	stop  context.CancelCauseFunc

	mu       sync.Mutex
	open     int
	closing  int // that are only being refused
	total    int64
	refused  int64
	draining bool
	empty    chan struct{} // made by drain, closed by the last socket to leave
}

func (s *sockets) init(limit int) {
	s.limit = limit
	s.ctx, s.stop = context.WithCancelCause(context.Background())
}

// enter lets a socket be opened, or says why not. Who may, calls leave at its end.
func (s *sockets) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return ws.Restarting()
	case s.open >= s.limit:
		s.refused++
		return &limit.Exceeded{
			Limit: "connections", Max: s.limit, After: time.Second, Text: "the server has no room for another connection", Busy: true,
		}
	}
	s.open++
	s.total++
	return nil
}

// refuse lets a socket be accepted only to be closed, unless that is done with as many as there may be.
func (s *sockets) refuse() (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing >= s.limit {
		return nil, false
	}
	s.closing++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closing--
	}, true
}

func (s *sockets) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.open == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// drain refuses new sockets, closes the open ones so that their clients come back, and waits until they are gone, for
// timeout at most.
func (s *sockets) drain(timeout time.Duration) {
	s.mu.Lock()
	s.draining = true
	var empty chan struct{}
	if s.open > 0 {
		empty = make(chan struct{})
		s.empty = empty
	}
	s.mu.Unlock()
	s.stop(ws.Restarting())
	if empty == nil {
		return
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
	}
}

func (s *sockets) stats() (open int, total, refused int64, draining bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.total, s.refused, s.draining
}

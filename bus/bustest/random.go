package bustest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// random: servers that open, read, stop and close as they like, beside one that appends whatever sizes.
func random(s *suite) {
	seed := uint64(time.Now().UnixNano())
	s.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	type open struct {
		*reader
		from int
	}
	nodes := []*node{s.join(), s.join(), s.join()}
	var readers []open
	appended := 0
	for range 300 {
		switch rng.IntN(6) {
		case 0, 1, 2:
			count, size := 1+rng.IntN(20), header+rng.IntN(1<<rng.IntN(16))
			nodes[0].append(1, appended, count, size)
			appended += count
		case 3:
			if len(readers) < 5 {
				readers = append(readers, open{nodes[rng.IntN(len(nodes))].open(), appended})
			}
		case 4:
			if len(readers) > 0 {
				if r := readers[rng.IntN(len(readers))]; r.from < appended {
					r.mustRead(1, r.from, r.from+1+rng.IntN(appended-r.from))
				}
			}
		case 5:
			if len(readers) > 0 {
				i := rng.IntN(len(readers))
				readers[i].close()
				readers[i] = readers[len(readers)-1]
				readers = readers[:len(readers)-1]
			}
		}
	}
	for _, r := range readers {
		if r.from < appended {
			r.mustRead(1, r.from, appended)
		}
	}
}

// restartsWhileBusy: the broker is killed again and again while one appends as fast as it can and three read. Within the
// life of a reader nothing is missing that was appended without an error.
func restartsWhileBusy(s *suite) {
	const kills = 3
	var (
		mu    sync.Mutex
		there = map[uint32]bool{} // appended without an error
		goal  uint32              // 0: not known yet
	)
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()

	// follow reads until one reader has got behind the goal.
	follow := func(n *node) error {
		var opened error
		for ctx.Err() == nil {
			r, err := n.Open(ctx)
			if err != nil {
				opened = err
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			done, err := func() (bool, error) {
				defer r.Close()
				last, some := uint32(0), false
				for {
					records, err := r.Read(ctx)
					if err != nil {
						return false, nil // the broker is gone
					}
					for _, b := range records {
						i, err := parse(b)
						if err != nil {
							return false, err
						}
						mu.Lock()
						for n := last + 1; some && n < i.number; n++ {
							if there[n] {
								err = fmt.Errorf("%w: after %d came %d", errPassedOver, last, i.number)
							}
						}
						done := goal > 0 && i.number >= goal
						mu.Unlock()
						if err != nil || done {
							return done, err
						}
						last, some = i.number, true
					}
				}
			}()
			if done || err != nil {
				return err
			}
		}
		return fmt.Errorf("it never got to the end; the last error of Open: %w", errors.Join(opened, ctx.Err()))
	}

	appender := s.join()
	stop, stopped := make(chan struct{}), make(chan struct{})
	progress := make(chan uint32, 1) // the newest that is there
	go func() {
		defer close(stopped)
		for n := uint32(1); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			there[n] = false
			mu.Unlock()
			if appender.tryAppend(id{1, n}, header+int(n*61)%2000) != nil {
				select {
				case <-time.After(5 * time.Millisecond):
				case <-stop:
				}
				continue
			}
			mu.Lock()
			there[n] = true
			mu.Unlock()
			select {
			case <-progress:
			default:
			}
			progress <- n
		}
	}()
	errs := make(chan error)
	nodes := []*node{s.join(), s.join(), appender}
	for _, n := range nodes {
		go func() { errs <- follow(n) }()
	}
	var newest uint32
	for range kills {
		for more := newest + 200; newest < more && ctx.Err() == nil; { // let it come under way
			select {
			case newest = <-progress:
			case <-ctx.Done():
			}
		}
		s.broker.Kill(s)
		s.broker.Start(s)
	}
	mu.Lock()
	goal = newest + 500
	mu.Unlock()
	for range nodes {
		if err := <-errs; err != nil {
			s.Error(err)
		}
	}
	close(stop)
	<-stopped
}

package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/pg"
)

// follower reads the stream for the node's machine. Its run loop does all the work and owns the fields.
type follower struct {
	*Relay
	emit func(feed.Input)

	key     []byte
	era     change.Era // that the machine was opened in
	up      bool       // the machine takes what comes as notified
	session session    // that is followed, if up
	number  uint64     // of the record that came last
	foreign time.Time  // when a record came last that is not ours; zero: none did lately
}

// run returns when ctx is done.
func (f *follower) run(ctx context.Context) {
	for wait := 50 * time.Millisecond; ctx.Err() == nil && !f.reenter(ctx); wait = min(2*wait, 5*time.Second) {
		f.pause(ctx, wait/2+rand.N(wait/2))
	}
	wait := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		err := f.read(ctx)
		f.reachable.set(false)
		if ctx.Err() != nil {
			return
		}
		f.problem(fmt.Errorf("%s can't be read; changes are read from the database until it can: %w", f.config.Stream, err))
		f.lose()
		if wait = min(max(2*wait, 50*time.Millisecond), 2*time.Second); time.Since(began) > silence {
			wait = 50 * time.Millisecond
		}
		f.pause(ctx, wait/2+rand.N(wait/2))
	}
}

func (f *follower) problem(err error) { f.source.Problem("bus", err) }

// pause waits, and meanwhile follows the database from one era to the next.
func (f *follower) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.eras:
			f.reenter(ctx)
		case <-timer.C:
			return
		}
	}
}

// read opens the stream and follows it until it can't be read any more.
func (f *follower) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	openCtx, stop := context.WithTimeout(ctx, openTimeout)
	r, err := f.config.Stream.Open(openCtx)
	stop()
	if err != nil {
		return err
	}
	f.reachable.set(true)
	batches, taken, ended := make(chan [][]byte), make(chan struct{}), make(chan error, 1)
	go func() { ended <- pump(ctx, r, batches, taken) }()
	heard, silent := time.Now(), time.NewTimer(suspicion)
	defer silent.Stop()
	for {
		select {
		case batch := <-batches:
			for _, record := range batch {
				if f.record(ctx, record) {
					heard = time.Now()
					silent.Reset(suspicion)
				}
			}
			taken <- struct{}{}
		case <-silent.C:
			f.source.Try()
			if time.Since(heard) < silence {
				silent.Reset(suspicion / 4)
				break
			}
			f.problem(fmt.Errorf("nothing has come over %s for %v; changes are read from the database until something does", f.config.Stream, silence))
			f.lose()
			silent.Reset(silence / 2)
		case <-f.eras:
			f.reenter(ctx)
		case err := <-ended:
			return err
		}
	}
}

// pump hands over what is read, and waits until it is taken, until the reader or ctx ends.
func pump(ctx context.Context, r bus.Reader, batches chan<- [][]byte, taken <-chan struct{}) error {
	defer r.Close()
	for {
		batch, err := r.Read(ctx)
		if err != nil {
			return err
		}
		select {
		case batches <- batch:
			<-taken
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// record takes one record, and reports whether it is a sign of life of the session that is followed.
func (f *follower) record(ctx context.Context, raw []byte) bool {
	if isProbe(raw) {
		return false
	}
	h, rest, err := unseal(raw, f.key)
	if err != nil {
		if now := time.Now(); now.Sub(f.foreign) > time.Second { // there may be many
			f.foreign = now
			f.problem(err)
			if !f.up && errors.Is(err, errSeal) {
				f.rekey(ctx)
			}
		}
		return false
	}
	if !f.foreign.IsZero() && time.Since(f.foreign) > foreignTime {
		f.foreign = time.Time{}
		f.problem(nil)
	}
	switch {
	case !f.up || h.session != f.session && h.number == 0:
		return f.adopt(ctx, h)
	case h.session != f.session || h.number <= f.number:
		return false // of a leader that was, or again
	case h.number > f.number+1:
		f.config.Log.Warn("records of the stream are missing; what they told of is read from the database", "missing", h.number-f.number-1)
		return f.adopt(ctx, h)
	}
	f.number = h.number
	// What is kept of a record is its images: one copy of all.
	in, err := decode(slices.Clone(rest))
	if err != nil {
		f.problem(err)
		return f.adopt(ctx, h)
	}
	if len(in.notices) > 0 {
		f.emit(feed.Notified{Notices: in.notices})
	}
	if in.settled && f.config.OnSettled != nil {
		f.config.OnSettled()
	}
	if in.ended {
		f.source.Try()
		f.lose()
	}
	if in.catalog {
		f.source.CatalogChanged()
	}
	return true
}

// rekey looks whether records are strange because the key is another one, where the schema was made anew.
func (f *follower) rekey(ctx context.Context) {
	if key, err := f.source.Key(ctx); err == nil && !bytes.Equal(key, f.key) {
		f.reenter(ctx)
	}
}

// adopt follows the session of a record from there on: what the record and those before it tell of had committed when it came, so a
// sweep that begins now finds it.
func (f *follower) adopt(ctx context.Context, h header) bool {
	e, err := f.source.Enter(ctx)
	switch {
	case err != nil:
		f.lose()
		return false
	case f.up && h.session != f.session && h.era != e.Era && f.era == e.Era: // of another database, a copy of this one
		return false
	}
	f.session, f.number = h.session, h.number
	f.open(e, h.era)
	if f.up {
		f.problem(nil)
		f.source.Problem("relay", nil)
	}
	return f.up
}

// open opens the machine: to take what comes of a session that is of this era as notified; or, where the database is in another one, to
// sweep, as in a busy stream.
func (f *follower) open(e pg.Entry, era change.Era) {
	f.key, f.era = e.Key, e.Era
	f.Relay.key.Store(&e.Key)
	f.up = e.Era == era
	if !f.up {
		e.Opened.Mode = sweeping
	}
	f.following.Store(f.up)
	f.source.Beats(!f.up)
	f.emit(e.Opened)
	if !f.up {
		f.emit(feed.Lost{})
	}
}

// sweeping is the mode that the machine is in as long as nobody relays.
var sweeping = feed.ModeRow{Mode: feed.Busy, Number: 1}

// lose makes the machine sweep, since what comes has a gap, or does not come.
func (f *follower) lose() {
	f.following.Store(false)
	f.source.Beats(true)
	if f.up {
		f.up = false
		f.emit(feed.Notified{Notices: []feed.Notice{{Announced: &sweeping}}})
		f.emit(feed.Lost{})
	}
}

// reenter goes with the database into another era; the session that is followed then is the next one. If that fails the machine waits to
// be opened.
func (f *follower) reenter(ctx context.Context) bool {
	f.lose()
	e, err := f.source.Enter(ctx)
	if err != nil {
		time.AfterFunc(200*time.Millisecond, f.OnEra)
		return false
	}
	f.open(e, 0)
	return true
}

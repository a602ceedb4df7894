package pg

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// Entry is what a node needs to follow what another one relays.
type Entry struct {
	Opened feed.Opened // to be emitted; Mode is for the caller to set
	Era    change.Era  // of the database
	Key    []byte      // which all nodes of this database know, and nobody else
}

// Enter finds the place from which on a node goes on that has no listener: what Listener's opening does, over the pool.
// Config.Enter is told of the era first. Whatever is committed from now on is not in Opened.Snapshot.
func (s *Source) Enter(ctx context.Context) (e Entry, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	e, err = s.tryEnter(ctx)
	err = explain(err, s.pool.Config().ConnConfig)
	s.state.listening(err)
	if err == nil {
		s.drive.sweeper.hurry()
		s.catalog.look()
	}
	return e, err
}

func (s *Source) tryEnter(ctx context.Context) (e Entry, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return e, err
	}
	defer conn.Release()
	var standby bool
	switch err := conn.QueryRow(ctx, "select pg_catalog.pg_is_in_recovery()").Scan(&standby); {
	case err != nil:
		return e, err
	case standby:
		return e, errStandby
	}
	if err := migrate.Check(ctx, conn.Conn()); err != nil {
		return e, err
	}
	if e.Key, err = readKey(ctx, conn); err != nil {
		return e, err
	}
	if e.Era, e.Opened.Gone, err = enterWith(ctx, conn.Conn(), s.enter, s.state); err != nil {
		return e, err
	}
	p, err := placeOn(ctx, conn.Conn())
	if err != nil {
		return e, err
	}
	e.Opened.Snapshot, e.Opened.Tick, e.Opened.Done, e.Opened.Relayed = p.snapshot, p.tick, p.done, true
	return e, nil
}

// Key is that of an Entry, read anew: it is another one where the schema is.
func (s *Source) Key(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	return readKey(ctx, s.pool)
}

// recordKey tells a database from its copies, which have the same secret, and in one cluster the same era.
const recordKey = `
	select pg_catalog.concat(s.channel, '/', d.oid)
	from notifyql.secret s, pg_catalog.pg_database d where d.datname = pg_catalog.current_database()`

func readKey(ctx context.Context, on interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) ([]byte, error) {
	var key string
	if err := on.QueryRow(ctx, recordKey).Scan(&key); err != nil {
		return nil, fmt.Errorf("reading the key of the records: %w", err)
	}
	return []byte(key), nil
}

// enterWith finds out whether the server lives another life than when the node heard from it last, and if so, whether it has lost
// something that the node has dispatched. It leaves a new tick behind.
func enterWith(ctx context.Context, conn *pgx.Conn, told func(change.Era) *change.Point, st *state) (era change.Era, gone bool, err error) {
	if era, err = enter(ctx, conn); err != nil {
		return 0, false, err
	}
	if check := told(era); check != nil {
		err := verify(ctx, conn, check)
		if gone = errors.Is(err, change.ErrCursorExpired); gone {
			st.log.Error("the server was started anew, and what this node has sent can't be found there: subscribers are told to begin anew", "why", err)
		} else if err != nil {
			return 0, false, err
		}
	}
	var tick int64
	if err := inWriting(ctx, conn, makeTick, &tick, (*int64)(nil)); err != nil {
		return 0, false, fmt.Errorf("making a tick: %w", err)
	}
	return era, gone, nil
}

// Beats says whether heartbeats are wanted, where there is no listener.
func (s *Source) Beats(wanted bool) { s.drive.beats.Store(wanted) }

// CatalogChanged is for who has heard that the set of watched tables is another one.
func (s *Source) CatalogChanged() { s.catalog.look() }

// Problem records what a part that others drive suffers from; nil: it is well. Status has it.
func (s *Source) Problem(part string, err error) { s.state.problem(part, err) }

// Lead makes the node a candidate for the leader's place until ctx is done. may waits until the node may lead, or ends with an
// error. While it leads, reign runs; its context ends when the place is lost, and when it returns the place is given up.
func (s *Source) Lead(ctx context.Context, may func(context.Context) error, reign func(context.Context)) {
	s.leader.may, s.leader.reign = may, reign
	s.leader.run(ctx)
}

// Try lets a candidate try at once: the leader seems to be gone.
func (s *Source) Try() {
	select {
	case s.leader.early <- struct{}{}:
	default:
	}
}

// Reading is a leader's reading of the database for a machine of its own, of which all nodes get what comes out. Its life is one
// call of Run.
type Reading struct {
	source *Source
	drive  *drive
	on     ReadingEvents
}

// ReadingEvents is what a Reading tells besides what it emits: from its goroutines.
type ReadingEvents struct {
	Enter   func(change.Era) *change.Point // see Config.Enter
	Settled func()                         // see Config.OnSettled
	Catalog func()                         // the set of watched tables changed
}

// NewReading prepares a reading.
func (s *Source) NewReading(on ReadingEvents) *Reading {
	st := &state{log: s.config.Log.With("part", "relay"), status: newState(nil).status}
	d := newDrive(s.pool, st, &s.seen, s.config.Beat)
	d.listener = &listener{config: s.listener, state: st}
	d.beats.Store(true)
	return &Reading{source: s, drive: d, on: on}
}

// Run emits what happens until ctx is done, all its goroutines ended then.
func (r *Reading) Run(ctx context.Context, emit func(feed.Input)) {
	r.source.reading.Store(r)
	defer r.source.reading.CompareAndSwap(r, nil)
	r.drive.run(ctx, emit, sessionEvents{enter: r.on.Enter, settled: r.on.Settled, catalog: r.on.Catalog})
}

// Do carries out an action of the machine without waiting.
func (r *Reading) Do(a feed.Action) { r.drive.do(a) }

// Settle asks for Settled, as Source.Settle does.
func (r *Reading) Settle() bool { return r.drive.settle() }

// Status says how the source is doing, and, as problems of "relay …", how its reading for others is.
func (s *Source) Status() Status {
	st := s.state.get()
	if r := s.reading.Load(); r != nil {
		for part, why := range r.drive.state.get().Problems {
			st.Problems["relay "+part] = why
		}
	}
	return st
}

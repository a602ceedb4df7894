package pg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The times a leader lives by.
const (
	candidacy    = time.Second            // between two tries to become the leader
	lookBusily   = 25 * time.Millisecond  // between two samples while something is written or somebody waits
	lookIdly     = 250 * time.Millisecond // and while nothing is
	answerTime   = 5 * time.Second        // in which the server answers, or the session is given up
	gateTime     = 250 * time.Millisecond // for which the leader waits for the gate, or to announce
	resignTime   = time.Second            // in which a leader that is to end says its last word
	gatePause    = time.Second            // before it tries again, at first
	gatePauseMax = 30 * time.Second
)

// leader is a node's part in saying which mode the stream is in. The nodes queue for the leader's place; who has it holds the gate
// while the stream is quiet. Place, gate and announcements are of one session, so that they end together.
//
// Its run loop does all the work. docs/delivery.md says why what it does in which order loses nothing.
type leader struct {
	config *pgx.ConnConfig
	state  *state
	mode   Mode          // where the database leaves it open
	seen   *atomic.Int64 // transactions that reached this node

	early chan struct{}               // a value: the next try is now
	may   func(context.Context) error // if not nil, waits until this node may lead
	reign func(context.Context)       // if not nil, is run while it leads; when it returns, the node leads no more
}

// run returns when ctx is done.
func (l *leader) run(ctx context.Context) {
	var retry backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		l.state.leading(false)
		l.state.problem("leader", explain(err, l.config))
		if time.Since(began) > steady {
			retry.tries = 0
		}
		retry.failed(err)
		retry.wait(ctx)
	}
}

// once opens a session and serves it to its end. A leader whose ctx is done says busy first: then nobody takes the stream for quiet
// whose writers are silent.
func (l *leader) once(ctx context.Context) error {
	if l.may != nil {
		if err := l.may(ctx); err != nil {
			return err
		}
	}
	openCtx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, _, err := connectFit(openCtx, l.config)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	t := term{leader: l, conn: conn}
	if err := t.begin(openCtx); err != nil {
		return err
	}
	if err := t.await(ctx); err != nil {
		return err
	}
	lastWords, cancel := outlive(ctx, resignTime)
	defer cancel()
	until, resign := context.WithCancel(ctx)
	var reign sync.WaitGroup
	defer reign.Wait()
	defer resign()
	if l.reign != nil {
		reign.Go(func() {
			defer resign()
			l.reign(until)
		})
	}
	if err := t.lead(until, lastWords); err != nil {
		return err
	}
	return t.keep(lastWords, time.Now(), true)
}

// term is one session of the leader.
type term struct {
	*leader
	conn   *pgx.Conn
	gate   int64
	policy policy

	holds     bool          // the gate
	announced bool          // by this session, that it is busy
	wait      time.Duration // before the gate is asked for again; it was not to be had
	asked     time.Time     // when it was asked for last
}

func (t *term) begin(ctx context.Context) error {
	if _, err := t.conn.Exec(ctx, fmt.Sprintf("set lock_timeout = %d", gateTime.Milliseconds())); err != nil {
		return err
	}
	return t.conn.QueryRow(ctx, "select gate from notifyql.mode").Scan(&t.gate)
}

// outlive is done as long after ctx as is said.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pause(later, by) {
			cancel()
		}
	})
	return later, func() {
		stop()
		cancel()
	}
}

// candidate tries for the leader's place, and says who has it.
const candidate = `
	select pg_catalog.pg_try_advisory_lock(m.lead), coalesce(h.pid, 0), coalesce(h.name, '')
	from notifyql.mode m
	left join lateral (
	  select l.pid, a.application_name as name
	  from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
	  where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid <> pg_catalog.pg_backend_pid()
	    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
	    and l.classid::bigint = m.lead >> 32 & 4294967295 and l.objid::bigint = m.lead & 4294967295
	  limit 1) h on true`

// await returns when the session has the leader's place. A wait in the database would keep a snapshot, and thereby what is dead.
func (t *term) await(ctx context.Context) error {
	for {
		var elected bool
		var pid int
		var name string
		if err := t.ask(ctx, candidate, &elected, &pid, &name); err != nil || elected {
			return err
		}
		var err error
		if pid != 0 && name != leaderName {
			err = fmt.Errorf("session %d (%q), which is no server of ours, holds the lock of the leader's place: the stream stays busy until it ends", pid, name)
		}
		t.state.problem("leader", err)
		timer := time.NewTimer(candidacy)
		select {
		case <-timer.C:
		case <-t.early:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// watchWriters is what a sample takes. The lock that notifying transactions commit under is one on the database 0.
const watchWriters = `
	select s.mode, pg_catalog.pg_notification_queue_usage(),
	  (select pg_catalog.count(*) from pg_catalog.pg_locks l
	   where l.locktype = 'object' and l.classid = 'pg_catalog.pg_database'::regclass and l.objid = 0 and not l.granted)
	from notifyql.setting s`

// lead keeps the mode that the policy wants until the session ends, with an error, or until is done. What it asks it asks in ctx.
func (t *term) lead(until, ctx context.Context) error {
	// Another leader may have ended without a word: nobody holds the gate, though the nodes may take it to be held. What the row says
	// is not asked: a statement that finds the place free may have begun before the other one's last word.
	for !t.announced {
		if err := t.announce(ctx, true); err != nil {
			return err
		}
		if !t.announced && !pause(until, lookBusily) {
			return nil
		}
	}
	t.policy.busy = true
	t.state.leading(true)
	var looked time.Time
	var s sample
	for {
		now := time.Now()
		// Where writers wait nothing may come, since who is in their way waits himself.
		if n := t.seen.Load(); n != s.seen || s.waiting > 0 || now.Sub(looked) >= lookIdly {
			looked = now
			s = sample{at: now, seen: n}
			var mode string
			if err := t.ask(ctx, watchWriters, &mode, &s.queue, &s.waiting); err != nil {
				return err
			}
			var err error
			if s.mode, err = ParseMode(mode); err != nil {
				return err
			}
			if s.mode == Auto {
				s.mode = t.mode
			}
			if err := t.keep(ctx, now, t.policy.next(s)); err != nil {
				return err
			}
		}
		if !pause(until, lookBusily) {
			return nil
		}
	}
}

// keep makes the stream busy or quiet, if it is not. What can't be done now is tried again with a later sample.
func (t *term) keep(ctx context.Context, now time.Time, busy bool) error {
	if busy {
		t.wait = 0 // nobody is in the way of what is wanted now
		t.state.problem("gate", nil)
	}
	switch {
	case busy && (t.holds || !t.announced):
		return t.toBusy(ctx)
	case !busy && !t.holds && now.Sub(t.asked) >= t.wait:
		t.asked = now
		return t.toQuiet(ctx)
	}
	return nil
}

// toBusy announces, and then lets go of the gate. Where the announcement is held up, by what holds up the writers too, it comes
// after: the nodes find the gate open, a little later.
func (t *term) toBusy(ctx context.Context) error {
	if err := t.announce(ctx, true); err != nil {
		return err
	}
	return t.release(ctx)
}

// takeGate waits for the gate with a lock of the transaction. A lock of the session that is granted in the moment in which the wait
// for it times out is kept although the statement fails.
const takeGate = "select pg_catalog.pg_advisory_xact_lock(%[1]d); select pg_catalog.pg_advisory_lock(%[1]d)"

// toQuiet asks for the gate: as long as it is asked for, transactions that begin to write notify. It is granted when all silent ones
// have ended. If that takes too long, because one stays open or was prepared, the stream stays busy.
func (t *term) toQuiet(ctx context.Context) error {
	if !t.announced { // then nobody knows that it is busy, and one who comes would take the next word for the second
		if err := t.announce(ctx, true); err != nil || !t.announced {
			return err
		}
	}
	err := t.exec(ctx, fmt.Sprintf(takeGate, t.gate))
	if isLockTimeout(err) {
		t.wait = min(max(2*t.wait, gatePause), gatePauseMax)
		return t.explainGate(ctx)
	}
	if err != nil {
		return err
	}
	t.wait = 0
	t.state.problem("gate", nil)
	t.holds = true
	if err := t.announce(ctx, false); err != nil {
		return err
	}
	if t.announced { // it did not get through: nobody was told
		t.wait = gatePause
		return t.release(ctx)
	}
	return nil
}

func (t *term) release(ctx context.Context) error {
	if !t.holds {
		return nil
	}
	if err := t.exec(ctx, fmt.Sprintf("select pg_catalog.pg_advisory_unlock(%d)", t.gate)); err != nil {
		return err
	}
	t.holds = false
	return nil
}

// announce says which mode the stream is in. Where that is held up too long, nothing is said, and announced does not change.
func (t *term) announce(ctx context.Context, busy bool) error {
	err := t.exec(ctx, fmt.Sprintf("select notifyql.announce_mode(%t)", busy))
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		t.announced = busy
		t.state.log.Debug("the stream's mode was announced", "busy", busy)
		return nil
	case isLockTimeout(err), errors.As(err, &pgErr) && pgErr.Code == pgerrcode.ProgramLimitExceeded: // the queue is full
		return nil
	}
	return err
}

// gateHolders are who keeps the leader from the gate, and whether they log changes, as writers do.
const gateHolders = `
	select coalesce(pg_catalog.string_agg(pg_catalog.concat(coalesce(l.pid::text, 'a prepared transaction'),
	    case when l.mode = 'ExclusiveLock' or l.pid is not null and not exists (
	      select from pg_catalog.pg_locks w where w.pid = l.pid and w.locktype = 'relation' and w.mode = 'RowExclusiveLock'
	        and w.relation = 'notifyql.change'::regclass) then ' (no writer)' end), ', '), '')
	from notifyql.mode m join pg_catalog.pg_locks l
	  on l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
	 and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
	 and l.classid::bigint = m.gate >> 32 & 4294967295 and l.objid::bigint = m.gate & 4294967295`

// explainGate says who keeps the stream busy, once it has gone on for a while.
func (t *term) explainGate(ctx context.Context) error {
	if t.wait < 8*gatePause {
		return nil
	}
	var holders string
	if err := t.ask(ctx, gateHolders, &holders); err != nil {
		return err
	}
	if holders != "" {
		t.state.problem("gate", fmt.Errorf("the stream stays busy: open transactions that have written keep it so, or sessions that have taken its lock: %s", holders))
	}
	return nil
}

func (t *term) ask(ctx context.Context, sql string, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return t.conn.QueryRow(ctx, sql).Scan(into...)
}

func (t *term) exec(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := t.conn.Exec(ctx, sql)
	return err
}

func isLockTimeout(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == pgerrcode.LockNotAvailable
}

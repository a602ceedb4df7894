package pg

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// The sizes a sweep goes by. The memory it takes is bounded by wholeBytes, whatever the log holds, and a few words for each
// transaction that is new.
const (
	wholeRows  = 1000    // a transaction with more rows than this is a stub, and so many rows make a part of an answer
	wholeBytes = 4 << 20 // the same for the weight of the images
	rawBytes   = 4 * wholeBytes
	listRows   = 5000 // rows looked at in one step while the transactions are listed
)

// The time limits of what is asked on the pool. None takes that long on a server that is well.
const (
	queryTimeout = 30 * time.Second
	smallTimeout = 10 * time.Second // a sweep's one round trip
)

// sweeper answers Sweep, one at a time. Its run loop does all the work.
type sweeper struct {
	pool  *pgxpool.Pool
	state *state
	asks  chan feed.Sweep
	seen  *atomic.Int64 // counts transactions
	retry backoff
	early chan struct{}

	otherEra func() // if not nil, is told of another era than a sweep is of
}

func newSweeper(pool *pgxpool.Pool, st *state, seen *atomic.Int64) *sweeper {
	early := make(chan struct{}, 1)
	return &sweeper{pool: pool, state: st, seen: seen, asks: make(chan feed.Sweep, 1), retry: backoff{early: early}, early: early}
}

// ask hands over a sweep. The machine has at most one under way; should there be an older one, it is forgotten.
func (s *sweeper) ask(a feed.Sweep) {
	for {
		select {
		case s.asks <- a:
			return
		default:
		}
		select {
		case <-s.asks:
		default:
		}
	}
}

// hurry ends a wait after a failure: the listener has found the database again.
func (s *sweeper) hurry() {
	select {
	case s.early <- struct{}{}:
	default:
	}
}

func (s *sweeper) run(ctx context.Context, emitUncounted func(feed.Input)) {
	emit := func(in feed.Input) {
		if in, ok := in.(feed.Swept); ok {
			s.seen.Add(int64(len(in.Txns)))
		}
		emitUncounted(in)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.asks:
			if !pause(ctx, a.Wait) {
				return
			}
			err := s.answer(ctx, a, emit)
			if ctx.Err() != nil {
				return
			}
			s.state.problem("sweep", explain(err, s.pool.Config().ConnConfig))
			if err == nil {
				s.retry.tries = 0
				continue
			}
			if s.otherEra != nil && errors.Is(err, change.ErrOtherEra) {
				s.otherEra()
			}
			s.retry.wait(ctx)
			emit(feed.SweepFailed{ID: a.ID})
		}
	}
}

// answer sweeps, or, where that can't be or is not wanted, finds the place to go on from.
func (s *sweeper) answer(ctx context.Context, a feed.Sweep, emit func(feed.Input)) error {
	why := "a transaction had notified its beginning, and went on behind others when the leader had died"
	if !a.Abandon {
		var gone *goneError
		if err := s.sweep(ctx, a, emit); !errors.As(err, &gone) {
			return err
		}
		why = "this node was behind for so long that what it missed is gone from the log"
	}
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	s.state.log.Error("subscribers are told to begin anew, and this node goes on from here", "why", why, "was at", a.From.Snapshot, "goes on at", p.snapshot)
	emit(feed.Expired{ID: a.ID, Snapshot: p.snapshot, Tick: &p.tick, Done: p.done})
	return nil
}

// pause waits, and reports whether ctx was not done before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (s *sweeper) sweep(ctx context.Context, a feed.Sweep, emit func(feed.Input)) error {
	acquireCtx, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(acquireCtx)
	if err != nil {
		return err
	}
	defer conn.Release()
	l := lackingIn(&a.From)
	swept, all, err := sweepSmall(ctx, conn.Conn(), &a, &l)
	if err != nil || all {
		if err == nil {
			swept.ID = a.ID
			emit(swept)
		}
		return err
	}
	return s.sweepLarge(ctx, conn.Conn(), &a, &l, emit)
}

// place finds where the history is now.
func (s *sweeper) place(ctx context.Context) (place, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return placeOn(ctx, s.pool)
}

func placeOn(ctx context.Context, on batcher) (place, error) {
	var text string
	var batch pgx.Batch
	batch.Queue(beginTransaction)
	batch.Queue(readPlace).QueryRow(func(row pgx.Row) error { return row.Scan(&text) })
	batch.Queue(endReading)
	if err := on.SendBatch(ctx, &batch).Close(); err != nil {
		return place{}, err
	}
	return parsePlace(text)
}

// sweepSnapshot is the snapshot, the newest tick that is visible in it, and the torn transactions from an xid on.
const sweepSnapshot = `
	select pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_is_in_recovery(), t.id, t.bits, t.snapshot::text,
	  array(select x.xid from notifyql.torn x where x.xid >= $1::xid8)
	from (select) one left join (select t.* from notifyql.tick t order by t.id desc limit 1) t on true`

// smallSweep reads all that the frontier lacks, if it is little. It is two ordered index scans, which an "or" would not be.
// From where the images weigh too much they are left out: such rows are only counted.
const smallSweep = `
	select ` + logColumns + `, case when not c.heavy then c.old end, case when not c.heavy then c.new end, c.heavy
	from (
		select c.*, sum(` + logWeight + `) over (order by c.xid, c.seq) > 4194304 as heavy
		from (
			(select c.* from notifyql.change c where c.xid = any($5::xid8[]) and ` + logLacks + ` order by c.xid, c.seq limit 1001)
			union all
			(select c.* from notifyql.change c where c.xid >= $6::xid8 and ` + logLacks + ` order by c.xid, c.seq limit 1001)
		) c
	) c
	order by c.xid, c.seq`

// sweepSmall sweeps in one round trip. all is false if there is more than fits.
func sweepSmall(ctx context.Context, conn *pgx.Conn, a *feed.Sweep, l *lacking) (swept feed.Swept, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	var batch pgx.Batch
	beginReading(&batch)
	batch.Queue(sweepSnapshot, l.xmin).QueryRow(func(row pgx.Row) error { return scanSnapshot(row, &swept) })
	var read txnReader
	batch.Queue(smallSweep, l.args(l.xip, l.xmax)...).Query(func(rows pgx.Rows) error {
		return read.rows(rows)
	})
	batch.Queue(endReading)
	var gone dropped
	askDropped(&batch, &gone)
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return swept, false, err
	}
	if err := gone.judge(a); err != nil {
		return swept, false, err
	}
	swept.Txns = read.txns(l)
	return swept, !read.cut && read.count <= wholeRows, nil
}

// scanSnapshot fills in all of an answer but its transactions.
func scanSnapshot(row pgx.Row, into *feed.Swept) error {
	var text string
	var standby bool
	var id, bits *int64
	var tickText *string
	var torn []uint64
	if err := row.Scan(&text, &standby, &id, &bits, &tickText, &torn); err != nil {
		return err
	}
	if standby {
		return errStandby
	}
	for _, x := range torn {
		into.Torn = append(into.Torn, change.XID(x))
	}
	var err error
	if into.Snapshot, err = change.ParseSnapshot(text); err != nil || id == nil {
		return err
	}
	into.Tick = &change.Tick{Stamp: change.Stamp{ID: *id, Bits: uint64(*bits)}}
	into.Tick.Snapshot, err = change.ParseSnapshot(*tickText)
	return err
}

// txnReader puts rows together to transactions.
type txnReader struct {
	byXID map[change.XID]*readTxn
	count int
	bytes int
	cut   bool // something is missing
}

type readTxn struct {
	change.Txn
	last      int64
	unordered bool
}

// rows reads rows of logColumns, the images and whether the images were left out. What is too much is not kept.
func (r *txnReader) rows(rows pgx.Rows) error {
	var row logRow
	var heavy bool
	r.byXID = map[change.XID]*readTxn{}
	for rows.Next() {
		if err := row.scan(rows, &heavy); err != nil {
			return err
		}
		r.count++
		r.bytes += len(row.old) + len(row.new)
		if heavy || r.bytes > rawBytes {
			r.cut = true
		}
		if r.cut {
			continue
		}
		t := r.byXID[change.XID(row.xid)]
		if t == nil {
			t = &readTxn{Txn: change.Txn{XID: change.XID(row.xid)}}
			r.byXID[t.XID] = t
		}
		t.Changes = append(t.Changes, row.change())
		t.last = max(t.last, row.seq)
		t.unordered = t.unordered || row.flags&flagUnordered != 0
	}
	return rows.Err()
}

// txns are the transactions read, in the order in which they are to be dispatched.
func (r *txnReader) txns(l *lacking) []change.Txn {
	list := make([]*readTxn, 0, len(r.byXID))
	for _, t := range r.byXID {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *readTxn) int { return l.order(a.XID, a.last, b.XID, b.last) })
	txns := make([]change.Txn, 0, len(list))
	for _, t := range list {
		if t.unordered {
			change.Canonical(t.Changes)
		}
		t.Continued = l.continues(t.XID)
		txns = append(txns, t.Txn)
	}
	return txns
}

// order compares transactions: the one that is open in the frontier first, the others by their last seq.
func (l *lacking) order(x change.XID, last int64, y change.XID, lastY int64) int {
	if x != y && (uint64(x) == l.open || uint64(y) == l.open) {
		if uint64(x) == l.open {
			return -1
		}
		return 1
	}
	return cmp.Compare(last, lastY)
}

// continues reports whether a part of x was dispatched before.
func (l *lacking) continues(x change.XID) bool { return uint64(x) == l.open && l.openSeq > 0 }

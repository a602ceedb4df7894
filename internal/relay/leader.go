package relay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/pg"
)

// The sizes of what waits to be appended.
const (
	recordBytes = 256 << 10 // a record is begun anew beyond this
	queueBytes  = 16 << 20  // who reads the database waits beyond this
)

// reign reads the database for all nodes, in one session after the other, until ctx is done or the stream can't be appended to.
func (r *Relay) reign(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.lead(ctx)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errGap) {
			r.source.Problem("relay", fmt.Errorf("%s can't be appended to, another server may lead: %w", r.config.Stream, err))
			return
		}
	}
}

// errGap ends a session that goes on with a gap: another one begins, so that everybody sweeps.
var errGap = errors.New("what was read has a gap")

// lead is one session.
func (r *Relay) lead(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &reading{relay: r, machine: feed.New(), end: end, queue: newQueue(min(recordBytes, r.config.Stream.MaxRecord())), key: *r.key.Load()}
	rand.Read(s.header.session[:])
	s.db = r.source.NewReading(pg.ReadingEvents{Enter: s.enter, Settled: s.settled, Catalog: s.catalog})
	defer context.AfterFunc(ctx, s.queue.close)()
	var run sync.WaitGroup
	run.Go(func() { s.db.Run(ctx, s.emit) })
	run.Go(func() {
		if err := s.publish(ctx); err != nil {
			end(err)
		}
	})
	run.Wait()
	return context.Cause(ctx)
}

// reading is one session: a machine, and the queue of what it has dispatched.
type reading struct {
	relay *Relay
	db    *pg.Reading
	end   context.CancelCauseFunc
	queue *queue
	key   []byte
	asks  atomic.Bool // it is to be asked whether more comes of the transaction queued last

	mu      sync.Mutex
	machine *feed.Machine
	header  header          // of the next record; all but the era is the publisher's
	opened  bool            // there was an Opened
	folded  change.Snapshot // that was told last
	item    []byte          // for building
}

// enter is told of the era before the listener opens. A session is of one.
func (s *reading) enter(era change.Era) *change.Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.opened:
		s.header.era = era
	case era != s.header.era:
		s.end(errGap)
		return nil
	}
	return s.machine.Enter(era)
}

// emit takes an input to the machine, and what comes of it to the queue.
func (s *reading) emit(in feed.Input) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch in := in.(type) {
	case feed.Expired:
		s.end(errGap)
		return
	case feed.Opened:
		if in.Gone {
			s.end(errGap)
			return
		}
	}
	txns, actions := s.machine.Step(time.Now(), in)
	if len(txns) > 0 {
		s.asks.Store(s.machine.Stats().Open)
	}
	for i := range txns {
		s.append(&txns[i])
	}
	if to := s.machine.Folded(); s.opened && !to.Snapshot.Equal(s.folded) {
		s.folded = to.Snapshot
		s.item = appendFolded(s.item[:0], &to)
		s.queue.put(s.item)
	}
	for _, a := range actions {
		s.db.Do(a)
	}
	if _, ok := in.(feed.Opened); ok && !s.opened {
		s.opened = true
		s.folded = s.machine.Folded().Snapshot
		close(s.queue.begun)
	}
}

// append queues a transaction, in parts if it has more bytes than a record: as long as its changes are in the order of seq, by
// which a node knows what it has of one. If they are not, or one change is too large, the nodes read the rest from the log.
func (s *reading) append(t *change.Txn) {
	s.item = appendTxn(s.item[:0], t)
	if len(s.item) <= s.queue.most {
		s.queue.put(s.item)
		return
	}
	part := *t
	if t.Stub != nil {
		stub := *t.Stub
		stub.Scopes, part.Stub = nil, &stub // anybody
		s.append(&part)
		return
	}
	rest := t.Changes
	for ascending(t.Changes) && len(rest) > 0 {
		n, size := 0, txnHeaderBytes
		for n < len(rest) {
			s.item = appendChange(s.item[:0], &rest[n])
			if size += len(s.item); size > s.queue.most {
				break
			}
			n++
		}
		if n == 0 {
			break
		}
		part.Changes, part.Whole = rest[:n], t.Whole && n == len(rest)
		s.item = appendTxn(s.item[:0], &part)
		s.queue.put(s.item)
		rest, part.Continued = rest[n:], true
	}
	if len(rest) == 0 {
		return
	}
	if !t.Whole { // a change that was notified is never so large
		s.end(errGap)
		return
	}
	part.Changes, part.Whole = nil, true
	part.Stub = &change.Stub{LastSeq: t.LastSeq(), LastAt: t.Mark().At, Era: s.header.era}
	if part.Continued {
		part.Stub.AfterSeq = lowest(rest) - 1
	}
	s.item = appendTxn(s.item[:0], &part)
	s.queue.put(s.item)
}

func ascending(cs []change.Change) bool {
	return slices.IsSortedFunc(cs, func(a, b change.Change) int { return cmp.Compare(a.Seq, b.Seq) })
}

func lowest(cs []change.Change) int64 {
	return slices.MinFunc(cs, func(a, b change.Change) int { return cmp.Compare(a.Seq, b.Seq) }).Seq
}

// settled tells that all has been emitted of each transaction of which some has.
func (s *reading) settled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine.Stats().State == feed.Listening {
		s.queue.put([]byte{itemSettled})
	}
}

func (s *reading) catalog() {
	s.relay.source.CatalogChanged()
	s.queue.put([]byte{itemCatalog})
}

// publish appends what is queued, and something now and then, until ctx is done or that fails.
func (s *reading) publish(ctx context.Context) error {
	record := s.queue.empty()
	select {
	case <-s.queue.begun:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.relay.sessions.Add(1)
	s.relay.source.Problem("relay", nil)
	for ; ; record = s.queue.take(ctx, keepAlive) {
		if ctx.Err() != nil {
			// So that nobody waits for more. It is no loss if this does not get through.
			return cmp.Or(s.write(context.WithoutCancel(ctx), append(s.queue.empty(), itemEnd), farewellTimeout), ctx.Err())
		}
		if !bytes.Equal(s.key, *s.relay.key.Load()) {
			return errGap // the schema was made anew, and nobody could read it
		}
		if err := s.write(ctx, record, appendTimeout); err != nil {
			return err
		}
		if s.queue.idle() && s.asks.Swap(false) {
			s.db.Settle()
		}
	}
}

// write numbers a record, seals it and appends it.
func (s *reading) write(ctx context.Context, record []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	s.header.put(record)
	s.header.number++
	return s.relay.config.Stream.Append(ctx, seal(record, s.key))
}

// queue is the records that wait, the last of which is not full.
type queue struct {
	most  int           // bytes of items in a record
	begun chan struct{} // closed when the first may be appended
	some  chan struct{} // a value: there is something

	mu      sync.Mutex
	space   *sync.Cond
	records [][]byte
	bytes   int
	closed  bool
}

func newQueue(record int) *queue {
	q := &queue{most: record - headerBytes - sealBytes, begun: make(chan struct{}), some: make(chan struct{}, 1)}
	q.space = sync.NewCond(&q.mu)
	return q
}

// empty is a record without items.
func (q *queue) empty() []byte { return make([]byte, headerBytes, headerBytes+sealBytes) }

// put adds an item, which it copies. It waits while too much is queued.
func (q *queue) put(item []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes > queueBytes && !q.closed {
		q.space.Wait()
	}
	if q.closed {
		return
	}
	last := len(q.records) - 1
	if last < 0 || len(q.records[last])-headerBytes+len(item) > q.most {
		q.records = append(q.records, make([]byte, headerBytes, headerBytes+len(item)+512))
		last++
	}
	q.records[last] = append(q.records[last], item...)
	q.bytes += len(item)
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// take gives the first record, or one that is empty if there is none for so long or ctx is done. It is the caller's.
func (q *queue) take(ctx context.Context, wait time.Duration) []byte {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		q.mu.Lock()
		if len(q.records) > 0 {
			record := q.records[0]
			q.records[0] = nil
			q.records = q.records[1:]
			q.bytes -= len(record) - headerBytes
			q.space.Broadcast()
			q.mu.Unlock()
			return record
		}
		q.mu.Unlock()
		select {
		case <-q.some:
		case <-timer.C:
			return q.empty()
		case <-ctx.Done():
			return q.empty()
		}
	}
}

func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records) == 0
}

// close lets nobody wait any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.space.Broadcast()
}

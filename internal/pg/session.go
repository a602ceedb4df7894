package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// maxHeld bounds the payload bytes that are held back while the session opens.
const maxHeld = 64 << 20

// session is one connection of the listener, past the handshake: pgx has opened it and handed it over, because here
// somebody reads all the time, while somebody else sends an empty query now and then to see whether the server still answers.
//
// One goroutine reads: it opens, then receives. ping runs beside it and only writes. close may be called from anywhere.
type session struct {
	conn    *burst
	front   *pgproto3.Frontend
	channel string
	on      sessionEvents

	open    bool       // Opened was emitted: what comes is handed on
	held    int        // bytes of payload in batch
	last    change.XID // of what was notified
	batch   []feed.Notice
	catalog bool // the set of watched tables changed

	mu       sync.Mutex
	reason   error // why we closed it ourselves
	asked    int   // empty queries sent
	answered int   // and answered, in their order
	settling int   // the one of them whose answer settles; 0: none
	again    bool  // settle was called since it was sent
}

// sessionEvents is what a session tells its listener, all from the goroutine that reads.
type sessionEvents struct {
	emit       func(feed.Input)
	enter      func(change.Era) *change.Point // see Config.Enter
	settled    func()
	catalog    func()
	unreadable func(payload string, err error)
	seen       *atomic.Int64 // counts the transactions that are notified
}

// newSession takes over conn, which must have listened to nothing so far.
func newSession(ctx context.Context, conn *pgx.Conn, channel string, on sessionEvents) (*session, error) {
	if err := conn.PgConn().SyncConn(ctx); err != nil {
		return nil, err
	}
	hijacked, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	s := &session{channel: channel, on: on}
	s.conn = newBurst(hijacked.Conn, s.flush)
	s.front = pgproto3.NewFrontend(s.conn, s.conn)
	return s, nil
}

// listen LISTENs, and in a later transaction finds the place from which on everything is notified. The transaction is
// READ ONLY, so that it has no xid, which its own snapshot would call seen.
func (s *session) listen() (place, error) {
	if _, err := s.query("listen " + pgx.Identifier{s.channel}.Sanitize()); err != nil {
		return place{}, fmt.Errorf("listen: %w", err)
	}
	text, err := s.query("begin isolation level read committed, read only; " + readPlace + "; commit")
	if err != nil {
		return place{}, fmt.Errorf("finding the place to begin from: %w", err)
	}
	return parsePlace(text)
}

// query runs SQL in the simple protocol and returns the last value that came.
func (s *session) query(sql string) (value string, err error) {
	s.front.SendQuery(&pgproto3.Query{String: sql})
	if err := s.front.Flush(); err != nil {
		return "", err
	}
	for {
		msg, err := s.receive()
		if err != nil {
			return "", err
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			if len(msg.Values) > 0 {
				value = string(msg.Values[0])
			}
		case *pgproto3.ReadyForQuery:
			return value, nil
		}
	}
}

// run hands on what comes until the connection ends, and says why it did. From here on opened notifications are emitted.
func (s *session) run(opened feed.Opened) error {
	s.on.emit(opened)
	s.open = true
	for {
		if _, err := s.receive(); err != nil {
			s.flush()
			return err
		}
	}
}

// receive reads one message. Any error that the server reports ends the session: in its simple life none is harmless.
func (s *session) receive() (pgproto3.BackendMessage, error) {
	msg, err := s.front.Receive()
	if err != nil {
		return nil, s.why(err)
	}
	switch msg := msg.(type) {
	case *pgproto3.NotificationResponse:
		if msg.Channel == s.channel {
			s.take(msg.Payload)
		}
		if s.held > maxHeld {
			return nil, errors.New("too many notifications came while the listener was opening")
		}
	case *pgproto3.EmptyQueryResponse:
		s.answer()
	case *pgproto3.ErrorResponse:
		return nil, pgconn.ErrorResponseToPgError(msg)
	}
	return msg, nil
}

func (s *session) take(payload string) {
	p, err := ParseNotice(payload)
	switch {
	case err != nil:
		s.on.unreadable(payload, err)
		// The change is in the log all the same: a marker for a transaction that is not known makes the node sweep.
		p.Notice = feed.Notice{Marker: true}
	case p.Catalog:
		s.catalog = true
		return
	}
	if x := p.Notice.Change.XID; x != s.last {
		s.last = x
		s.on.seen.Add(1)
	}
	s.held += len(payload)
	s.batch = append(s.batch, p.Notice)
}

// flush hands on what was taken. The reader calls it before it could block.
func (s *session) flush() {
	if !s.open {
		return
	}
	if s.catalog {
		s.catalog = false
		s.on.catalog()
	}
	if len(s.batch) > 0 {
		batch := s.batch
		s.batch, s.held = make([]feed.Notice, 0, min(cap(batch), 64)), 0
		s.on.emit(feed.Notified{Notices: batch})
	}
}

// emptyQuery is the protocol's Query message with no query in it: the cheapest question a server answers.
var emptyQuery = [6]byte{'Q', 0, 0, 0, 5, 0}

// ping asks for a sign of life when nothing came for a while, and closes the connection when none comes within patience.
// Time in which the reader does not wait for the network, because whoever takes its batches is slow, does not count.
func (s *session) ping(ctx context.Context, silence, patience time.Duration) {
	tick := time.NewTicker(silence / 4)
	defer tick.Stop()
	var alive, asked time.Time
	var seen int64
	for {
		now := time.Now()
		if reads := s.conn.reads.Load(); reads != seen || !s.conn.waiting.Load() || alive.IsZero() {
			seen, alive, asked = reads, now, time.Time{}
		}
		switch {
		case asked.IsZero() && now.Sub(alive) >= silence:
			s.mu.Lock()
			err := s.ask(patience)
			s.mu.Unlock()
			if err != nil {
				s.close(fmt.Errorf("the server takes no more data: %w", err))
				return
			}
			asked = now
		case !asked.IsZero() && now.Sub(asked) >= patience:
			s.close(fmt.Errorf("the server has not answered for %v", patience))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask sends an empty query. s.mu is held, so that the queries are counted in the order in which they are sent.
func (s *session) ask(patience time.Duration) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(patience)) // fails only on a closed connection, as the write then does
	_, err := s.conn.Write(emptyQuery[:])
	s.asked++
	return err
}

// settle asks the server an empty query. Its answer comes behind all notifications of a transaction of which some have
// come: those of a transaction are sent together. Then settled is called, unless settle was called again meanwhile.
func (s *session) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settling != 0 {
		s.again = true
		return
	}
	if s.ask(pingPatience) == nil { // else the connection ends, which settles too
		s.settling = s.asked
	}
}

func (s *session) answer() {
	s.mu.Lock()
	s.answered++
	settled := s.settling != 0 && s.answered >= s.settling
	if settled {
		s.settling = 0
		if s.again {
			s.again, settled = false, false
			if s.ask(pingPatience) == nil {
				s.settling = s.asked
			}
		}
	}
	s.mu.Unlock()
	if settled {
		s.flush() // what came before the answer
		s.on.settled()
	}
}

// close ends the session from outside; what reads it returns reason.
func (s *session) close(reason error) {
	s.mu.Lock()
	if s.reason == nil {
		s.reason = reason
	}
	s.mu.Unlock()
	_ = s.conn.Close() // a second close is no news
}

// why is the reason of our own, if we closed the connection, or else err.
func (s *session) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil && errors.Is(err, net.ErrClosed) {
		return s.reason
	}
	return err
}

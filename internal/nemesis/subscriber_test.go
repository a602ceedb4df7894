package nemesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql/internal/change"
)

// subscriber is a client that wants to miss nothing: it keeps the last cursor it was given, and goes on there, at any node.
type subscriber struct {
	Subscription
	db    *database
	nodes []*node
	rnd   *rand.Rand
	batch bool
	calm  bool // it leaves for no reason of its own

	mu       sync.Mutex // guards what a fault looks at: Notes, live
	cursor   string
	took     time.Time // when the cursor came
	live     bool
	marked   bool // it has the marker; done: and all before it
	done     bool
	batches  int
	problems []string // answers that nobody should get
}

// The frames of graphql-transport-ws, and in them what was selected.
type (
	frame struct {
		Type    string
		Payload json.RawMessage
	}
	result struct {
		Data   struct{ C *answer }
		Errors []problem
	}
	problem struct {
		Message    string
		Extensions struct{ Code string }
	}
	answer struct {
		event
		Changes  []event
		Complete bool
		Synced   bool
	}
	event struct {
		Kind        string
		Transaction string
		Cursor      *string
		Old, New    *image
	}
	image struct {
		ID       int64 `json:",string"`
		V        int64 `json:",string"`
		Stamp    int64 `json:",string"`
		TenantID string
		N        int
		Grp      string
	}
)

func (i *image) row() *Row {
	if i == nil {
		return nil
	}
	return &Row{ID: i.ID, Version: i.V, Stamp: i.Stamp, Tenant: i.TenantID, N: i.N, Group: i.Grp}
}

var errLeft = errors.New("it left")

// silent is how long a connection may be without a sign of life.
const silent = 8 * time.Second

// run follows the table until it has got the marker, or ctx is done.
func (s *subscriber) run(ctx context.Context) {
	for ctx.Err() == nil && !s.isDone() {
		n := s.nodes[s.rnd.IntN(len(s.nodes))]
		err := s.connection(ctx, n)
		s.mu.Lock()
		s.live = false
		s.mu.Unlock()
		if err != nil && !pass(ctx, time.Duration(20+s.rnd.IntN(200))*time.Millisecond) {
			return
		}
	}
}

func (s *subscriber) isDone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

func (s *subscriber) note(n Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Notes = append(s.Notes, n)
}

// query asks to go on behind the cursor, or if there is none to begin with all rows.
func (s *subscriber) query() string {
	args := "initial: true"
	if s.cursor != "" {
		args = "after: " + strconv.Quote(s.cursor)
	}
	var where string
	if s.Filter.Below != 0 {
		where += fmt.Sprintf("n: {lt: %d} ", s.Filter.Below)
	}
	if s.Filter.Group != "" {
		where += fmt.Sprintf("grp: {in: [%q, %q]} ", s.Filter.Group, Marker)
	}
	if where != "" {
		args += ", where: {" + where + "}"
	}
	const columns = "{ id v stamp tenantId n grp }"
	const fields = "kind transaction new " + columns + " old " + columns
	if s.batch {
		return fmt.Sprintf("subscription { c: %sBatch(%s) { changes { %s } complete synced cursor } }", s.Table, args, fields)
	}
	return fmt.Sprintf("subscription { c: %sChanged(%s) { %s cursor } }", s.Table, args, fields)
}

// connection is one socket's life. It returns nil if it may be followed by another at once.
func (s *subscriber) connection(ctx context.Context, n *node) error {
	dialing, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reading, end := context.WithCancel(ctx)
	defer end()
	silence := time.AfterFunc(silent, end) // the server's pings come more often
	defer silence.Stop()
	conn, _, err := websocket.Dial(dialing, "ws://"+n.clients.addr+"/graphql", &websocket.DialOptions{
		Subprotocols:   []string{"graphql-transport-ws"},
		OnPingReceived: func(context.Context, []byte) bool { silence.Reset(silent); return true },
	})
	if err != nil {
		return err
	}
	defer conn.CloseNow() //nolint:errcheck // there is no more to say
	conn.SetReadLimit(64 << 20)
	for _, text := range []string{
		fmt.Sprintf(`{"type": "connection_init", "payload": {"tenantId": %q}}`, s.Tenant),
		fmt.Sprintf(`{"type": "subscribe", "id": "1", "payload": {"query": %q}}`, s.query()),
	} {
		if text[10] == 's' {
			if _, ack, err := conn.Read(dialing); err != nil || string(ack) != `{"type":"connection_ack"}` {
				return fmt.Errorf("instead of an ack: %s (%w)", ack, err)
			}
		}
		if err := conn.Write(dialing, websocket.MessageText, []byte(text)); err != nil {
			return err
		}
	}
	if s.cursor == "" {
		s.note(Note{Kind: Begun, At: time.Now()})
	} else {
		s.note(Note{Kind: Resumed, At: time.Now()})
	}
	stay := -1
	if !s.calm {
		stay = 1 + s.rnd.IntN(1500)
	}
	for {
		_, text, err := conn.Read(reading)
		if err != nil {
			return err
		}
		silence.Reset(silent)
		var f frame
		if err := json.Unmarshal(text, &f); err != nil {
			return err
		}
		switch f.Type {
		case "next":
			if err := s.next(f.Payload); err != nil {
				return err
			}
		case "error":
			return s.refused(ctx, f.Payload)
		case "complete":
			return errLeft
		}
		if s.isDone() {
			return nil
		}
		if stay--; stay == 0 {
			if s.rnd.IntN(2) == 0 {
				return nil // without a word
			}
			if !pass(ctx, time.Duration(s.rnd.IntN(3000))*time.Millisecond) { // it reads nothing for a while
				return ctx.Err()
			}
			stay = 1 + s.rnd.IntN(1500)
		}
	}
}

func (s *subscriber) next(payload []byte) error {
	now := time.Now()
	var r result
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	if len(r.Errors) > 0 || r.Data.C == nil {
		s.odd("%s", payload)
		return errLeft
	}
	c := r.Data.C
	events := c.Changes
	if !s.batch {
		events = []event{c.event}
	} else if s.batches++; c.Synced {
		events = append(events, event{Kind: "SYNCED"})
	} else if len(events) == 0 {
		events = append(events, event{Kind: "COMPLETED"})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		e := &events[i]
		n := Note{At: now, Old: e.Old.row(), New: e.New.row(), Batch: s.batches, Complete: c.Complete}
		if e.Transaction != "" {
			xid, err := strconv.ParseUint(e.Transaction, 10, 64)
			if err != nil {
				return err
			}
			n.XID = xid
		}
		switch e.Kind {
		case "INITIAL":
			n.Kind = Initial
		case "SYNCED":
			n.Kind = Synced
			s.live = true
		case "COMPLETED":
			n.Kind = Completed
		case "INSERT":
			n.Kind = Insert
		case "UPDATE":
			n.Kind = Update
		case "DELETE":
			n.Kind = Delete
		default:
			return fmt.Errorf("a change of kind %q", e.Kind)
		}
		s.Notes = append(s.Notes, n)
		if n.New != nil && n.New.Group == Marker {
			s.marked = true
		}
	}
	if c.Cursor != nil {
		s.cursor, s.took = *c.Cursor, now
	}
	s.done = s.marked && s.cursor != "" // which comes when all rows of the beginning are there
	return nil
}

func (s *subscriber) odd(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, clock(time.Now())+" "+fmt.Sprintf(format, args...))
}

// refused looks at the end of a subscription.
func (s *subscriber) refused(ctx context.Context, payload []byte) error {
	var ps []problem
	if err := json.Unmarshal(payload, &ps); err != nil || len(ps) == 0 {
		s.odd("%s", payload)
		return errLeft
	}
	switch ps[0].Extensions.Code {
	case "CURSOR_EXPIRED":
		at := time.Now()
		if s.cursor == "" { // before it was given one
			return errLeft
		}
		cause, err := s.why(ctx, strings.Contains(ps[0].Message, "dropped"))
		if err != nil {
			return err
		}
		s.note(Note{Kind: Expired, At: at, Cause: cause})
		s.cursor, s.marked = "", false
	case "SHUTTING_DOWN", "INITIAL_INTERRUPTED", "NOT_READY":
	default:
		s.odd("%s", payload)
	}
	return errLeft
}

// why asks the database what became of the cursor. away: the node says that it is not about the cursor, but about all that the
// node should have sent.
func (s *subscriber) why(ctx context.Context, away bool) (Cause, error) {
	c, err := change.ParseCursor(s.cursor)
	if err != nil {
		return Unknown, nil
	}
	for {
		cause, emptied, err := s.db.why(ctx, c.Tick.ID)
		if err == nil {
			if cause == Unknown && s.db.lostSince(s.took.Add(-OnTheWay)) {
				cause = LostTail
			}
			if cause == Unknown && away && emptied {
				cause = NodeAway
			}
			return cause, nil
		}
		if !pass(ctx, 100*time.Millisecond) {
			return Unknown, ctx.Err()
		}
	}
}

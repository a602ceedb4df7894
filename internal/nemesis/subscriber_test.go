package nemesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// subscriber is a client that wants to miss nothing: it keeps the last cursor it was given, and goes on there, at any node.
type subscriber struct {
	Subscription
	db      *database
	nodes   []*node
	rnd     *rand.Rand
	batch   bool
	sse     bool // its connections are of GraphQL over Server-Sent Events
	patient bool // it does not leave before all rows of the beginning have come: there may be very many
	calm    bool // it leaves for no reason of its own

	mu       sync.Mutex // guards what a fault looks at: Notes, live
	cursor   string
	took     time.Time // when the cursor came
	live     bool
	marked   bool // it has the marker; done: and all before it
	done     bool
	batches  int
	problems []string // answers that nobody should get
}

var errLeft = errors.New("it left")

// silent is how long a connection may be without a sign of life.
const silent = 8 * time.Second

// run follows the table until it has got the marker, or ctx is done.
func (s *subscriber) run(ctx context.Context) {
	for ctx.Err() == nil && !s.isDone() {
		n := s.nodes[s.rnd.IntN(len(s.nodes))]
		connect := s.connection
		if s.sse {
			connect = s.events
		}
		err := connect(ctx, n)
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
	if s.Channel {
		args = `name: "` + s.Table + `"`
	}
	if s.cursor != "" && !s.sse { // which says it in Last-Event-ID
		after := "after: " + strconv.Quote(s.cursor)
		if s.Channel {
			args += ", " + after
		} else {
			args = after
		}
	}
	if s.Channel {
		return "subscription { c: channel(" + args + ") { kind transaction data cursor } }"
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
	conn, _, err := websocket.Dial(dialing, "ws://"+n.clients.Addr+"/graphql", &websocket.DialOptions{
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
	s.begun()
	stay := s.stay()
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
		if left, err := s.leaves(ctx, &stay); left {
			return err
		}
	}
}

// begun notes what was asked for.
func (s *subscriber) begun() {
	s.patient = s.rnd.IntN(3) > 0
	if s.cursor == "" {
		s.note(Note{Kind: Begun, At: time.Now()})
	} else {
		s.note(Note{Kind: Resumed, At: time.Now()})
	}
}

// stay is how many messages it takes before it leaves, or stops to read for a while; negative: any number.
func (s *subscriber) stay() int {
	if s.calm {
		return -1
	}
	return 1 + s.rnd.IntN(1500)
}

// leaves counts a message, and reports whether the subscriber leaves.
func (s *subscriber) leaves(ctx context.Context, stay *int) (bool, error) {
	if s.cursor == "" && s.patient {
		return false, nil
	}
	if *stay--; *stay != 0 {
		return false, nil
	}
	if s.rnd.IntN(2) == 0 {
		return true, nil // without a word
	}
	if !pass(ctx, time.Duration(s.rnd.IntN(3000))*time.Millisecond) { // it reads nothing for a while
		return true, ctx.Err()
	}
	*stay = s.stay()
	return false, nil
}

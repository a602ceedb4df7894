package ws

import "github.com/notifyql/notifyql/internal/limit"

// machine is a protocol's server side, for one connection. It has no socket, no goroutine and no clock; calls are made
// one at a time. Whoever drives it sends what a step says, then does what it says. After a step that shuts, it is
// silent.
type machine interface {
	// parse checks a message's form. It may be called at any time: it does not touch the machine's state.
	parse(text []byte) message
	receive(m message) step
	// connected answers connect; refusal is nil if the client was accepted.
	connected(refusal *CloseError) step
	// initTimeout says that the time for the first message is over.
	initTimeout() step
	// complete and fail end an operation from this side: its id is free, and the message is to be sent.
	complete(s *subscription) []byte
	fail(s *subscription, errors []byte) []byte
	// active is how many operations have not ended.
	active() int
	// each calls f with every operation that has not ended.
	each(f func(*subscription))
	// ping is a message that the client answers, nil if the protocol has none.
	ping() []byte
	// keepAlive is a message that the client wants to see now and then, nil if the protocol has none.
	keepAlive() []byte
}

// step is what an input leads to.
type step struct {
	send     []byte          // nil: nothing
	exceeded *limit.Exceeded // not nil: send refuses an operation for this
	over     *subscription   // not nil: start takes its id, and it is to be stopped first
	do       verb
	payload  []byte        // of connect and refresh
	sub      *subscription // of start and stop
	op       Operation     // of start
	close    *CloseError   // of shut
}

type verb byte

const (
	nothing verb = iota
	connect      // ask the service, answer with connected
	refresh      // offer a ping's payload to the session, answer with a pong
	start        // start the operation op as sub
	stop         // sub is over; the client wants no more of it, and gets no answer
	shut         // close the socket
)

type state byte

const (
	opened     state = iota // nothing was received
	connecting              // connection_init was, the service has not answered
	acknowledged
	closed
)

// newMachine returns the machine of a subprotocol, nil if there is none.
func newMachine(subprotocol string, maxSubscriptions int) machine {
	switch subprotocol {
	case transportWS:
		return &transport{subs: subscriptions{limit: maxSubscriptions}}
	case legacyWS:
		return &legacy{subs: subscriptions{limit: maxSubscriptions}}
	}
	return nil
}

// subscription is an operation that has not ended. The machine makes it and knows it by its id; the rest belongs to the
// connection that drives the machine, and is guarded by its lock.
type subscription struct {
	id     string
	prefix string // of a message that carries a result: `{"id":…,"type":"…","payload":`
	rawID  int    // the id's length within prefix

	stream  Stream
	next    *subscription // in the connection's queue of what may have something
	queued  bool
	pulling bool // the writer is in Next, and closes the stream if stopped meanwhile
	stopped bool // it has ended: nothing of it is sent any more
}

// newSubscription is one whose results are sent as messages of this type.
func newSubscription(m message, typ string) *subscription {
	prefix := append([]byte(`{"id":`), m.rawID...)
	prefix = append(prefix, `,"type":"`+typ+`","payload":`...)
	return &subscription{id: m.id, prefix: string(prefix), rawID: len(m.rawID)}
}

// raw is the id as JSON text.
func (s *subscription) raw() []byte { return []byte(s.prefix[len(`{"id":`):][:s.rawID]) }

// subscriptions are those of one connection, by id.
type subscriptions struct {
	limit int
	byID  map[string]*subscription
}

func (ss *subscriptions) has(id string) bool { return ss.byID[id] != nil }
func (ss *subscriptions) full() bool         { return len(ss.byID) >= ss.limit }

func (ss *subscriptions) active() int { return len(ss.byID) }

func (ss *subscriptions) add(s *subscription) {
	if ss.byID == nil {
		ss.byID = make(map[string]*subscription, 1)
	}
	ss.byID[s.id] = s
}

func (ss *subscriptions) remove(id string) *subscription {
	s := ss.byID[id]
	delete(ss.byID, id)
	return s
}

func (ss *subscriptions) each(f func(*subscription)) {
	for _, s := range ss.byID {
		f(s)
	}
}

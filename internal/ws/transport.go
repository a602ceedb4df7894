package ws

import (
	"encoding/json"
	"strconv"

	"github.com/notifyql/notifyql/internal/limit"
)

// The subprotocol's name.
const transportWS = "graphql-transport-ws"

// transportMessage checks a message of graphql-transport-ws.
func transportMessage(text []byte) (m message, problem string) {
	o, problem := parseObject(text)
	if problem != "" {
		return m, problem
	}
	if m.typ, problem = o.text("type", false); problem != "" {
		return m, problem
	}
	switch m.typ {
	case "connection_init", "ping", "pong":
		m.payload, problem = o.object("payload")
	case "subscribe":
		if problem = o.id(&m); problem != "" {
			return m, problem
		}
		var request object
		if kind := kindOf(o["payload"]); kind != "object" {
			return m, "'payload' must be an object, got " + kind
		}
		if request, problem = parseObject(o["payload"]); problem == "" {
			m.op, problem = request.operation()
		}
	case "complete":
		problem = o.id(&m)
	case "connection_ack", "next", "error":
		problem = "'" + m.typ + "' is for the server to send"
	default:
		problem = "unknown type " + strconv.QuoteToGraphic(m.typ)
	}
	return m, problem
}

// transport is the server's side of graphql-transport-ws.
type transport struct {
	state state
	subs  subscriptions
}

func (t *transport) parse(text []byte) message { return parse(text, transportMessage) }

func (t *transport) receive(m message) step {
	if t.state == closed {
		return step{}
	}
	if m.bad != nil {
		return t.shut(m.bad)
	}
	switch m.typ {
	case "connection_init":
		if t.state != opened {
			return t.shut(closing(CodeTooManyInits, "Too many initialisation requests"))
		}
		t.state = connecting
		return step{do: connect, payload: m.payload}
	case "ping":
		if t.state == acknowledged && m.payload != nil {
			return step{do: refresh, payload: m.payload}
		}
		return step{send: pongMessage(m.payload)}
	case "subscribe":
		return t.subscribe(m)
	case "complete":
		if s := t.subs.remove(m.id); s != nil {
			return step{do: stop, sub: s}
		}
	}
	return step{} // a pong, or the complete of what has ended here already
}

func (t *transport) subscribe(m message) step {
	if t.state != acknowledged {
		return t.shut(closing(CodeUnauthorized, "Unauthorized"))
	}
	if t.subs.has(m.id) {
		const before, after = "Subscriber for ", " already exists"
		id := truncate(m.id, maxReason-len(before)-len(after))
		return t.shut(closing(CodeDuplicate, "%s%s%s", before, id, after))
	}
	if t.subs.full() {
		e := TooManySubscriptions(t.subs.limit)
		return step{send: errorMessage(m.rawID, e.GraphQL()), exceeded: e}
	}
	m.op.ID = m.id
	s := newSubscription(m, "next")
	t.subs.add(s)
	return step{do: start, sub: s, op: m.op}
}

func (t *transport) connected(refusal *CloseError) step {
	if t.state != connecting {
		return step{}
	}
	if refusal != nil {
		return t.shut(refusal)
	}
	t.state = acknowledged
	return step{send: []byte(`{"type":"connection_ack"}`)}
}

func (t *transport) initTimeout() step {
	if t.state != opened {
		return step{}
	}
	return t.shut(closing(CodeInitTimeout, "Connection initialisation timeout"))
}

func (t *transport) complete(s *subscription) []byte {
	t.subs.remove(s.id)
	return completeMessage(s)
}

func (t *transport) fail(s *subscription, errors []byte) []byte {
	t.subs.remove(s.id)
	return errorMessage(s.raw(), errors)
}

func (t *transport) active() int { return t.subs.active() }

func (t *transport) each(f func(*subscription)) { t.subs.each(f) }

func pongMessage(payload []byte) []byte { return withPayload(`{"type":"pong"`, payload) }

func (t *transport) ping() []byte { return []byte(`{"type":"ping"}`) }

func (t *transport) keepAlive() []byte { return nil }

func (t *transport) shut(e *CloseError) step {
	t.state = closed
	return step{do: shut, close: e}
}

// Both protocols have these two.

func completeMessage(s *subscription) []byte {
	m := append([]byte(`{"id":`), s.raw()...)
	return append(m, `,"type":"complete"}`...)
}

func errorMessage(rawID, errors []byte) []byte {
	m := append([]byte(`{"id":`), rawID...)
	m = append(m, `,"type":"error","payload":`...)
	return append(append(m, errors...), '}')
}

// withPayload ends a message that has been begun, with the payload if there is one.
func withPayload(begun string, payload []byte) []byte {
	if payload == nil {
		return append([]byte(begun), '}')
	}
	m := append([]byte(begun), `,"payload":`...)
	return append(append(m, payload...), '}')
}

// graphQLError is a list of one GraphQL error.
func graphQLError(code, text string) []byte {
	type extensions struct {
		Code string `json:"code"`
	}
	b, err := json.Marshal([]struct {
		Message    string     `json:"message"`
		Extensions extensions `json:"extensions"`
	}{{text, extensions{code}}})
	if err != nil {
		return []byte(`[{"message":"Internal server error"}]`)
	}
	return b
}

// TooManySubscriptions is the error of an operation for which a connection that may have so many has no room.
func TooManySubscriptions(max int) *limit.Exceeded {
	return &limit.Exceeded{
		Limit: "subscriptionsPerConnection", Max: max,
		Text: "This connection has " + strconv.Itoa(max) + " subscriptions already; complete one, or use another connection",
	}
}

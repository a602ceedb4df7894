package ws

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// The older protocol's name, which is the newer one's library's, too. Its library is subscriptions-transport-ws.
const legacyWS = "graphql-ws"

// legacyMessage checks a message of the older protocol. An id may be a number here.
func legacyMessage(text []byte) (m message, problem string) {
	o, problem := parseObject(text)
	if problem != "" {
		return m, problem
	}
	if kind := kindOf(o["id"]); kind == "number" {
		m.rawID = bytes.TrimSpace(o["id"])
		m.id = string(m.rawID)
	} else if kind != "nothing" && kind != "null" {
		if problem = o.id(&m); problem != "" {
			return message{}, problem
		}
	}
	if m.typ, problem = o.text("type", false); problem != "" {
		return m, problem
	}
	switch m.typ {
	case "connection_init":
		m.payload, problem = o.object("payload")
	case "start":
		var request object
		switch kind := kindOf(o["payload"]); {
		case m.rawID == nil:
			problem = "'id' must be a string, got " + kindOf(o["id"])
		case kind != "object":
			problem = "'payload' must be an object, got " + kind
		default:
			if request, problem = parseObject(o["payload"]); problem == "" {
				m.op, problem = request.operation()
			}
		}
	case "stop", "connection_terminate":
	default:
		problem = "unknown type " + strconv.QuoteToGraphic(m.typ)
	}
	return m, problem
}

// legacy is the server's side of the older protocol, as its library has it where nothing is written down: errors in
// messages are answered and the connection goes on, and an id that is used again takes the place of what has it.
type legacy struct {
	state state
	subs  subscriptions
}

func (l *legacy) parse(text []byte) message { return parse(text, legacyMessage) }

func (l *legacy) receive(m message) step {
	switch {
	case l.state == closed:
		return step{}
	case m.bad != nil && m.bad.Code != CodeBadRequest:
		return l.shut(m.bad)
	case m.bad != nil && m.rawID != nil:
		return step{send: errorMessage(m.rawID, errorObject(m.bad.Reason))}
	case m.bad != nil:
		return step{send: connectionError(m.bad.Reason)}
	}
	switch m.typ {
	case "connection_init":
		if l.state != opened {
			return l.shut(closing(CodeTooManyInits, "Too many initialisation requests"))
		}
		l.state = connecting
		return step{do: connect, payload: m.payload}
	case "start":
		return l.start(m)
	case "stop":
		if s := l.subs.remove(m.id); s != nil {
			return step{do: stop, sub: s}
		}
	case "connection_terminate":
		return l.shut(&CloseError{Code: CodeNormal})
	}
	return step{}
}

func (l *legacy) start(m message) step {
	if l.state != acknowledged {
		s := l.shut(closing(CodeUnauthorized, "Unauthorized"))
		s.send = connectionError(s.close.Reason)
		return s
	}
	over := l.subs.remove(m.id)
	if l.subs.full() {
		e := TooManySubscriptions(l.subs.limit)
		return step{send: errorMessage(m.rawID, firstOf(e.GraphQL())), exceeded: e}
	}
	m.op.ID = m.id
	s := newSubscription(m, "data")
	l.subs.add(s)
	return step{over: over, do: start, sub: s, op: m.op}
}

func (l *legacy) connected(refusal *CloseError) step {
	if l.state != connecting {
		return step{}
	}
	if refusal != nil {
		s := l.shut(refusal)
		s.send = connectionError(refusal.Reason)
		return s
	}
	l.state = acknowledged
	return step{send: []byte(`{"type":"connection_ack"}`)}
}

func (l *legacy) initTimeout() step {
	if l.state != opened {
		return step{}
	}
	return l.shut(closing(CodeInitTimeout, "Connection initialisation timeout"))
}

func (l *legacy) complete(s *subscription) []byte {
	l.subs.remove(s.id)
	return completeMessage(s)
}

func (l *legacy) fail(s *subscription, errors []byte) []byte {
	l.subs.remove(s.id)
	return errorMessage(s.raw(), firstOf(errors))
}

func (l *legacy) active() int { return l.subs.active() }

func (l *legacy) each(f func(*subscription)) { l.subs.each(f) }

func (l *legacy) ping() []byte { return nil }

func (l *legacy) keepAlive() []byte {
	if l.state != acknowledged {
		return nil
	}
	return []byte(`{"type":"ka"}`)
}

func (l *legacy) shut(e *CloseError) step {
	l.state = closed
	return step{do: shut, close: e}
}

func connectionError(text string) []byte {
	return withPayload(`{"type":"connection_error"`, errorObject(text))
}

// firstOf is the first of a list of errors.
func firstOf(errors []byte) []byte {
	var list []json.RawMessage
	if json.Unmarshal(errors, &list) != nil || len(list) == 0 {
		return errorObject("Internal server error")
	}
	return list[0]
}

func errorObject(text string) []byte {
	b, err := json.Marshal(map[string]string{"message": text})
	if err != nil {
		return []byte(`{"message":"Internal server error"}`)
	}
	return b
}

package wstest

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/notifyql/notifyql/internal/ws"
)

func TestSubscribeEventsComplete(t *testing.T) {
	f := newFake()
	s := serve(t, newPipe(transportWS), f, ws.Options{})
	s.send(`{"type":"connection_init","payload":{"tenantId":"acme"}}`)
	s.want(ackMessage)
	s.send(subscribe("a", "orders"), subscribe("b", "count 3"), subscribe("c", "fail"), subscribe("d", "query {x}"))
	a := <-f.started
	s.want(next("b", `{"data":{"n":0}}`), next("b", `{"data":{"n":1}}`), next("b", `{"data":{"n":2}}`), complete("b"))
	s.want(`{"id":"c","type":"error","payload":[{"message":"no such field"}]}`)
	s.want(next("d", `{"data":{"ok":true}}`), complete("d"))
	a.add(`{"data":1}`, `{"data":2}`)
	s.want(next("a", `{"data":1}`), next("a", `{"data":2}`))
	s.send(complete("a"), subscribe("a", "orders"))
	<-f.started // b
	<-f.started // c
	<-f.started // d
	again := <-f.started
	again.add(`{"data":3}`)
	s.want(next("a", `{"data":3}`))
	a.wake() // after Close: nothing
	close(s.in)
	if err := <-s.done; err == nil {
		t.Error("a connection that ends without a close frame must be told")
	}
	if got := f.inits[0]; got != `{"tenantId":"acme"}` {
		t.Errorf("payload %s", got)
	}
	f.check(t)
}

func TestCloseCodes(t *testing.T) {
	for _, test := range []struct {
		name, subprotocol string
		refuse            error
		send              []string
		code              int
		reason            string
	}{
		{name: "no subprotocol", subprotocol: "", code: 4406, reason: "Subprotocol not acceptable"},
		{name: "another subprotocol", subprotocol: "mqtt", code: 4406, reason: "Subprotocol not acceptable"},
		{name: "refused", send: []string{initMessage}, refuse: errors.New("no"), code: 4403, reason: "Forbidden"},
		{
			name: "refused with a code", send: []string{initMessage}, refuse: &ws.CloseError{Code: 1013, Reason: "Too many connections"},
			code: 1013, reason: "Too many connections",
		},
		{name: "subscribe before init", send: []string{subscribe("1", "x")}, code: 4401, reason: "Unauthorized"},
		{
			name: "second init", send: []string{initMessage, initMessage},
			code: 4429, reason: "Too many initialisation requests",
		},
		{
			name: "duplicate id", send: []string{initMessage, subscribe("one", "x"), subscribe("one", "y")},
			code: 4409, reason: "Subscriber for one already exists",
		},
		{
			name: "not JSON", send: []string{initMessage, `{"type":`},
			code: 4400, reason: "Invalid message received: not JSON",
		},
		{name: "not UTF-8", send: []string{"{\"type\":\"ping\xff\"}"}, code: 1007, reason: "Text is not UTF-8"},
		{name: "panic", send: []string{initMessage, subscribe("1", "panic")}, code: 4500, reason: "Internal server error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake()
			f.refuse = test.refuse
			p := newPipe(transportWS)
			if strings.Contains(test.name, "subprotocol") {
				p.subprotocol = test.subprotocol
			}
			s := serve(t, p, f, ws.Options{})
			s.send(test.send...)
			err := s.wantClose(test.code, test.reason)
			var e *ws.CloseError
			if !errors.As(err, &e) || e.Code != test.code {
				t.Errorf("ws.Serve gave %v", err)
			}
		})
	}
}

func TestInitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, newPipe(transportWS), newFake(), ws.Options{InitTimeout: 3 * time.Second})
		begin := time.Now()
		s.wantClose(4408, "Connection initialisation timeout")
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

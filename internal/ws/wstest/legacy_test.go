package wstest

import (
	"testing"
	"testing/synctest"
)

// An id that is used again: the old operation is stopped, and only results of the new one are sent.
func TestLegacyRestartsAnID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := serve(t, newPipe(legacyWS), f, keepAlive)
		s.send(initMessage, `{"id":"1","type":"start","payload":{"query":"a"}}`)
		s.want(ackMessage)
		a := <-f.started
		s.send(`{"id":"1","type":"start","payload":{"query":"b"}}`)
		b := <-f.started
		if !a.closed {
			t.Error("the first one goes on")
		}
		b.add(next1(1))
		s.want(`{"id":"1","type":"data","payload":{"data":1}}`)
		for range 5 { // nobody answers these, and so nobody is closed for it
			s.want(`{"type":"ka"}`)
		}
		s.send(`{"type":"connection_terminate"}`)
		s.wantClose(1000, "")
	})
}

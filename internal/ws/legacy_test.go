package ws

import (
	"strings"
	"testing"
)

// Every message in every state, as the table of the newer protocol.
func TestLegacyTable(t *testing.T) {
	const (
		twice = "close 4429 Too many initialisation requests"
		early = `send {"type":"connection_error","payload":{"message":"Unauthorized"}}, close 4401 Unauthorized`
	)
	bad := func(problem string) []string {
		return []string{`send {"type":"connection_error","payload":{"message":"Invalid message received: ` + problem + `"}}`}
	}
	badB := func(problem string) []string {
		return []string{`send {"id":"b","type":"error","payload":{"message":"Invalid message received: ` + problem + `"}}`}
	}
	for _, test := range []struct {
		text string
		want []string
	}{
		{`{"type":"connection_init"}`, []string{"connect", twice, twice}},
		{`{"type":"connection_init","payload":{"a":1},"id":null}`, []string{`connect {"a":1}`, twice, twice}},
		{`{"type":"connection_init","payload":[]}`, bad("'payload' must be an object, got array")},
		{`{"id":"b","type":"start","payload":{"query":"y"}}`, []string{early, early, "start b y"}},
		{`{"id":7,"type":"start","payload":{"query":"y","variables":null}}`, []string{early, early, "start 7 y"}},
		{`{"id":"a","type":"start","payload":{"query":"y"}}`, []string{early, early, "stop a, start a y"}},
		{`{"id":"b","type":"start","payload":{}}`, badB("'query' must be a string, got nothing")},
		{`{"id":"b","type":"start"}`, badB("'payload' must be an object, got nothing")},
		{`{"type":"start","payload":{"query":"y"}}`, bad("'id' must be a string, got nothing")},
		{`{"id":true,"type":"start","payload":{"query":"y"}}`, bad("'id' must be a string, got boolean")},
		{`{"id":"a","type":"stop"}`, []string{"", "", "stop a"}},
		{`{"id":"a","type":"stop","payload":null}`, []string{"", "", "stop a"}},
		{`{"id":"never","type":"stop"}`, []string{""}},
		{`{"type":"stop"}`, []string{""}},
		{`{"type":"connection_terminate","payload":null}`, []string{"close 1000"}},
		{`{"id":"b","type":"subscribe"}`, badB(`unknown type \"subscribe\"`)},
		{`{"type":"ping"}`, bad(`unknown type \"ping\"`)},
		{`{"id":"b"}`, badB(`'type' must be a string, got nothing`)},
		{`nonsense`, bad("not JSON")},
		{"\"\xff\"", []string{"close 1007 Text is not UTF-8"}},
	} {
		for _, state := range states {
			m := in(t, legacyWS, state)
			want := ""
			if state != closed {
				want = test.want[min(int(state), len(test.want)-1)]
			}
			if got := said(m.receive(m.parse([]byte(test.text)))); got != want {
				t.Errorf("%s in state %d: %s, want %s", test.text, state, got, want)
			}
		}
	}
	m := in(t, legacyWS, connecting)
	want := `send {"type":"connection_error","payload":{"message":"Forbidden"}}, close 4403 Forbidden`
	if got := said(m.connected(closing(CodeForbidden, "Forbidden"))); got != want {
		t.Error(got)
	}
	if got := said(in(t, legacyWS, opened).initTimeout()); got != "close 4408 Connection initialisation timeout" {
		t.Error(got)
	}
}

func TestLegacyEnds(t *testing.T) {
	m := in(t, legacyWS, acknowledged)
	s := m.receive(m.parse([]byte(`{"id":7,"type":"start","payload":{"query":"y"}}`)))
	if want := `{"id":7,"type":"data","payload":`; s.sub.prefix != want {
		t.Errorf("%s, want %s", s.sub.prefix, want)
	}
	full := m.receive(m.parse([]byte(`{"id":8,"type":"start","payload":{"query":"y"}}`)))
	if got := said(full); !strings.HasPrefix(got, `send {"id":8,"type":"error","payload":{"message":`) {
		t.Errorf("the third of two: %s", got)
	}
	if got := string(m.fail(s.sub, []byte(`[{"message":"a"},{"message":"b"}]`))); got != `{"id":7,"type":"error","payload":{"message":"a"}}` {
		t.Error(got)
	}
	s = m.receive(m.parse([]byte(`{"id":7,"type":"start","payload":{"query":"y"}}`)))
	if got := string(m.complete(s.sub)); got != `{"id":7,"type":"complete"}` {
		t.Error(got)
	}
}

func FuzzLegacy(f *testing.F) {
	for _, seed := range []string{
		initMessage + "\n" + `{"id":1,"type":"start","payload":{"query":"x"}}` + "\n" + `{"id":1,"type":"stop"}`,
		initMessage + "\n" + `{"id":"1","type":"start","payload":{"query":"x"}}` + "\n" + `{"id":"1","type":"start","payload":{"query":"x"}}`,
		`{"id":{},"type":"start"}` + "\nx\n" + `{"type":"connection_terminate"}`,
	} {
		f.Add([]byte(seed), []byte{0, 1, 2, 3, 4, 5})
	}
	f.Fuzz(func(t *testing.T, lines, events []byte) { drive(t, legacyWS, lines, events) })
}

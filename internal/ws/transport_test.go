package ws

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// said prints a step in a line.
func said(s step) string {
	var parts []string
	if s.send != nil {
		parts = append(parts, "send "+string(s.send))
	}
	switch s.do {
	case connect:
		parts = append(parts, "connect "+string(s.payload))
	case refresh:
		parts = append(parts, "refresh "+string(s.payload))
	case start:
		if s.over != nil {
			parts = append(parts, "stop "+s.over.id)
		}
		parts = append(parts, "start "+s.sub.id+" "+s.op.Query)
	case stop:
		parts = append(parts, "stop "+s.sub.id)
	case shut:
		parts = append(parts, fmt.Sprintf("close %d %s", s.close.Code, s.close.Reason))
	}
	return strings.TrimSpace(strings.Join(parts, ", "))
}

// in returns a machine in a state; in acknowledged it has the subscription "a".
func in(t testing.TB, subprotocol string, to state) machine {
	t.Helper()
	m := newMachine(subprotocol, 2)
	do := func(s step) {
		if s.do == shut {
			t.Fatalf("on the way: %s", said(s))
		}
	}
	if to >= connecting {
		do(m.receive(m.parse([]byte(initMessage))))
	}
	if to >= acknowledged {
		do(m.connected(nil))
		subscribe := `{"id":"a","type":"subscribe","payload":{"query":"x"}}`
		if subprotocol != transportWS {
			subscribe = strings.Replace(subscribe, "subscribe", "start", 1)
		}
		do(m.receive(m.parse([]byte(subscribe))))
	}
	if to == closed {
		m.receive(message{bad: closing(CodeInvalidText, "done")})
	}
	return m
}

var states = []state{opened, connecting, acknowledged, closed}

// Every message in every state: opened, connecting, acknowledged with the subscription "a", closed. One answer stands
// for all but closed, where there never is one.
func TestTransportTable(t *testing.T) {
	const (
		twice = "close 4429 Too many initialisation requests"
		early = "close 4401 Unauthorized"
	)
	for _, test := range []struct {
		text string
		want []string
	}{
		{`{"type":"connection_init"}`, []string{"connect", twice, twice}},
		{`{"type":"connection_init","payload":null}`, []string{"connect", twice, twice}},
		{`{"type":"connection_init","payload":{"a":1}}`, []string{`connect {"a":1}`, twice, twice}},
		{`{"type":"ping"}`, []string{`send {"type":"pong"}`}},
		{`{"type":"ping","payload":null}`, []string{`send {"type":"pong"}`}},
		{`{"type":"ping","payload":{"at":1}}`, []string{`send {"type":"pong","payload":{"at":1}}`, `send {"type":"pong","payload":{"at":1}}`, `refresh {"at":1}`}},
		{`{"type":"pong"}`, []string{""}},
		{`{"type":"pong","payload":{}}`, []string{""}},
		{`{"id":"b","type":"subscribe","payload":{"query":"y"}}`, []string{early, early, "start b y"}},
		{`{"type":"subscribe","id":"b","payload":{"query":"y"},"more":1}`, []string{early, early, "start b y"}},
		{`{"id":"a","type":"subscribe","payload":{"query":"y"}}`, []string{early, early, "close 4409 Subscriber for a already exists"}},
		{`{"id":"a","type":"complete"}`, []string{"", "", "stop a"}},
		{`{"id":"never","type":"complete"}`, []string{""}},
		// Duplicate keys: the last counts. Names are case-sensitive.
		{`{"type":"subscribe","type":"ping"}`, []string{`send {"type":"pong"}`}},
		{`{"id":"b","id":"a","type":"complete"}`, []string{"", "", "stop a"}},
		{`{"Type":"ping","type":"pong"}`, []string{""}},
		{"  {\n\t\"type\" : \"ping\" }  ", []string{`send {"type":"pong"}`}},
		{`{"type":"ping","payload":{"n":1e400,"m":123456789012345678901234567890}}`, []string{
			`send {"type":"pong","payload":{"n":1e400,"m":123456789012345678901234567890}}`,
			`send {"type":"pong","payload":{"n":1e400,"m":123456789012345678901234567890}}`,
			`refresh {"n":1e400,"m":123456789012345678901234567890}`,
		}},
		{`{"type":"\u0070ing"}`, []string{`send {"type":"pong"}`}},
	} {
		for _, state := range states {
			m := in(t, transportWS, state)
			want := ""
			if state != closed {
				want = test.want[min(int(state), len(test.want)-1)]
			}
			if got := said(m.receive(m.parse([]byte(test.text)))); got != want {
				t.Errorf("%s in state %d: %s, want %s", test.text, state, got, want)
			}
		}
	}
}

// What is no message of the protocol's closes the connection with 4400 and says why, in every state.
func TestTransportMalformed(t *testing.T) {
	const subscribe = `{"id":"b","type":"subscribe","payload":`
	for text, want := range map[string]string{
		``:                                "not JSON",
		`{`:                               "not JSON",
		`{"type":"ping"} {}`:              "not JSON",
		`{"type":"ping","x":.5}`:          "not JSON",
		`{'type':'ping'}`:                 "not JSON",
		"\x00":                            "not JSON",
		"\ufeff{}":                        "not JSON",
		`null`:                            "expected an object, got null",
		`[]`:                              "expected an object, got array",
		`"ping"`:                          "expected an object, got string",
		`-1`:                              "expected an object, got number",
		`true`:                            "expected an object, got boolean",
		`{}`:                              "'type' must be a string, got nothing",
		`{"type":null}`:                   "'type' must be a string, got null",
		`{"type":5}`:                      "'type' must be a string, got number",
		`{"type":["ping"]}`:               "'type' must be a string, got array",
		`{"TYPE":"ping"}`:                 "'type' must be a string, got nothing",
		`{"type":""}`:                     `unknown type ""`,
		`{"type":"PING"}`:                 `unknown type "PING"`,
		`{"type":"start","id":"1"}`:       `unknown type "start"`,
		`{"type":"connection_ack"}`:       "'connection_ack' is for the server to send",
		`{"type":"next","id":"a"}`:        "'next' is for the server to send",
		`{"type":"error","id":"a"}`:       "'error' is for the server to send",
		`{"type":"ping","payload":1}`:     "'payload' must be an object, got number",
		`{"type":"pong","payload":[]}`:    "'payload' must be an object, got array",
		`{"type":"ping","payload":""}`:    "'payload' must be an object, got string",
		`{"type":"ping","payload":false}`: "'payload' must be an object, got boolean",
		`{"type":"connection_init","payload":"x"}`:                     "'payload' must be an object, got string",
		`{"type":"complete"}`:                                          "'id' must be a string, got nothing",
		`{"type":"complete","id":7}`:                                   "'id' must be a string, got number",
		`{"type":"complete","id":""}`:                                  "'id' must not be empty",
		`{"type":"subscribe","payload":{"query":"x"}}`:                 "'id' must be a string, got nothing",
		`{"type":"subscribe","id":null,"payload":{"query":"x"}}`:       "'id' must be a string, got null",
		`{"type":"subscribe","id":{},"payload":{"query":"x"}}`:         "'id' must be a string, got object",
		`{"type":"subscribe","id":"b"}`:                                "'payload' must be an object, got nothing",
		subscribe + `null}`:                                            "'payload' must be an object, got null",
		subscribe + `"x"}`:                                             "'payload' must be an object, got string",
		subscribe + `{}}`:                                              "'query' must be a string, got nothing",
		subscribe + `{"query":null}}`:                                  "'query' must be a string, got null",
		subscribe + `{"query":{}}}`:                                    "'query' must be a string, got object",
		subscribe + `{"Query":"x"}}`:                                   "'query' must be a string, got nothing",
		subscribe + `{"query":"x","variables":[]}}`:                    "'variables' must be an object, got array",
		subscribe + `{"query":"x","variables":"{}"}}`:                  "'variables' must be an object, got string",
		subscribe + `{"query":"x","operationName":1}}`:                 "'operationName' must be a string, got number",
		subscribe + `{"query":"x","extensions":[]}}`:                   "'extensions' must be an object, got array",
		`{"type":"complete","id":"` + strings.Repeat("x", 1023) + `"}`: "'id' is longer than 1024 bytes",
	} {
		for _, state := range states {
			m := in(t, transportWS, state)
			want := "close 4400 Invalid message received: " + want
			if state == closed {
				want = ""
			}
			if got := said(m.receive(m.parse([]byte(text)))); got != want {
				t.Errorf("%s in state %d: %s, want %s", text, state, got, want)
			}
		}
	}
	m := in(t, transportWS, opened)
	if got := said(m.receive(m.parse([]byte("{\"type\":\"\xff\"}")))); got != "close 1007 Text is not UTF-8" {
		t.Error(got)
	}
}

func TestTransportOperation(t *testing.T) {
	m := in(t, transportWS, acknowledged)
	s := m.receive(m.parse([]byte(`{"id":"b","type":"subscribe","payload":{"query":"q","operationName":null,"variables":{"a":1.0},"extensions":null}}`)))
	if s.do != start || string(s.op.Variables) != `{"a":1.0}` || s.op.Extensions != nil || s.op.OperationName != "" {
		t.Errorf("%+v", s.op)
	}
	s = m.receive(m.parse([]byte(`{"id":"c","type":"subscribe","payload":{"query":"q","operationName":"n","variables":null,"extensions":{"x":[]}}}`)))
	if got := said(s); !strings.Contains(got, `"code":"LIMIT_EXCEEDED","limit":"subscriptionsPerConnection","max":2`) || !strings.HasPrefix(got, `send {"id":"c","type":"error"`) {
		t.Errorf("the third of two: %s", got)
	}
	m.receive(m.parse([]byte(complete("b"))))
	s = m.receive(m.parse([]byte(`{"id":"c","type":"subscribe","payload":{"query":"q","operationName":"n","variables":null,"extensions":{"x":[]}}}`)))
	if s.do != start || s.op.OperationName != "n" || string(s.op.Extensions) != `{"x":[]}` || s.op.Variables != nil {
		t.Errorf("%s %+v", said(s), s.op)
	}
}

// An id comes back as it was written, is free after its end, from whichever side, and differs from others that look alike.
func TestTransportIDs(t *testing.T) {
	for _, raw := range []string{
		`"1"`, `"\u0061b"`, `"\ud800"`, `"\ud801"`, `"😀"`, `"\ud83d\ude00 "`, `"\u0000"`, `" "`, `"__proto__"`, `"\"}"`, `"</script>"`,
		`"` + strings.Repeat("é", 511) + `"`,
	} {
		m := in(t, transportWS, acknowledged)
		text := []byte(`{"type":"subscribe","payload":{"query":"q"},"id": ` + raw + ` }`)
		s := m.receive(m.parse(text))
		if s.do != start {
			t.Errorf("%s: %s", raw, said(s))
			continue
		}
		if want := `{"id":` + raw + `,"type":"next","payload":`; s.sub.prefix != want {
			t.Errorf("prefix %s, want %s", s.sub.prefix, want)
		}
		if got, want := string(m.complete(s.sub)), `{"id":`+raw+`,"type":"complete"}`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		s = m.receive(m.parse(text))
		if s.do != start {
			t.Errorf("%s again after its end: %s", raw, said(s))
			continue
		}
		if got, want := string(m.fail(s.sub, []byte(`[1]`))), `{"id":`+raw+`,"type":"error","payload":[1]}`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		m.receive(m.parse(text))
		s = m.receive(m.parse(text))
		if s.do != shut || s.close.Code != CodeDuplicate || !utf8.ValidString(s.close.Reason) || len(s.close.Reason) > maxReason {
			t.Errorf("%s twice: %s", raw, said(s))
		}
	}
	m := in(t, transportWS, opened)
	m.receive(m.parse([]byte(initMessage)))
	m.connected(nil)
	for _, raw := range []string{`"\ud800"`, `"\ud801"`} {
		if s := m.receive(m.parse([]byte(`{"type":"subscribe","payload":{"query":"q"},"id":` + raw + `}`))); s.do != start {
			t.Errorf("%s is taken for another: %s", raw, said(s))
		}
	}
}

func TestTransportConnectedAndTimeout(t *testing.T) {
	m := in(t, transportWS, opened)
	if got := said(m.connected(nil)); got != "" {
		t.Errorf("connected without a request: %s", got)
	}
	if got := said(m.initTimeout()); got != "close 4408 Connection initialisation timeout" {
		t.Error(got)
	}
	for _, state := range []state{connecting, acknowledged, closed} {
		if got := said(in(t, transportWS, state).initTimeout()); got != "" {
			t.Errorf("timeout in state %d: %s", state, got)
		}
	}
	m = in(t, transportWS, connecting)
	if got := said(m.connected(closing(CodeForbidden, "Forbidden"))); got != "close 4403 Forbidden" {
		t.Error(got)
	}
	if got := said(m.receive(m.parse([]byte(initMessage)))); got != "" {
		t.Errorf("after closing: %s", got)
	}
}

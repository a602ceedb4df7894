package sse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/ws"
)

const events = "text/event-stream"

// do makes a request; header holds names and values.
func (s *server) do(method, path, body string, header ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { answer.Body.Close() })
	return answer
}

func text(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// reader reads events.
type reader struct {
	t testing.TB
	r *bufio.Reader
}

func read(t testing.TB, r *http.Response) *reader {
	t.Helper()
	if ct := r.Header.Get("Content-Type"); r.StatusCode != 200 || !strings.HasPrefix(ct, events) {
		t.Fatalf("%s %s: %s", r.Status, ct, text(t, r))
	}
	return &reader{t, bufio.NewReader(r.Body)}
}

// want waits for events, each as it is on the wire but for the empty line at its end; heartbeats are skipped.
func (r *reader) want(events ...string) {
	r.t.Helper()
	for _, want := range events {
		var got string
		for got == "" {
			for {
				line, err := r.r.ReadString('\n')
				if err != nil {
					r.t.Fatalf("%v, want %q", err, want)
				}
				if line == "\n" {
					break
				}
				if line[0] != ':' {
					got += line
				}
			}
		}
		if got != want+"\n" {
			r.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// wantEnd waits for the end of the stream, with nothing before it but heartbeats.
func (r *reader) wantEnd() {
	r.t.Helper()
	b, err := io.ReadAll(r.r)
	if rest := strings.ReplaceAll(string(b), heartbeat, ""); err != nil || rest != "" {
		r.t.Fatalf("got %q and %v, want the end", rest, err)
	}
}

func TestDistinctConnections(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, Options{})
	r := read(t, s.do("POST", "/", `{"query":"orders","variables":{"a":1},"extensions":{"connectionParams":{"tenantId":"acme"}}}`, "Accept", events))
	st := <-f.started
	if f.inits[0] != `{"tenantId":"acme"}` || string(st.op.Variables) != `{"a":1}` {
		t.Errorf("params %s, operation %+v", f.inits[0], st.op)
	}
	st.add(`{"data":1}`, "{\"data\":\r\n{\"a\":\n2}}")
	r.want("event: next\ndata: {\"data\":1}", "event: next\ndata: {\"data\":  {\"a\": 2}}")
	st.end(io.EOF)
	r.want("event: complete\ndata:")
	r.wantEnd()

	// As a browser's EventSource does it.
	query := url.Values{"query": {"query { x }"}, "variables": {`{"b":2}`}, "operationName": {"o"}}
	r = read(t, s.do("GET", "/?"+query.Encode(), "", "Accept", events))
	st = <-f.started
	if string(st.op.Variables) != `{"b":2}` || st.op.OperationName != "o" {
		t.Errorf("operation %+v", st.op)
	}
	r.want("event: next\ndata: {\"data\":{\"ok\":true}}", "event: complete\ndata:")
	r.wantEnd()

	r = read(t, s.do("POST", "/", `{"query":"fail"}`, "Accept", "application/json;q=0.1, text/event-stream"))
	// An empty id: who comes back does so without Last-Event-ID.
	r.want("id:\nevent: next\ndata: {\"errors\":[{\"message\":\"no such field\"}]}", "event: complete\ndata:")
	r.wantEnd()
	r = read(t, s.do("POST", "/", `{"query":"broken"}`, "Accept", events))
	r.want("event: next\ndata: {\"errors\":"+string(internalError)+"}", "event: complete\ndata:")
	r.wantEnd()
}

func TestSingleConnection(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, Options{MaxOperations: 3})
	answer := s.do("PUT", "/", "")
	token := text(t, answer)
	if answer.StatusCode != http.StatusCreated || len(token) < 26 {
		t.Fatalf("%s %q", answer.Status, token)
	}
	post := func(query, id string) *http.Response {
		return s.do("POST", "/", fmt.Sprintf(`{"query":%q,"extensions":{"operationId":%s}}`, query, id), tokenHeader, token)
	}
	status := func(r *http.Response, want int) {
		t.Helper()
		if r.StatusCode != want {
			t.Errorf("%s %s, want %d", r.Status, text(t, r), want)
		}
	}

	status(post("query { early }", `"early"`), 202) // before the event stream is there
	<-f.started
	r := read(t, s.do("GET", "/?token="+token, "", "Accept", events))
	r.want(`event: next`+"\n"+`data: {"id":"early","payload":{"data":{"ok":true}}}`, `event: complete`+"\n"+`data: {"id":"early"}`)

	status(post("a", `"a"`), 202)
	a := <-f.started
	status(post("b", `7`), 202)
	b := <-f.started
	a.add(`{"data":1}`)
	r.want("event: next\ndata: {\"id\":\"a\",\"payload\":{\"data\":1}}")
	b.add(`{"data":2}`)
	r.want("event: next\ndata: {\"id\":\"7\",\"payload\":{\"data\":2}}")
	status(post("again", `"a"`), 409)
	status(post("fail", `"f"`), 400)
	<-f.started
	status(post("c", `"c"`), 202)
	<-f.started
	status(post("d", `"d"`), 429)
	status(post("d", `""`), 400)
	status(s.do("POST", "/", `{"query":"d"}`, tokenHeader, token), 400)
	status(s.do("POST", "/", `{"query":5}`, tokenHeader, token), 400)
	status(s.do("PUT", "/", "", tokenHeader, token), 409)
	status(s.do("GET", "/?token="+token, "", "Accept", events), 409)
	status(s.do("GET", "/?token=x", "", "Accept", events), 404)
	status(s.do("POST", "/", `{"query":"d"}`, tokenHeader, "x"), 404)
	status(s.do("DELETE", "/?operationId=a", ""), 404)
	status(s.do("DELETE", "/", "", tokenHeader, token), 400)
	status(s.do("DELETE", "/?operationId=never", "", tokenHeader, token), 200)

	status(s.do("DELETE", "/?operationId=a", "", tokenHeader, token), 200)
	a.mu.Lock()
	if !a.closed {
		t.Error("the operation that was stopped goes on")
	}
	a.mu.Unlock()
	b.add(`{"data":3}`)
	b.end(io.EOF)
	r.want("event: next\ndata: {\"id\":\"7\",\"payload\":{\"data\":3}}", "event: complete\ndata: {\"id\":\"7\"}")
	status(post("a", `"a"`), 202) // the id is free again
	a = <-f.started
	a.add(`{"data":4}`)
	r.want("event: next\ndata: {\"id\":\"a\",\"payload\":{\"data\":4}}")
	s.down()
	r.wantEnd()
	if a.ctx.Err() == nil {
		t.Error("the service was not told")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newServer(t, f, Options{MaxBytes: 1000})
	for _, test := range []struct {
		method, path, body string
		header             []string
		status             int
	}{
		{"GET", "/?query=x", "", nil, 406},
		{"POST", "/", `{"query":"x"}`, []string{"Accept", "application/json"}, 406},
		{"PATCH", "/", "", nil, 405},
		{"GET", "/", "", []string{"Accept", events}, 400},
		{"GET", "/?query=x&variables=1", "", []string{"Accept", events}, 400},
		{"GET", "/?query=x&variables={", "", []string{"Accept", events}, 400},
		{"GET", "/?query=%ff", "", []string{"Accept", events}, 200},
		{"POST", "/", `{"query":"x"}`, []string{"Accept", events, "Content-Type", "text/plain"}, 415},
		{"POST", "/", `{"query":"` + strings.Repeat("x", 1000) + `"}`, []string{"Accept", events}, 413},
		{"POST", "/", `[]`, []string{"Accept", events}, 400},
		{"POST", "/", `{"query":null}`, []string{"Accept", events}, 400},
		{"POST", "/", "{\"query\":\"\xff\"}", []string{"Accept", events}, 400},
	} {
		if r := s.do(test.method, test.path, test.body, test.header...); r.StatusCode != test.status {
			t.Errorf("%s %s %.30s: %s, want %d", test.method, test.path, test.body, r.Status, test.status)
		}
	}
	for err, status := range map[error]int{
		errors.New("no"): 403, &ws.CloseError{Code: 4403, Reason: "Forbidden"}: 403, &ws.CloseError{Code: 4401}: 401, &ws.CloseError{Code: 1013}: 503,
	} {
		f.mu.Lock()
		f.refuse = err
		f.mu.Unlock()
		for _, method := range []string{"PUT", "GET"} {
			if r := s.do(method, "/?query=x", "", "Accept", events); r.StatusCode != status {
				t.Errorf("%v: %s to %s, want %d", err, r.Status, method, status)
			}
		}
	}
}

// No room, and going down: what comes is told to come again, what is there ends without a complete.
func TestNoRoomAndGoingDown(t *testing.T) {
	t.Parallel()
	f := newFake()
	room := make(chan struct{}, 2)
	s := newServer(t, f, Options{Enter: func(*http.Request) (func(), error) {
		select {
		case room <- struct{}{}:
			return func() { <-room }, nil
		default:
			return nil, &limit.Exceeded{Limit: "connections", Max: 2, After: time.Second, Text: "full", Busy: true}
		}
	}})
	r := read(t, s.do("GET", "/?query=orders", "", "Accept", events))
	st := <-f.started
	s.do("PUT", "/", "")
	for _, method := range []string{"GET", "PUT"} {
		full := s.do(method, "/?query=orders", "", "Accept", events)
		if full.StatusCode != 503 || full.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %v", method, full.Status, full.Header)
		}
	}
	st.add(`{"data":1}`)
	r.want("event: next\ndata: {\"data\":1}")
	s.down()
	st.end(io.EOF)
	r.wantEnd()
	if late := s.do("PUT", "/", ""); late.StatusCode != 503 {
		t.Errorf("while going down: %s", late.Status)
	}
	s.up()
	s.do("PUT", "/", "")
	s.do("PUT", "/", "") // both places are free again
	if full := s.do("PUT", "/", ""); full.StatusCode != 503 {
		t.Error(full.Status)
	}
}

// A reservation that nobody takes up ends, with what was begun on it.
func TestReservationExpires(t *testing.T) {
	t.Parallel()
	f := newFake()
	left := make(chan struct{})
	s := newServer(t, f, Options{
		ReservationTimeout: 100 * time.Millisecond,
		Enter:              func(*http.Request) (func(), error) { return func() { close(left) }, nil },
	})
	token := text(t, s.do("PUT", "/", ""))
	if r := s.do("POST", "/", `{"query":"a","extensions":{"operationId":"a"}}`, tokenHeader, token); r.StatusCode != 202 {
		t.Fatal(r.Status)
	}
	<-left
	if sessions, streams := f.open(); sessions != 0 || streams != 0 {
		t.Errorf("%d sessions and %d streams are left", sessions, streams)
	}
	if r := s.do("GET", "/", "", "Accept", events, tokenHeader, token); r.StatusCode != 404 {
		t.Error(r.Status)
	}
}

// A client that goes away takes all its operations with it. One that does not read is not pulled for.
func TestClientLeavesOrDoesNotRead(t *testing.T) {
	t.Parallel()
	f := newFake()
	left := make(chan struct{})
	s := newServer(t, f, Options{
		WriteTimeout: 300 * time.Millisecond,
		Enter:        func(*http.Request) (func(), error) { return func() { left <- struct{}{} }, nil },
	})
	answer := s.do("GET", "/?query=orders", "", "Accept", events)
	<-f.started
	answer.Body.Close()
	<-left

	s.do("GET", "/?query=orders", "", "Accept", events)
	st := <-f.started
	result := `{"data":"` + strings.Repeat("x", 1000) + `"}`
	const many = 50_000 // 50 MB
	for range many {
		st.add(result)
	}
	<-left // the write timed out
	if pulled := many - len(st.results); pulled > many/2 {
		t.Errorf("%d MB were pulled for a client that does not read", pulled/1000)
	}
}

// Once the server goes down, no operation ends on the wire, whatever the service makes of it.
func TestGoingDownIsNoCompletion(t *testing.T) {
	f := newFake()
	ctx, stop := context.WithCancel(t.Context())
	h := New(Options{Context: ctx})
	c, err := connect(ctx, f, nil, false, &h.o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, _, err := c.start("", ws.Operation{Query: "orders"}); err != nil {
		t.Fatal(err)
	}
	stop()
	(<-f.started).end(io.EOF)
	goesOn := h.writeReady(c, func(b []byte) bool {
		t.Errorf("wrote %q", b)
		return true
	})
	if goesOn {
		t.Error("the event stream goes on")
	}
}

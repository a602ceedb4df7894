package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// spans hands on each span as it ends.
type spans chan tracetest.SpanStub

func (s spans) OnStart(context.Context, sdk.ReadWriteSpan) {}
func (s spans) OnEnd(span sdk.ReadOnlySpan)                { s <- tracetest.SpanStubFromReadOnlySpan(span) }
func (s spans) Shutdown(context.Context) error             { return nil }
func (s spans) ForceFlush(context.Context) error           { return nil }

// await takes spans until all of these names have ended, and gives the last of each.
func (s spans) await(t *testing.T, names ...string) map[string]tracetest.SpanStub {
	t.Helper()
	found := map[string]tracetest.SpanStub{}
	for {
		missing := ""
		for _, name := range names {
			if _, ok := found[name]; !ok {
				missing = name
			}
		}
		if missing == "" {
			return found
		}
		select {
		case span := <-s:
			found[span.Name] = span
		case <-time.After(time.Minute):
			t.Fatalf("no span %s; there are %v", missing, found)
		}
	}
}

// tracedServer runs a server on a database of its own whose spans can be awaited.
func tracedServer(t *testing.T, o ...sdk.TracerProviderOption) (*notifyql.Server, *pgtest.DB, spans) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id bigint primary key, tenant_id text, note text); select notifyql.watch('orders')`)
	ended := make(spans, 1000)
	provider := sdk.NewTracerProvider(append(o, sdk.WithSpanProcessor(ended))...)
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: db.URL, Auth: notifyql.Trust(), TracerProvider: provider, Mode: notifyql.ModeQuiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-srv.Ready()
	return srv, db, ended
}

// A transaction's trace goes from its write to the socket, and none of it has what is the tenant's.
func TestATraceFromTheWriteToTheSocket(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"socket", "events", "stream"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			srv, db, ended := tracedServer(t)
			face := httptest.NewServer(srv.Handler())
			t.Cleanup(face.Close)
			query := `subscription Secretless { ordersChanged { new { note } } }`
			next := map[string]func(*testing.T, string, string, *notifyql.Server) func() string{
				"socket": overSocket, "events": overEvents, "stream": inProcess,
			}[protocol](t, face.URL, query, srv)
			began := ended.await(t, "notifyql.subscribe", "notifyql.validate", "notifyql.authorize", "notifyql.join")
			root := began["notifyql.subscribe"]
			for name, span := range began {
				if span.SpanContext.TraceID() != root.SpanContext.TraceID() || span.Status.Code == codes.Error {
					t.Errorf("%s is of another trace, or failed: %+v", name, span)
				}
			}
			db.Exec(t, `insert into orders values (1, 'acme', 'confidential')`)
			for !strings.Contains(next(), "confidential") {
			}
			passed := ended.await(t, "notifyql.transaction", "notifyql.capture", "notifyql.dispatch", "notifyql.deliver")
			txn := passed["notifyql.transaction"]
			if txn.Parent.IsValid() || txn.StartTime.Before(root.StartTime) {
				t.Errorf("the transaction's span is %+v", txn)
			}
			for name, span := range passed {
				if name != txn.Name && span.Parent.SpanID() != txn.SpanContext.SpanID() {
					t.Errorf("%s is not of the transaction's span", name)
				}
				if said := fmt.Sprint(span.Attributes, span.Events, span.Status); strings.Contains(said, "acme") || strings.Contains(said, "confidential") {
					t.Errorf("%s tells: %s", name, said)
				}
			}
			capture, dispatch, deliver := passed["notifyql.capture"], passed["notifyql.dispatch"], passed["notifyql.deliver"]
			if !capture.StartTime.Equal(txn.StartTime) || !dispatch.StartTime.Equal(capture.EndTime) || deliver.EndTime.Before(dispatch.StartTime) {
				t.Errorf("the write was at %v, it came at %v, was dispatched from %v and written at %v", txn.StartTime, capture.EndTime, dispatch.StartTime, deliver.EndTime)
			}
		})
	}
}

func inProcess(t *testing.T, _, query string, srv *notifyql.Server) func() string {
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: query, Identity: notifyql.Identity{Tenants: []string{"acme"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return func() string {
		b, err := stream.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func overSocket(t *testing.T, url, query string, _ *notifyql.Server) func() string {
	conn, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	for _, m := range []string{`{"type":"connection_init","payload":{"tenantId":"acme"}}`, `{"type":"subscribe","id":"1","payload":{"query":"` + query + `"}}`} {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	return func() string {
		_, b, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func overEvents(t *testing.T, url, query string, _ *notifyql.Server) func() string {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"query":"`+query+`","extensions":{"connectionParams":{"tenantId":"acme"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	buf := make([]byte, 64<<10)
	return func() string {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

// What is read for those who begin with rows, or come back, has spans; so has what is refused.
func TestTracesOfWhatIsRead(t *testing.T) {
	t.Parallel()
	srv, db, ended := tracedServer(t)
	db.Exec(t, `insert into orders values (1, 'acme', 'a')`)
	next := inProcess(t, "", `subscription { ordersChanged(initial: true) { kind cursor } }`, srv)
	next()
	_, cursor, _ := strings.Cut(next(), `"cursor":"`)
	cursor, _, _ = strings.Cut(cursor, `"`)
	db.Exec(t, `insert into orders values (2, 'acme', 'b')`)
	next() // it is live
	began := ended.await(t, "notifyql.read.rows", "notifyql.subscribe")
	if said := fmt.Sprint(began["notifyql.read.rows"].Attributes); !strings.Contains(said, "notifyql.rows") {
		t.Error(said)
	}
	inProcess(t, "", `subscription { ordersChanged(after: "`+cursor+`") { kind } }`, srv)()
	ended.await(t, "notifyql.read.log")
	if _, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { nothing }`}); err == nil {
		t.Fatal("it was not refused")
	}
	for {
		span := ended.await(t, "notifyql.subscribe")["notifyql.subscribe"]
		if span.Status.Code == codes.Error {
			return
		}
	}
}

// A program's own span is the parent of a subscription that it makes.
func TestASubscriptionIsOfItsCallersTrace(t *testing.T) {
	t.Parallel()
	srv, _, ended := tracedServer(t)
	caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled})
	stream, err := srv.Subscribe(trace.ContextWithSpanContext(t.Context(), caller), notifyql.Request{Query: `subscription { ordersChanged { kind } }`})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if span := ended.await(t, "notifyql.subscribe")["notifyql.subscribe"]; span.Parent.SpanID() != caller.SpanID() || span.SpanContext.TraceID() != caller.TraceID() {
		t.Errorf("it is of trace %s, below %s", span.SpanContext.TraceID(), span.Parent.SpanID())
	}
}

// However much is written, few transactions are traced, and few of a transaction's deliveries.
func TestTracesAreBounded(t *testing.T) {
	t.Parallel()
	srv, db, ended := tracedServer(t)
	const subscribers = 40
	var nexts []func() string
	for range subscribers {
		nexts = append(nexts, inProcess(t, "", `subscription { ordersChanged { new { id } } }`, srv))
	}
	began := time.Now()
	for id := range 50 {
		db.Exec(t, `insert into orders values ($1, 'acme', '')`, id)
	}
	for _, next := range nexts {
		for range 50 {
			next()
		}
	}
	most := int(time.Since(began)/(100*time.Millisecond)) + 1 // ten a second
	transactions, deliveries := 0, map[string]int{}
	for len(ended) > 0 {
		switch span := <-ended; span.Name {
		case "notifyql.transaction":
			transactions++
		case "notifyql.deliver":
			deliveries[span.SpanContext.TraceID().String()]++
		}
	}
	if transactions == 0 || transactions > most {
		t.Errorf("%d of 50 transactions were traced, of %d that may be", transactions, most)
	}
	for _, n := range deliveries {
		if n > 16 {
			t.Errorf("a transaction has %d spans of deliveries", n)
		}
	}
}

// The binary sends what is traced to a collector, the last of it when it ends.
func TestTracesAreSent(t *testing.T) {
	t.Parallel()
	received := make(chan *collector.ExportTraceServiceRequest, 100)
	face := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
			return
		}
		received <- &request
	}))
	defer face.Close()
	t.Run("server", func(t *testing.T) {
		public, _ := serving(t, map[string]string{"NOTIFYQL_TRACES": face.URL})
		for code := 0; code != http.StatusOK; {
			code, _ = get(t, "http://"+public+"/health", nil)
		}
		next := overSocket(t, "http://"+public+"/graphql", `subscription { nothing }`, nil)
		for !strings.Contains(next(), `"error"`) {
		}
	})
	close(received) // the server has ended
	said := ""
	for request := range received {
		said += request.String()
	}
	for _, want := range []string{"notifyql.subscribe", "refused", "service.name", "service.version"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %s was sent: %s", want, said)
		}
	}
}

func TestWhereTracesGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"NOTIFYQL_TRACES": "http://collector:4318"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, true},
		{map[string]string{"NOTIFYQL_TRACES": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, false},
	} {
		p, _, _ := world(c.env)
		if got, err := p.traced(&settings{traces: c.env["NOTIFYQL_TRACES"]}); got != c.want || err != nil {
			t.Errorf("%v: %v, %v", c.env, got, err)
		}
	}
	p, _, _ := world(nil)
	for _, bad := range []string{"collector:4318", "localhost", "ftp://x", "http://"} {
		if _, err := p.traced(&settings{traces: bad}); err == nil || !strings.Contains(err.Error(), "NOTIFYQL_TRACES") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

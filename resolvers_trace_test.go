package notifyql_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/notifyql/notifyql"
)

// spans notes the spans of resolvers.
type spans struct {
	noop.TracerProvider
	mu    sync.Mutex
	ended []string
}

type spanMaker struct {
	noop.Tracer
	of *spans
}

type resolveSpan struct {
	noop.Span
	of     *spans
	text   string
	failed string
}

func (s *spans) Tracer(string, ...trace.TracerOption) trace.Tracer { return spanMaker{of: s} }

func (m spanMaker) Start(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	if name != "notifyql.resolve" {
		return m.Tracer.Start(ctx, name, o...)
	}
	s := &resolveSpan{of: m.of}
	c := trace.NewSpanStartConfig(o...)
	for _, a := range c.Attributes() {
		s.text += fmt.Sprintf(" %s=%s", a.Key, a.Value.String())
	}
	return trace.ContextWithSpan(ctx, s), s
}

func (s *resolveSpan) SetStatus(_ codes.Code, why string) { s.failed = why }

func (s *resolveSpan) End(...trace.SpanEndOption) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.ended = append(s.of.ended, s.text+" "+s.failed)
}

// A resolver's call is in a span, which its context has. What it failed with is not in it.
func TestResolversAreTraced(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]string{
		"fine": " notifyql.field=did notifyql.events=1 ", "fails": " notifyql.field=did notifyql.events=1 the resolver failed",
		"panics": " notifyql.field=did notifyql.events=1 the resolver failed",
	} {
		var of spans
		srv := run(t, notifyql.Config{
			Bus: notifyql.MemoryBus(), TracerProvider: &of, Logger: slog.New(slog.DiscardHandler),
			Fields: []notifyql.Field{{
				SDL: `extend type Subscription { did: String }`,
				Resolve: func(ctx context.Context, _ *notifyql.FieldEvent) (any, error) {
					if _, ok := trace.SpanFromContext(ctx).(*resolveSpan); !ok {
						t.Error("the context has no span")
					}
					switch end {
					case "fails":
						return nil, errors.New("a secret")
					case "panics":
						panic("a secret")
					}
					return nil, nil
				},
			}},
		})
		l := listen(t, srv, `subscription { did }`, notifyql.Identity{Tenants: []string{"a"}})
		if err := srv.Publish(t.Context(), notifyql.Event{Channel: "did", Shared: true}); err != nil {
			t.Fatal(err)
		}
		l.next()
		of.mu.Lock()
		if len(of.ended) != 1 || of.ended[0] != want {
			t.Errorf("%s: spans %q", end, of.ended)
		}
		of.mu.Unlock()
	}
}

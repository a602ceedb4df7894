package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/notifyql/notifyql"
)

// flushTime is how long what is traced may take to be sent when the server goes down.
const flushTime = 5 * time.Second

// traced says whether traces are to go somewhere: only if that is asked for. The standard's own variables count too.
func (p *program) traced(s *settings) bool {
	if p.getenv("OTEL_SDK_DISABLED") == "true" || p.getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return s.traces != "" || p.getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || p.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// trace sets the Config's provider, if traces are wanted. stop sends what is left; a collector that does not answer keeps it for
// flushTime at most. What the SDK complains of goes into the log.
func (p *program) trace(ctx context.Context, s *settings, c *notifyql.Config) (stop func(), err error) {
	if !p.traced(s) {
		return func() {}, nil
	}
	to, err := newCollector(s.traces, p.getenv)
	if err != nil {
		return nil, err
	}
	log := c.Logger
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "error", err) }))
	exporter, err := otlptrace.New(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("traces can't be sent: %w", err)
	}
	own := resource.NewSchemaless(attribute.String("service.name", "notifyql"), attribute.String("service.version", notifyql.Version))
	about, err := resource.Merge(own, resource.Environment()) // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	c.TracerProvider = provider
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces were not sent", "error", err)
		}
	}, nil
}

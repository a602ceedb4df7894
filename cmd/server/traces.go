package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/notifyql/notifyql"
)

// flushTime is how long what is traced may take to be sent when the server goes down.
const flushTime = 5 * time.Second

// traced says where traces are to go: nowhere, unless it is asked for. The standard's own variables count too.
func (p *program) traced(s *settings) (wanted bool, err error) {
	if p.getenv("OTEL_SDK_DISABLED") == "true" || p.getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	if s.traces == "" {
		return p.getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || p.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "", nil
	}
	if u, err := url.Parse(s.traces); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("NOTIFYQL_TRACES is not the address of a collector: want something like http://localhost:4318")
	}
	return true, nil
}

// trace sets the Config's provider, if traces are wanted. stop sends what is left; a collector that does not answer keeps it for
// flushTime at most. What the SDK complains of goes into the log.
func (p *program) trace(ctx context.Context, s *settings, c *notifyql.Config) (stop func(), err error) {
	wanted, err := p.traced(s)
	if err != nil || !wanted {
		return func() {}, err
	}
	log := c.Logger
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "error", err) }))
	var o []otlptracehttp.Option
	if s.traces != "" {
		u, _ := url.Parse(s.traces) // traced has
		o = append(o, otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()))
	}
	exporter, err := otlptracehttp.New(ctx, o...)
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

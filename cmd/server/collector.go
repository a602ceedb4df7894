package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector sends spans to an OTLP collector over HTTP. It implements otlptrace.Client, as that of OpenTelemetry does, which would bring gRPC
// into the binary, and three megabytes with it.
type collector struct {
	url     string
	headers map[string]string
	timeout time.Duration // of one attempt
	client  *http.Client
	wait    time.Duration // before the second attempt; twice as long before each next
}

// collectorTries is how often something is sent that the collector can't take now.
const collectorTries = 4

// newCollector makes one from the setting and the standard's variables.
func newCollector(address string, getenv func(string) string) (*collector, error) {
	c := &collector{headers: map[string]string{}, timeout: 10 * time.Second, client: &http.Client{}, wait: time.Second}
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if v := getenv(name); v != "" {
				return name, v
			}
		}
		return "", ""
	}
	name, base := "NOTIFYQL_TRACES", address
	if base == "" {
		name, base = first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s is not the address of a collector: want something like http://localhost:4318", name)
	}
	if name != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" { // which names the whole
		u = u.JoinPath("v1", "traces")
	}
	c.url = u.String()
	if name, p := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/protobuf" {
		return nil, fmt.Errorf("%s is %q; traces are sent by http/protobuf", name, p)
	}
	name, list := first("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
	for pair := range strings.SplitSeq(list, ",") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(v))
		if !ok || err != nil {
			return nil, fmt.Errorf("%s is not a list such as key=value,key=value", name)
		}
		c.headers[strings.TrimSpace(k)] = value
	}
	if name, ms := first("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"); ms != "" {
		n, err := strconv.Atoi(ms)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%s is %q; it is milliseconds", name, ms)
		}
		c.timeout = time.Duration(n) * time.Millisecond
	}
	return c, nil
}

// Start implements otlptrace.Client: there is nothing to open.
func (c *collector) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. What the collector can't take now is sent again, a few times, until ctx ends.
func (c *collector) UploadTraces(ctx context.Context, of []*otlp.ResourceSpans) error {
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: of}) // the same bytes as ExportTraceServiceRequest's
	if err != nil {
		return err
	}
	for n, wait := 1, c.wait; ; n, wait = n+1, 2*wait {
		again, err := c.send(ctx, body)
		if err == nil || !again || n == collectorTries {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (c *collector) send(ctx context.Context, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	for k, v := range c.headers {
		req.Header.Set(k, v)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, fmt.Errorf("the collector says %s", resp.Status)
	}
	if resp.StatusCode/100 != 2 {
		return false, fmt.Errorf("the collector says %s", resp.Status)
	}
	return false, nil
}

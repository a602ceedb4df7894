package notifyql

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
	"github.com/notifyql/notifyql/internal/ws"
)

const (
	// tracedEvery is the least time between two transactions that are offered to the sampler.
	tracedEvery = 100 * time.Millisecond
	// tracedDeliveries is how many of a transaction's deliveries have a span.
	tracedDeliveries = 16
	// tracedName is how much of an operation's name is shown.
	tracedName = 100
)

// tracer makes spans: of transactions on their way to sockets, of subscriptions while they begin, of what is read for them. Nil makes
// none. No span has a row, a variable, a user or a tenant.
type tracer struct {
	trace.Tracer

	// What Server.mu guards, which is held whenever the hub is given something.
	received time.Time // when what is being dispatched came
	last     time.Time // when a transaction was offered last
	open     []*passage

	resolved atomic.Int64 // when a resolver's call was offered last, in nanoseconds
}

func newTracer(p trace.TracerProvider) *tracer {
	if p == nil {
		return nil
	}
	return &tracer{Tracer: p.Tracer("github.com/notifyql/notifyql", trace.WithInstrumentationVersion(Version))}
}

// passage is a transaction on its way.
type passage struct {
	tracer   *tracer
	ctx      context.Context // with the transaction's span
	root     trace.Span
	dispatch trace.Span
	left     atomic.Int32
}

// receive notes when the input came whose transactions are dispatched next.
func (t *tracer) receive() {
	if t != nil {
		t.received = time.Now()
	}
}

// pass is asked by the hub about a transaction that somebody is to get: nil if it is not traced.
func (t *tracer) pass(c *change.Change) any {
	if t.received.Sub(t.last) < tracedEvery {
		return nil
	}
	t.last = t.received
	written := c.At
	if written.IsZero() || written.After(t.received) { // the two have different clocks
		written = t.received
	}
	ctx, root := t.Start(context.Background(), "notifyql.transaction",
		trace.WithNewRoot(), trace.WithTimestamp(written), trace.WithSpanKind(trace.SpanKindConsumer))
	if !root.IsRecording() {
		root.End()
		return nil
	}
	root.SetAttributes(attribute.String("notifyql.transaction.id", strconv.FormatUint(uint64(c.XID), 10)))
	_, capture := t.Start(ctx, "notifyql.capture", trace.WithTimestamp(written))
	capture.End(trace.WithTimestamp(t.received))
	_, dispatch := t.Start(ctx, "notifyql.dispatch", trace.WithTimestamp(t.received))
	p := &passage{tracer: t, ctx: ctx, root: root, dispatch: dispatch}
	p.left.Store(tracedDeliveries)
	t.open = append(t.open, p)
	return p
}

// dispatched ends what pass has begun: the transaction is in the lists of those who get it.
func (t *tracer) dispatched() {
	if t == nil || len(t.open) == 0 {
		return
	}
	now := trace.WithTimestamp(time.Now())
	for _, p := range t.open {
		p.dispatch.End(now)
		p.root.End(now)
	}
	clear(t.open)
	t.open = t.open[:0]
}

// deliver begins the span of a delivery, which the function that it returns ends. It returns nil if there were enough.
func (p *passage) deliver(field string) (written func(error)) {
	if p.left.Add(-1) < 0 {
		return nil
	}
	_, span := p.tracer.Start(p.ctx, "notifyql.deliver", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attribute.String("notifyql.field", field)))
	return func(err error) { end(span, err) }
}

func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// beginning is a subscription that begins. Its methods do nothing if it is nil.
type beginning struct {
	tracer *tracer
	ctx    context.Context // with the subscription's span
	root   trace.Span
	step   trace.Span // that is under way
	sent   int
	done   bool
}

// begins is called with the context of the operation: what called us may have a span in it.
func (t *tracer) begins(ctx context.Context, op ws.Operation) *beginning {
	if t == nil {
		return nil
	}
	ctx, root := t.Start(ctx, "notifyql.subscribe", trace.WithSpanKind(trace.SpanKindServer))
	if !root.IsRecording() {
		root.End()
		return nil
	}
	if name := op.OperationName; name != "" {
		root.SetAttributes(attribute.String("graphql.operation.name", name[:min(len(name), tracedName)]))
	}
	return &beginning{tracer: t, ctx: ctx, root: root}
}

// next ends the step under way, and begins another.
func (b *beginning) next(step string) {
	if b == nil {
		return
	}
	b.ends(nil)
	_, b.step = b.tracer.Start(b.ctx, step)
}

func (b *beginning) ends(err error) {
	if b.step != nil {
		end(b.step, err)
		b.step = nil
	}
}

// The reasons that traces show; what a client is told may have its data in it.
var (
	errRefused  = errors.New("refused")
	errGone     = errors.New("ended before it was live")
	errResolver = errors.New("the resolver failed")
)

// gave notes results of the subscription, and ends when it is live, or at its end.
func (b *beginning) gave(results int, err error, r reader) {
	if b.done {
		return
	}
	b.sent += results
	if err != nil {
		b.over(errGone)
	} else if !r.Progress().CatchingUp {
		b.over(nil)
	}
}

// over ends it: the subscription is live, or err says why it is not.
func (b *beginning) over(err error) {
	if b == nil {
		return
	}
	b.done = true
	b.ends(err)
	b.root.SetAttributes(attribute.Int("notifyql.results", b.sent))
	end(b.root, err)
}

// resolves begins the span of a resolver's call, which is in the context that it gets, and returns what ends it. A call is for all of a group,
// and is of nobody's trace; as many are offered as transactions.
func (t *tracer) resolves(ctx context.Context, field string, events int) (context.Context, func(error)) {
	none := func(error) {}
	if t == nil {
		return ctx, none
	}
	now, last := time.Now().UnixNano(), t.resolved.Load()
	if now-last < int64(tracedEvery) || !t.resolved.CompareAndSwap(last, now) {
		return ctx, none
	}
	ctx, span := t.Start(ctx, "notifyql.resolve", trace.WithNewRoot(), trace.WithAttributes(attribute.String("notifyql.field", field), attribute.Int("notifyql.events", events)))
	return ctx, func(err error) {
		if err != nil {
			err = errResolver
		}
		end(span, err)
	}
}

// tracedHistory has a span for each page that is read. A page is read for all who need it, and is of nobody's trace.
type tracedHistory struct {
	subs.History
	tracer *tracer
}

func (h tracedHistory) Txn(ctx context.Context, xid change.XID, after *change.Change, stub *change.Stub, topics []change.Topic, tenants []string, limit int) ([]change.Change, bool, error) {
	ctx, span := h.tracer.Start(ctx, "notifyql.read.transaction")
	cs, more, err := h.History.Txn(ctx, xid, after, stub, topics, tenants, limit)
	span.SetAttributes(attribute.Int("notifyql.changes", len(cs)))
	end(span, err)
	return cs, more, err
}

func (h tracedHistory) Since(ctx context.Context, from, to change.Cursor, topics []change.Topic, tenants []string, limit int) (change.Page, error) {
	ctx, span := h.tracer.Start(ctx, "notifyql.read.log")
	page, err := h.History.Since(ctx, from, to, topics, tenants, limit)
	span.SetAttributes(attribute.Int("notifyql.transactions", len(page.Txns)))
	end(span, err)
	return page, err
}

func (h tracedHistory) Rows(ctx context.Context, q *change.Query, limit int, page func([]change.Change) error) (change.Cursor, error) {
	ctx, span := h.tracer.Start(ctx, "notifyql.read.rows")
	rows := 0
	at, err := h.History.Rows(ctx, q, limit, func(cs []change.Change) error {
		rows += len(cs)
		return page(cs)
	})
	span.SetAttributes(attribute.Int("notifyql.rows", rows))
	end(span, err)
	return at, err
}

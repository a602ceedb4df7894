package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/notifyql/notifyql/bus"
)

// most is how many bytes wait for Read, about, and how many the client asks for at once.
const most = 4 << 20

// reader is a consumer that JetStream keeps in memory, without acknowledgements. The client's goroutine puts records in;
// Read takes them out.
type reader struct {
	stream   *Stream
	conn     *connection
	consumer jetstream.Consumer
	consume  jetstream.ConsumeContext
	closed   chan struct{}

	mu      sync.Mutex
	last    uint64 // the number of the newest message
	records [][]byte
	size    int
	err     error
	some    chan struct{} // has one when records or err are there
	room    chan struct{} // has one when records were taken
}

var errLost = errors.New("the connection is lost")

// Open makes a consumer at the stream's end.
func (s *Stream) Open(ctx context.Context) (bus.Reader, error) {
	r := &reader{stream: s, closed: make(chan struct{}), some: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	var err error
	r.conn, err = s.dial(ctx,
		natsgo.ClosedHandler(func(nc *natsgo.Conn) {
			if err := nc.LastError(); err != nil {
				r.fail(fmt.Errorf("%w: %w", errLost, plain(err)))
			} else {
				r.fail(errLost)
			}
		}),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { r.fail(err) }))
	if err != nil {
		return nil, err
	}
	if err := r.begin(ctx); err != nil {
		r.conn.Close()
		return nil, err
	}
	return r, nil
}

func (r *reader) begin(ctx context.Context) (err error) {
	if r.last, err = r.stream.ensure(ctx, r.conn, false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	r.consumer, err = r.conn.js.CreateConsumer(ctx, r.stream.options.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.last + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: r.stream.options.Forget,
	})
	if err == nil {
		r.consume, err = r.consumer.Consume(r.put, jetstream.PullMaxBytes(most), jetstream.PullHeartbeat(pings),
			jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { r.fail(err) }))
	}
	if err != nil {
		return fmt.Errorf("nats: a consumer of %s: %w", r.stream.options.Stream, err)
	}
	return nil
}

// put is called for each message, by one goroutine. It waits for room: so the client asks for no more.
func (r *reader) put(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		r.fail(err)
		return
	}
	for {
		r.mu.Lock()
		if r.err != nil {
			r.mu.Unlock()
			return
		}
		if r.size == 0 || r.size+len(m.Data()) <= most {
			break
		}
		r.mu.Unlock()
		select {
		case <-r.room:
		case <-r.closed:
			return
		}
	}
	defer r.mu.Unlock()
	if meta.Sequence.Stream != r.last+1 {
		r.failed(bus.ErrGap)
		return
	}
	r.last = meta.Sequence.Stream
	r.records = append(r.records, m.Data())
	r.size += len(m.Data())
	signal(r.some)
}

// fail ends the reader, behind the records that it has.
func (r *reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed(err)
}

func (r *reader) failed(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("nats: reading: %w", plain(err))
		signal(r.some)
		signal(r.room)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Read waits for records.
func (r *reader) Read(ctx context.Context) ([][]byte, error) {
	for {
		r.mu.Lock()
		records, err := r.records, r.err
		r.records, r.size = nil, 0
		r.mu.Unlock()
		if len(records) > 0 {
			signal(r.room)
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-r.some:
		case <-ctx.Done():
			r.fail(ctx.Err())
		}
	}
}

// Close removes the consumer, if NATS can be reached: else NATS does in a while.
func (r *reader) Close() {
	close(r.closed)
	r.consume.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !r.conn.IsClosed() {
		_ = r.conn.js.DeleteConsumer(ctx, r.stream.options.Stream, r.consumer.CachedInfo().Name)
	}
	r.conn.Close()
}

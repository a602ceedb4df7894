package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/notifyql/notifyql"
)

const fanoutEvent = `{"id":"1","type":"next","payload":{"data":{"tick":{"n":100000,"note":"a note of some length, as rows have"}}}}`

// fanout publishes one event at a time to all sockets of one group, and in turns writes the same bytes with a bare loop
// over sockets of the same library. The reading side is another process that only counts bytes, the same for both.
func fanout(ctx context.Context, seconds, sockets int) error {
	var ours, bare []float64
	for range 3 {
		n, err := fanoutBare(ctx, seconds, sockets)
		if err != nil {
			return err
		}
		bare = append(bare, n)
		if n, err = fanoutOurs(ctx, seconds, sockets); err != nil {
			return err
		}
		ours = append(ours, n)
	}
	b, o := median(bare), median(ours)
	fmt.Printf("%d sockets of one group, one message an event (%d bytes)\n", sockets, len(fanoutEvent))
	fmt.Printf("  bare loop  %8.0f deliveries/s\n  notifyql   %8.0f deliveries/s\n  ratio      %.2f\n", b, o, o/b)
	higher(ctx, "fanout: deliveries, of a bare loop's", o/b)
	return nil
}

func fanoutOurs(ctx context.Context, seconds, sockets int) (float64, error) {
	srv, addr, stop, err := serve(ctx, notifyql.Config{
		Bus: notifyql.MemoryBus(), Auth: notifyql.Trust(),
		Fields: []notifyql.Field{{SDL: `extend type Subscription { tick: Tick } type Tick { n: Int! note: String! }`, Channel: "ticks"}},
	})
	if err != nil {
		return 0, err
	}
	defer stop()
	r, err := startReader(ctx, addr, sockets)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	for srv.Stats().Subscriptions < sockets {
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
	i := 100_000
	return measure(ctx, seconds, sockets, r, func() error {
		i++
		return srv.Publish(ctx, notifyql.Event{
			Channel: "ticks", Tenant: "acme",
			Data: map[string]any{"n": i%899_999 + 100_000, "note": "a note of some length, as rows have"},
		})
	})
}

func fanoutBare(ctx context.Context, seconds, sockets int) (float64, error) {
	b, err := serveBare(ctx, sockets)
	if err != nil {
		return 0, err
	}
	defer b.stop()
	r, err := startReader(ctx, b.addr, sockets)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	b.all.Wait()
	return measure(ctx, seconds, sockets, r, func() error { return b.write(ctx, []byte(fanoutEvent)) })
}

// bare is a server that does nothing but keep sockets and write to them in a loop: what anybody would write first.
type bare struct {
	addr string
	face *http.Server
	all  sync.WaitGroup // done when all sockets have subscribed

	mu    sync.Mutex
	conns []*websocket.Conn
}

func serveBare(ctx context.Context, sockets int) (*bare, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &bare{addr: ln.Addr().String()}
	b.all.Add(sockets)
	b.face = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.take(ctx, w, r) })}
	go b.face.Serve(ln) //nolint:errcheck // ends with Close
	return b, nil
}

func (b *bare) take(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		return
	}
	var v any
	if wsjson.Read(ctx, c, &v) != nil || c.Write(ctx, websocket.MessageText, []byte(`{"type":"connection_ack"}`)) != nil || wsjson.Read(ctx, c, &v) != nil {
		return
	}
	b.mu.Lock()
	b.conns = append(b.conns, c)
	b.mu.Unlock()
	b.all.Done()
	c.Read(ctx) //nolint:errcheck // waits for the end
}

func (b *bare) write(ctx context.Context, message []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		if err := c.Write(ctx, websocket.MessageText, message); err != nil {
			return err
		}
	}
	return nil
}

func (b *bare) stop() { b.face.Close() } //nolint:errcheck // it has served

// measure sends events, one after the other has arrived everywhere, and returns deliveries a second.
func measure(ctx context.Context, seconds, sockets int, r *reader, send func() error) (float64, error) {
	const per = 2 + len(fanoutEvent) // a short frame
	start, events := time.Now(), 0
	from := r.bytes.Load()
	for time.Since(start) < time.Duration(seconds)*time.Second {
		if err := send(); err != nil {
			return 0, err
		}
		events++
		for r.bytes.Load() < from+int64(events*sockets*per) {
			select {
			case <-r.moved:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	return float64(events*sockets) / time.Since(start).Seconds(), nil
}

// reader is the process that reads all sockets.
type reader struct {
	cmd   *exec.Cmd
	stdin io.Closer
	bytes atomic.Int64
	moved chan struct{}
	done  chan struct{}
}

func startReader(ctx context.Context, addr string, sockets int) (*reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &reader{moved: make(chan struct{}, 1), done: make(chan struct{})}
	r.cmd = exec.CommandContext(ctx, self, "-reader", addr, "-sockets", strconv.Itoa(sockets))
	r.cmd.Stderr = os.Stderr
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		defer close(r.done)
		in := bufio.NewScanner(out)
		for in.Scan() {
			if in.Text() == "ready" {
				close(ready)
				continue
			}
			if n, err := strconv.ParseInt(in.Text(), 10, 64); err == nil {
				r.bytes.Store(n)
				select {
				case r.moved <- struct{}{}:
				default:
				}
			}
		}
	}()
	select {
	case <-ready:
		return r, nil
	case <-r.done:
		return nil, fmt.Errorf("the reading side ended: %w", r.cmd.Wait())
	}
}

func (r *reader) stop() {
	r.stdin.Close() //nolint:errcheck // it ends by this
	<-r.done
	r.cmd.Wait() //nolint:errcheck // it has served
}

// readSockets subscribes on each socket and then counts what comes, in bytes, written to standard output as often as a
// whole event has come. It ends with standard input.
func readSockets(ctx context.Context, addr string, sockets int) error {
	const per = 2 + len(fanoutEvent)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // its end is what counts
		cancel()
	}()
	var total atomic.Int64
	for range sockets {
		conn, err := dialRaw(ctx, addr, "subscription { tick { n note } }")
		if err != nil {
			return err
		}
		go func() {
			<-ctx.Done()
			conn.Close() //nolint:errcheck // the end
		}()
		go func() {
			b := make([]byte, 16<<10)
			for {
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				now := total.Add(int64(n))
				if event := int64(sockets * per); now/event != (now-int64(n))/event {
					fmt.Println(now)
				}
			}
		}()
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

// dialRaw opens a WebSocket by hand, subscribes, and returns the connection with nothing left to read but events.
func dialRaw(ctx context.Context, addr, query string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "GET /graphql HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n", addr)
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	if err := writeMasked(conn, map[string]any{"type": "connection_init", "payload": map[string]string{"tenantId": "acme"}}); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	if _, err := in.Discard(int(head[1])); err != nil { // connection_ack is short
		return nil, err
	}
	return conn, writeMasked(conn, map[string]any{"id": "1", "type": "subscribe", "payload": map[string]string{"query": query}})
}

func writeMasked(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > 125 {
		return fmt.Errorf("a message of %d bytes is too long for a short frame", len(b))
	}
	_, err = w.Write(append([]byte{0x81, 0x80 | byte(len(b)), 0, 0, 0, 0}, b...)) // a mask of zeros
	return err
}

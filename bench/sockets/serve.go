package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/notifyql/notifyql/internal/ws"
)

// node is the serving side, a process of its own. It speaks to sockets at /, in the way that its variant says, and is
// told at /memory and /deliver what to measure.
type node struct {
	variant string
	served  sync.WaitGroup

	mu      sync.Mutex
	sockets []ws.Socket
	bare    []*websocket.Conn
	streams []*stream
	conns   []net.Conn     // of the sockets, as net/http has accepted them
	pending sync.WaitGroup // messages that are to be written
}

const variants = "bare small ours detached"

func serveNode(variant string) error {
	n := &node{variant: variant}
	mux := http.NewServeMux()
	mux.HandleFunc("/", n.socket)
	mux.HandleFunc("/memory", n.memory)
	mux.HandleFunc("/deliver", n.deliver)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent is gone
		os.Exit(0)
	}()
	return http.Serve(l, mux)
}

func (n *node) socket(w http.ResponseWriter, r *http.Request) {
	switch n.variant {
	case "bare", "small":
		if n.variant == "small" {
			w = &small{w}
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"graphql-transport-ws"}})
		if err != nil {
			return
		}
		n.mu.Lock()
		n.bare = append(n.bare, c)
		n.mu.Unlock()
		read := func() {
			ctx := context.Background()
			for {
				_, m, err := c.Read(ctx)
				if err != nil {
					return
				}
				if strings.Contains(string(m), "connection_init") {
					_ = c.Write(ctx, websocket.MessageText, []byte(`{"type":"connection_ack"}`))
				}
			}
		}
		if n.variant == "small" {
			go read()
		} else {
			read()
		}
	default:
		h := &seen{ResponseWriter: w}
		s, err := ws.Accept(h, r, ws.AcceptOptions{})
		if err != nil {
			return
		}
		n.mu.Lock()
		n.sockets, n.conns = append(n.sockets, s), append(n.conns, h.conn)
		n.mu.Unlock()
		if n.variant == "detached" {
			n.served.Go(func() { _ = ws.Serve(context.Background(), counted{s, n}, n, ws.Options{}) })
		} else {
			_ = ws.Serve(context.Background(), counted{s, n}, n, ws.Options{})
		}
	}
}

// small hands the connection over with small buffers.
type small struct{ http.ResponseWriter }

func (s *small) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, _, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return c, bufio.NewReadWriter(bufio.NewReaderSize(c, 512), bufio.NewWriterSize(c, 512)), nil
}

// seen remembers the connection.
type seen struct {
	http.ResponseWriter
	conn net.Conn
}

func (s *seen) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	s.conn = c
	return c, rw, err
}

type memory struct {
	Heap, Stack, RSS uint64
	Goroutines       int
	Streams          int
}

func (n *node) memory(w http.ResponseWriter, _ *http.Request) {
	runtime.GC()
	debug.FreeOSMemory()
	time.Sleep(50 * time.Millisecond) // let background sweeping end
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	n.mu.Lock()
	streams := len(n.streams)
	n.mu.Unlock()
	_ = json.NewEncoder(w).Encode(memory{m.HeapAlloc, m.StackInuse, rss(), runtime.NumGoroutine(), streams})
}

func rss() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident uint64
	fmt.Sscan(string(b), &size, &resident)
	return resident * uint64(os.Getpagesize())
}

// The service: every subscription gets what deliver publishes.

func (n *node) Connect(context.Context, []byte) (ws.Session, error) { return session{n}, nil }

type session struct{ n *node }

func (session) Close() {}

func (s session) Subscribe(_ context.Context, _ ws.Operation, wake func()) ws.Stream {
	st := &stream{wake: wake}
	s.n.mu.Lock()
	s.n.streams = append(s.n.streams, st)
	s.n.mu.Unlock()
	return st
}

// stream is a place in the list of events, as a reader of a hub is.
type stream struct {
	wake func()
	mu   sync.Mutex
	wait int // results to come
}

var result = []byte(`{"data":{"ordersChanged":{"kind":"UPDATE","new":{"id":"123456","status":"paid"},"cursor":"AbCdEfGh"}}}`)

func (s *stream) Next(dst [][]byte, limit int) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.wait > 0 && limit > 0 {
		dst = append(dst, result)
		s.wait--
		limit--
	}
	return dst, nil
}

func (s *stream) Close() {}

func (s *stream) add(n int) {
	s.mu.Lock()
	s.wait += n
	s.mu.Unlock()
	s.wake()
}

package ws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// AcceptOptions say what Accept takes. The zero value works.
type AcceptOptions struct {
	// Origins lists the hosts, or scheme://host, whose pages may connect beside the server's own; * and ? as in
	// path.Match; "*" alone allows all. A client that names no origin, and so is no browser, is always allowed.
	Origins []string
	// Encrypted says that the client's connection is, here or at a proxy. Then a page that came unencrypted is of another origin,
	// though it has the server's host: whoever is in the network can have made it.
	Encrypted bool
	// MaxMessageBytes bounds a client's message: 1 MB. A longer one closes the connection with 1009.
	MaxMessageBytes int64
	// Compression offers permessage-deflate without context takeover: no memory for an idle connection, CPU for each
	// message and each subscriber.
	Compression bool
	// Subprotocols are those to agree on, the best first. Nil: all that Serve speaks.
	Subprotocols []string
}

const (
	defaultMaxMessage = 1 << 20
	// What net/http hands over has 4 KB each way.
	readBuffer  = 16  // the wire has a buffer of its own
	writeBuffer = 128 // as much as the largest control frame, so that those are one write
	// sendBuffer bounds what the kernel holds for a client that does not read.
	sendBuffer = 64 << 10
	// pongBacklog is what may wait for a slow client before its pings go unanswered.
	pongBacklog = 4 << 10
	// pingsPerSecond is how fast a client's pings are read, after as many at once.
	pingsPerSecond = 50
	// closeTimeout is how long a peer may take to answer a close frame.
	closeTimeout      = 5 * time.Second
	shortCloseTimeout = time.Second
)

// Accept makes a Socket of a WebSocket handshake. On error it has answered the request. A client that asks for no
// subprotocol of ours is accepted, so that Serve can tell it so with 4406. The handler may return while the socket is in
// use: nothing of the request is kept, which saves its memory.
func Accept(w http.ResponseWriter, r *http.Request, o AcceptOptions) (Socket, error) {
	return accept(w, r, o)
}

// Refuse accepts a WebSocket only to close it, as why says: a *CloseError, or a *limit.Exceeded. Clients come back after 1012
// and 1013, but many take a handshake that is answered with an HTTP status for a mistake of their own and give up. On error the
// request has been answered.
func Refuse(w http.ResponseWriter, r *http.Request, o AcceptOptions, why error) error {
	s, err := accept(w, r, o)
	if err != nil {
		return err
	}
	e := Refusal(why)
	return s.close(e.Code, e.Reason, shortCloseTimeout, refusedBytes)
}

func accept(w http.ResponseWriter, r *http.Request, o AcceptOptions) (*coderSocket, error) {
	if err := o.Allow(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return nil, err
	}
	h := &handover{ResponseWriter: w}
	s := &coderSocket{pings: newBucket(pingsPerSecond, pingsPerSecond)}
	mode := websocket.CompressionDisabled
	if o.Compression {
		mode = websocket.CompressionNoContextTakeover
	}
	subprotocols := o.Subprotocols
	if subprotocols == nil {
		subprotocols = Subprotocols()
	}
	c, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       subprotocols,
		InsecureSkipVerify: true, // Allow has looked
		CompressionMode:    mode,
		OnPingReceived:     s.pinged,
	})
	if err != nil {
		return nil, err
	}
	limit := o.MaxMessageBytes
	if limit <= 0 {
		limit = defaultMaxMessage
	}
	c.SetReadLimit(limit)
	s.ws, s.conn = c, h.conn
	s.compresses = w.Header().Get("Sec-Websocket-Extensions") != ""
	return s, nil
}

// Subprotocols are those that Serve speaks, the best first.
func Subprotocols() []string { return []string{transportWS, legacyWS} }

// Allow says why the page that a request came from may not open a socket; nil if it may.
func (o *AcceptOptions) Allow(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(o.Origins, "*") {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil {
		return fmt.Errorf("the page's origin is no address: %w", err)
	}
	unencrypted := o.Encrypted && u.Scheme == "http"
	own := u.Host != "" && strings.EqualFold(u.Host, r.Host)
	switch listed := slices.ContainsFunc(o.Origins, func(pattern string) bool { return matches(pattern, u) }); {
	case listed, own && !unencrypted:
		return nil
	case own:
		return errors.New("the page came unencrypted: it is of another origin")
	}
	return fmt.Errorf("the page's origin %q is not among those that may connect", u.Host)
}

func matches(pattern string, origin *url.URL) bool {
	target := origin.Host
	if strings.Contains(pattern, "://") {
		target = origin.Scheme + "://" + target
	}
	matched, err := path.Match(strings.ToLower(pattern), strings.ToLower(target))
	return err == nil && matched
}

// handover hijacks with a wire and small buffers.
type handover struct {
	http.ResponseWriter
	conn *wire
}

func (h *handover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if g, ok := h.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		g.WriteHeaderNow() // gin keeps the header back
	}
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	if t, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
		_ = t.SetWriteBuffer(sendBuffer) // a wish
	}
	h.conn = newWire(c, bytes.Clone(early))
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, readBuffer), bufio.NewWriterSize(h.conn, writeBuffer)), nil
}

// coderSocket is a Socket of coder/websocket. The library shakes hands, reads, answers pings and closes, which it does by control
// frames, each a single write. Messages are framed here, many for one write, and without the library's locks and timers
// for each: a third of the CPU.
type coderSocket struct {
	ws    *websocket.Conn
	conn  *wire
	in    *[]byte    // the message that Read has returned; the reader's
	pings bucket     // the reader's
	mu    sync.Mutex // held by Write and Ping

	compresses bool // permessage-deflate was agreed on
}

func (s *coderSocket) Subprotocol() string { return s.ws.Subprotocol() }

// Read waits on a shallow stack: see frames.go.
func (s *coderSocket) Read(ctx context.Context) ([]byte, error) {
	if s.in != nil {
		keepBuffer(s.in)
		s.in = nil
	}
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { _ = s.ws.CloseNow() })()
	}
	for {
		if err := s.conn.await(); err != nil {
			return nil, s.readError(err)
		}
		if message, err := s.message(ctx); err != errPause {
			return message, err
		}
	}
}

// message reads the next message, of which at least one byte is there; or whatever comes before it, and gives errPause.
func (s *coderSocket) message(ctx context.Context) ([]byte, error) {
	s.conn.in.paused.Store(true)
	typ, r, err := s.ws.Reader(ctx)
	s.conn.in.paused.Store(false)
	if errors.Is(err, errPause) {
		return nil, errPause
	}
	if err != nil {
		return nil, s.readError(err)
	}
	if typ != websocket.MessageText {
		e := &CloseError{Code: CodeUnsupportedData, Reason: "Only text messages are supported"}
		s.Close(e.Code, e.Reason)
		return nil, e
	}
	s.in = buffers.Get().(*[]byte)
	if *s.in, err = appendAll((*s.in)[:0], r); err != nil {
		return nil, s.readError(err)
	}
	if !s.conn.complete() {
		return nil, s.readError(io.ErrUnexpectedEOF)
	}
	return *s.in, nil
}

// readError sees to it that the connection is closed, with the code that the library has not sent by itself.
func (s *coderSocket) readError(err error) error {
	var peer websocket.CloseError
	if errors.As(err, &peer) {
		if !utf8.ValidString(peer.Reason) {
			return &CloseError{Code: CodeInvalidText, Reason: "The reason of the close frame is not UTF-8"}
		}
		return &CloseError{Code: int(peer.Code), Reason: peer.Reason}
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return &CloseError{Code: CodeTooBig, Reason: "Message too big"}
	}
	if errors.Is(err, errFragments) {
		e := &CloseError{Code: CodeTooBig, Reason: "Message of too many fragments"}
		s.Close(e.Code, e.Reason)
		return e
	}
	s.Close(CodeProtocolError, "WebSocket protocol error")
	return fmt.Errorf("reading from websocket: %w", err)
}

func (s *coderSocket) Write(ctx context.Context, messages ...[]byte) error {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { _ = s.ws.CloseNow() })()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.compresses {
		return s.writeCompressed(messages)
	}
	b := buffers.Get().(*[]byte)
	for _, m := range messages {
		*b = appendFrame(*b, m)
	}
	err := s.conn.send(*b)
	keepBuffer(b)
	return err
}

// writeCompressed leaves it to the library what is worth compressing, and how.
func (s *coderSocket) writeCompressed(messages [][]byte) error {
	s.conn.cork()
	var err error
	for _, m := range messages {
		// No context that can end: the library would watch it for each message.
		if err = s.ws.Write(context.Background(), websocket.MessageText, m); err != nil {
			break
		}
	}
	return errors.Join(err, s.conn.uncork())
}

// Ping writes the frame itself: the library's Ping waits for the pong.
func (s *coderSocket) Ping(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.send([]byte{finPing, 0})
}

func (s *coderSocket) Heard() uint64 { return s.conn.heard.Load() }

// Close waits for the peer's close frame, but never longer than closeTimeout: the library by itself would wait for ever
// for the rest of a message that the peer has begun. A peer that is closed because it is silent is hardly waited for.
func (s *coderSocket) Close(code int, reason string) error {
	wait, bytes := closeTimeout, int64(refusedBytes)
	switch code {
	case CodeTimeout:
		wait = shortCloseTimeout
	case CodeTooBig, CodeGoingAway, CodeRestart: // it may well be in the middle of a message
		bytes = closingBytes
	}
	return s.close(code, reason, wait, bytes)
}

// close waits for the peer's close frame for so long, and for so many bytes.
func (s *coderSocket) close(code int, reason string, wait time.Duration, bytes int64) error {
	if !s.conn.in.closing.Load() {
		s.conn.in.left.Store(bytes)
		s.conn.in.closing.Store(true)
	}
	_ = s.conn.SetDeadline(time.Now().Add(wait))
	return s.ws.Close(websocket.StatusCode(code), truncate(reason, maxReason))
}

// pinged says whether to answer a ping: a peer that does not read gets no pongs, and one that floods us waits. Nothing follows a close
// frame; to try would end the wait for the peer's.
func (s *coderSocket) pinged(ctx context.Context, _ []byte) bool {
	if s.conn.in.closing.Load() {
		return false
	}
	s.pings.wait(ctx)
	return s.conn.backlog() < pongBacklog && !s.conn.in.closing.Load()
}

// appendAll reads r to its end into b.
func appendAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, 512)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

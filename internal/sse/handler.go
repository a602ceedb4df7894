package sse

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/ws"
)

// Options say what a Handler serves, and its limits. A zero limit means its default.
type Options struct {
	// Service makes what a request's client is served with. Its Connect gets the request's extensions.connectionParams
	// in place of the payload of connection_init, or nil.
	Service func(*http.Request) ws.Service
	// Context ends when the server goes down: event streams end then without a complete, so that clients come back.
	// Nil: never.
	Context context.Context
	// Enter is asked before each event stream and reservation; leave is called at its end. Its error is told as one of Connect
	// is: a *limit.Exceeded, or a *ws.CloseError. Nil: there is always room.
	Enter func(*http.Request) (leave func(), err error)
	// KeepAlive is the time between heartbeats: 12 s. WriteTimeout is how long a write may take, beside a second for each
	// 8 KB: 20 s. ReservationTimeout is how long a reservation waits for its event stream: 30 s.
	KeepAlive, WriteTimeout, ReservationTimeout time.Duration
	// MaxOperations is how many operations a reserved connection may have at a time: 200.
	MaxOperations int
	// Exceeded is called when an operation is refused for MaxOperations. Nil: nobody is.
	Exceeded func()
	// MaxBytes bounds a request's body: 1 MB.
	MaxBytes int64
	Logger   *slog.Logger
}

// Handler serves event streams. Close it after its server has ended.
type Handler struct {
	o        Options
	mu       sync.Mutex
	closed   bool
	reserved map[string]*reservation // by token; open ones as well
	expiries sync.WaitGroup
}

// New returns a Handler.
func New(o Options) *Handler {
	o.KeepAlive = cmp.Or(o.KeepAlive, 12*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 20*time.Second)
	o.ReservationTimeout = cmp.Or(o.ReservationTimeout, 30*time.Second)
	o.MaxOperations = cmp.Or(o.MaxOperations, 200)
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<20)
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.Enter == nil {
		o.Enter = func(*http.Request) (func(), error) { return func() {}, nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{o: o, reserved: map[string]*reservation{}}
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := tokenOf(r)
	switch {
	case r.Method == http.MethodPut:
		h.reserve(w, r)
	case r.Method == http.MethodDelete:
		h.stop(w, r, token)
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST, PUT, DELETE")
		fail(w, http.StatusMethodNotAllowed, errorList("Method not allowed"))
	case acceptsEvents(r) && token != "":
		h.open(w, r, token)
	case acceptsEvents(r):
		h.distinct(w, r)
	case token != "":
		h.start(w, r, token)
	default:
		fail(w, http.StatusNotAcceptable, errorList("Accept must be text/event-stream"))
	}
}

// distinct serves an operation that has a connection of its own.
func (h *Handler) distinct(w http.ResponseWriter, r *http.Request) {
	q, err := readRequest(r, h.o.MaxBytes)
	if err != nil {
		refuse(w, err)
		return
	}
	leave, ok := h.enter(w, r)
	if !ok {
		return
	}
	defer leave()
	c, err := connect(r.Context(), h.o.Service(r), q.params, false, &h.o)
	if err != nil {
		refuse(w, err)
		return
	}
	defer c.close()
	q.After = r.Header.Get("Last-Event-ID")
	failed, _, err := c.start("", q.Operation)
	if err == nil && failed != nil {
		err = failed
	}
	if err != nil {
		refuse(w, err)
		return
	}
	h.serve(w, r, c)
}

// enter asks for room and answers if there is none.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	var err error = ws.Restarting()
	if h.o.Context.Err() == nil {
		leave, err = h.o.Enter(r)
	}
	if err != nil {
		refuse(w, err)
	}
	return leave, err == nil
}

// refuse answers with what an error means.
func refuse(w http.ResponseWriter, err error) {
	var bad *badRequest
	var why *ws.CloseError
	var over *limit.Exceeded
	var failed *ws.OperationError
	switch {
	case errors.As(err, &bad):
		fail(w, bad.status, errorList(bad.text))
	case errors.Is(err, errDuplicate):
		fail(w, http.StatusConflict, errorList("Operation with ID already exists"))
	case errors.As(err, &over):
		fail(w, over.Header(w.Header()), over.GraphQL())
	case errors.As(err, &failed):
		fail(w, http.StatusBadRequest, failed.Errors)
	case errors.Is(err, errClosed):
		fail(w, http.StatusNotFound, errorList("Stream not found"))
	case errors.As(err, &why):
		status := http.StatusForbidden
		switch why.Code {
		case ws.CodeTryAgainLater, ws.CodeRestart, ws.CodeGoingAway:
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		case ws.CodeUnauthorized:
			status = http.StatusUnauthorized
		}
		fail(w, status, errorList(why.Reason))
	default:
		fail(w, http.StatusForbidden, errorList("Forbidden"))
	}
}

// fail answers with GraphQL errors.
func fail(w http.ResponseWriter, status int, errors []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(errorResult(errors)) // the client may be gone
}

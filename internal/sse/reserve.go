package sse

import (
	"crypto/rand"
	"io"
	"net/http"
	"time"
)

// reservation is a connection that a client has asked for, and then opened. Who has the token may use it.
type reservation struct {
	*conn
	leave  func()
	expiry *time.Timer
}

// reserve answers PUT with a token.
func (h *Handler) reserve(w http.ResponseWriter, r *http.Request) {
	if h.find(tokenOf(r)) != nil {
		fail(w, http.StatusConflict, errorList("Stream already registered"))
		return
	}
	leave, ok := h.enter(w, r)
	if !ok {
		return
	}
	c, err := connect(r.Context(), h.o.Service(r), nil, true, &h.o)
	if err != nil {
		leave()
		refuse(w, err)
		return
	}
	token := rand.Text() // 128 bits and more
	if !h.add(token, &reservation{conn: c, leave: leave}) {
		c.close()
		leave()
		refuse(w, errClosed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, token)
}

func (h *Handler) add(token string, v *reservation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.reserved[token] = v
	h.expiries.Add(1)
	v.expiry = time.AfterFunc(h.o.ReservationTimeout, func() {
		defer h.expiries.Done()
		if v.expire() {
			h.remove(token, v)
		}
	})
	return true
}

// remove forgets a reservation whose connection is closed.
func (h *Handler) remove(token string, v *reservation) {
	h.mu.Lock()
	_, there := h.reserved[token]
	delete(h.reserved, token)
	h.mu.Unlock()
	if v.expiry.Stop() {
		h.expiries.Done()
	}
	if there {
		v.leave()
	}
}

func (h *Handler) find(token string) *reservation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reserved[token]
}

// Close ends the reservations that no event stream has taken up. Those that have end with Options.Context.
func (h *Handler) Close() {
	h.mu.Lock()
	h.closed = true
	left := make(map[string]*reservation, len(h.reserved))
	for token, v := range h.reserved {
		left[token] = v
	}
	h.mu.Unlock()
	for token, v := range left {
		if v.expire() {
			h.remove(token, v)
		}
	}
	h.expiries.Wait()
}

// open serves the event stream of a reservation.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, token string) {
	v := h.find(token)
	switch {
	case v == nil:
		refuse(w, errClosed)
		return
	case !v.take():
		fail(w, http.StatusConflict, errorList("Stream already open"))
		return
	}
	defer h.remove(token, v)
	defer v.close()
	if v.expiry.Stop() {
		h.expiries.Done()
	}
	h.serve(w, r, v.conn)
}

// start begins an operation on a reserved connection.
func (h *Handler) start(w http.ResponseWriter, r *http.Request, token string) {
	v := h.find(token)
	if v == nil {
		refuse(w, errClosed)
		return
	}
	q, err := readRequest(r, h.o.MaxBytes)
	if err != nil {
		refuse(w, err)
		return
	}
	if q.id == "" {
		fail(w, http.StatusBadRequest, errorList("Operation ID is missing"))
		return
	}
	q.ID = q.id
	failed, ok, err := v.conn.start(q.id, q.Operation)
	switch {
	case err != nil:
		refuse(w, err)
	case failed != nil:
		refuse(w, failed)
	case !ok:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// stop answers DELETE: the operation ends without a word on the event stream.
func (h *Handler) stop(w http.ResponseWriter, r *http.Request, token string) {
	v := h.find(token)
	if v == nil {
		refuse(w, errClosed)
		return
	}
	id := r.URL.Query().Get("operationId")
	if id == "" {
		fail(w, http.StatusBadRequest, errorList("Operation ID is missing"))
		return
	}
	v.conn.stop(id)
	w.WriteHeader(http.StatusOK)
}

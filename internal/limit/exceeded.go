package limit

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Code is an exceeded limit's in the extensions of a GraphQL error.
const Code = "LIMIT_EXCEEDED"

// Exceeded is the error of somebody who wants more than a limit allows.
type Exceeded struct {
	Limit string        // its name
	Max   int           // what it allows
	After time.Duration // when to try again; zero: time changes nothing
	Text  string        // what is too much, for the client to read
	Busy  bool          // the server is at its limit, rather than this client
}

func (e *Exceeded) Error() string {
	if e.After <= 0 {
		return e.Text
	}
	return e.Text + "; try again in " + strconv.Itoa(e.Seconds()) + " s"
}

// Seconds is After in whole seconds, at least one; zero if time changes nothing.
func (e *Exceeded) Seconds() int {
	if e.After <= 0 {
		return 0
	}
	return int((e.After + time.Second - 1) / time.Second)
}

// GraphQL is a list of one GraphQL error that says all of it.
func (e *Exceeded) GraphQL() []byte {
	type extensions struct {
		Code  string `json:"code"`
		Limit string `json:"limit"`
		Max   int    `json:"max"`
		After int    `json:"retryAfter,omitempty"`
	}
	b, err := json.Marshal([]struct {
		Message    string     `json:"message"`
		Extensions extensions `json:"extensions"`
	}{{e.Error(), extensions{Code, e.Limit, e.Max, e.Seconds()}}})
	if err != nil { // strings and numbers always marshal
		return []byte(`[{"message":"` + Code + `"}]`)
	}
	return b
}

// Header sets Retry-After, and gives the status of an HTTP answer: 429, or 503 if it is the server that has no room.
func (e *Exceeded) Header(h http.Header) (status int) {
	if s := e.Seconds(); s > 0 {
		h.Set("Retry-After", strconv.Itoa(s))
	}
	if e.Busy {
		return http.StatusServiceUnavailable
	}
	return http.StatusTooManyRequests
}

// named is what Count and Rate have in common.
type named struct {
	name, text string
	max        int
	refused    atomic.Int64
}

// Name is the limit's.
func (n *named) Name() string { return n.name }

// Refused is how often the limit has refused.
func (n *named) Refused() int64 { return n.refused.Load() }

// exceeded counts a refusal. The %d in text is max.
func (n *named) exceeded(after time.Duration) *Exceeded {
	n.refused.Add(1)
	return &Exceeded{Limit: n.name, Max: n.max, After: after, Text: strings.ReplaceAll(n.text, "%d", strconv.Itoa(n.max))}
}

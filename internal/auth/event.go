package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// EventHook tells a program of the user's what a client is about to do, or has done.
type EventHook struct{ asker }

// NewEventHook checks the address, which is in none of its errors. A timeout of zero is 3 s.
func NewEventHook(url string, timeout time.Duration) (*EventHook, error) {
	a, err := newAsker(url, timeout)
	return &EventHook{a}, err
}

// Tell posts an event, anything that encoding/json can write, and returns the filter of the answer: its member where, which is all it may have,
// or nil for an answer of 204. The error is ErrRefused if the hook said so, and wraps ErrUnavailable if it said anything
// unexpected, or nothing in time. It names neither the address nor what was sent.
func (h *EventHook) Tell(ctx context.Context, event any) (where map[string]any, err error) {
	text, err := json.Marshal(event)
	if err != nil {
		return nil, errors.New("the event is not JSON")
	}
	status, body, err := h.ask(ctx, text, nil)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNoContent:
		return nil, nil
	case status != http.StatusOK:
		return nil, unavailable("the hook: the answer is %d", status)
	}
	if where, err = parseFilter(body); err != nil {
		return nil, unavailable("the hook: %v", err)
	}
	return where, nil
}

// parseFilter reads an answer that has a filter, or null for none. A member of another name may be a filter that is misspelled, which must
// not be taken for none.
func parseFilter(text []byte) (map[string]any, error) {
	v, err := decode(text)
	object, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, errors.New("the answer is no JSON object")
	}
	given, ok := object["where"]
	if !ok || len(object) != 1 {
		return nil, errors.New("the answer must have the member where and no other; 204 says that there is no filter")
	}
	where, ok := given.(map[string]any)
	if !ok && given != nil {
		return nil, wrong("where")
	}
	return where, nil
}

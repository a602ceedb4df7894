package nemesis

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// silentEvents is how long an event stream may be without a sign of life: the server's heartbeats are twelve seconds apart.
const silentEvents = 15 * time.Second

// events is one event stream's life, as connection is a socket's. As a browser does, it keeps the last id that came, and says it when
// it comes back.
func (s *subscriber) events(ctx context.Context, n *node) error {
	reading, end := context.WithCancel(ctx)
	defer end()
	silence := time.AfterFunc(silentEvents, end)
	defer silence.Stop()
	params := url.Values{"query": {s.query()}, "extensions": {fmt.Sprintf(`{"connectionParams": {"tenantId": %q}}`, s.Tenant)}}
	req, err := http.NewRequestWithContext(reading, http.MethodGet, "http://"+n.clients.Addr+"/graphql?"+params.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.cursor != "" {
		req.Header.Set("Last-Event-ID", s.cursor)
	}
	transport := &http.Transport{} // no connection is used again: each is one that the nemesis may break
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode != http.StatusServiceUnavailable {
			s.odd("%s", resp.Status)
		}
		return errLeft
	}
	s.begun()
	stay := s.stay()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 64<<20)
	var kind, data, id string
	for lines.Scan() {
		silence.Reset(silentEvents)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			kind = value
		case "data":
			data = value
		case "id":
			id = value
		case "":
			if lines.Text() != "" { // a comment
				continue
			}
			if kind == "complete" {
				return errLeft
			}
			if kind == "next" {
				if err := s.event(ctx, data, id); err != nil {
					return err
				}
				if s.isDone() {
					return nil
				}
				if left, err := s.leaves(ctx, &stay); left {
					return err
				}
			}
			kind, data, id = "", "", ""
		}
	}
	return lines.Err()
}

// event takes an event of the stream.
func (s *subscriber) event(ctx context.Context, data, id string) error {
	var r struct {
		Data   struct{ C struct{ Cursor string } }
		Errors json.RawMessage
	}
	if err := json.Unmarshal([]byte(data), &r); err != nil {
		return err
	}
	if id != r.Data.C.Cursor {
		s.odd("the id %q, and the cursor %q", id, r.Data.C.Cursor)
	}
	if r.Errors != nil {
		return s.refused(ctx, r.Errors)
	}
	return s.next([]byte(data))
}

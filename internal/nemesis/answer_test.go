package nemesis

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// The frames of graphql-transport-ws, and in them what was selected.
type (
	frame struct {
		Type    string
		Payload json.RawMessage
	}
	result struct {
		Data   struct{ C *answer }
		Errors []problem
	}
	problem struct {
		Message    string
		Extensions struct{ Code string }
	}
	answer struct {
		event
		Changes  []event
		Complete bool
		Synced   bool
	}
	event struct {
		Kind        string
		Transaction string
		Cursor      *string
		Old, New    *image
		Data        *image // of an event of a channel
	}
	image struct {
		ID       int64 `json:",string"`
		V        int64 `json:",string"`
		Stamp    int64 `json:",string"`
		TenantID string
		N        int
		Grp      string
	}
)

func (i *image) row() *Row {
	if i == nil {
		return nil
	}
	return &Row{ID: i.ID, Version: i.V, Stamp: i.Stamp, Tenant: i.TenantID, N: i.N, Group: i.Grp}
}

func (s *subscriber) next(payload []byte) error {
	now := time.Now()
	var r result
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	if len(r.Errors) > 0 || r.Data.C == nil {
		s.odd("%s", payload)
		return errLeft
	}
	c := r.Data.C
	events := c.Changes
	if !s.batch {
		events = []event{c.event}
	} else if s.batches++; c.Synced {
		events = append(events, event{Kind: "SYNCED"})
	} else if len(events) == 0 {
		events = append(events, event{Kind: "COMPLETED"})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		e := &events[i]
		n := Note{At: now, Old: e.Old.row(), New: e.New.row(), Batch: s.batches, Complete: c.Complete}
		if e.Transaction != "" {
			xid, err := strconv.ParseUint(e.Transaction, 10, 64)
			if err != nil {
				return err
			}
			n.XID = xid
		}
		switch e.Kind {
		case "INITIAL":
			n.Kind = Initial
		case "SYNCED":
			n.Kind = Synced
			s.live = true
		case "COMPLETED":
			n.Kind = Completed
		case "INSERT":
			n.Kind = Insert
		case "UPDATE":
			n.Kind = Update
		case "DELETE":
			n.Kind = Delete
		case "TRUNCATE":
			n.Kind = Truncate
		case "EVENT":
			n.Kind, n.New = Event, e.Data.row()
		default:
			return fmt.Errorf("a change of kind %q", e.Kind)
		}
		s.Notes = append(s.Notes, n)
		if n.New != nil && n.New.Group == Marker {
			s.marked = true
		}
	}
	if c.Cursor != nil {
		s.cursor, s.took = *c.Cursor, now
	}
	s.done = s.marked && s.cursor != "" // which comes when all rows of the beginning are there
	return nil
}

func (s *subscriber) odd(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, clock(time.Now())+" "+fmt.Sprintf(format, args...))
}

// refused looks at the end of a subscription.
func (s *subscriber) refused(ctx context.Context, payload []byte) error {
	var ps []problem
	if err := json.Unmarshal(payload, &ps); err != nil || len(ps) == 0 {
		s.odd("%s", payload)
		return errLeft
	}
	switch ps[0].Extensions.Code {
	case "CURSOR_EXPIRED":
		at := time.Now()
		if s.cursor == "" { // before it was given one
			return errLeft
		}
		cause, err := s.why(ctx, strings.Contains(ps[0].Message, change.ErrDropped.Error()))
		if err != nil {
			return err
		}
		s.note(Note{Kind: Expired, At: at, Cause: cause, Said: ps[0].Message})
		s.cursor, s.marked = "", false
	case "SHUTTING_DOWN", "INITIAL_INTERRUPTED", "NOT_READY":
	default:
		s.odd("%s", payload)
	}
	return errLeft
}

// why asks the database what became of the cursor. away: the node says that it is not about the cursor, but about all that the
// node should have sent.
func (s *subscriber) why(ctx context.Context, away bool) (Cause, error) {
	c, err := change.ParseCursor(s.cursor)
	if err != nil {
		return Unknown, nil
	}
	for {
		cause, emptied, err := s.db.why(ctx, c.Tick.ID)
		if err == nil && cause == Unknown {
			cause, err = s.db.torn(ctx, uint64(c.Part.XID), away)
		}
		if err == nil {
			if cause == Unknown && s.db.lostSince(s.took.Add(-OnTheWay)) {
				cause = LostTail
			}
			if cause == Unknown && away && emptied {
				cause = NodeAway
			}
			return cause, nil
		}
		if !pass(ctx, 100*time.Millisecond) {
			return Unknown, ctx.Err()
		}
	}
}

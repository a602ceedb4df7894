package subs

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// numbers is a plan whose rows are {"n": <int>}: it keeps those from low up, as a filter would.
type numbers struct {
	topic   change.Topic
	low     int
	encoded *atomic.Int64
	gate    chan struct{} // not nil: Encode waits for it, as a resolver would
}

func (p *numbers) Key() string                       { return fmt.Sprint(p.topic, p.low) }
func (p *numbers) Topics() []change.Topic            { return []change.Topic{p.topic} }
func (p *numbers) Blocks() bool                      { return p.gate != nil }
func (p *numbers) Cursors() bool                     { return false }
func (p *numbers) EncodeSynced(*change.Point) []byte { return []byte("synced") }

func (p *numbers) has(r *change.Row) bool {
	if r == nil {
		return false
	}
	v, _ := r.Get("n", 0)
	n, err := strconv.Atoi(string(v))
	return err == nil && n >= p.low
}

func (p *numbers) Match(m *Match) Effect {
	if m.Change.Unserializable {
		return Failed
	}
	if m.Change.Op == change.Truncate {
		return Truncates
	}
	before, after := p.has(m.Old), p.has(m.New)
	switch {
	case before && after:
		return Changes
	case after:
		return Enters
	case before:
		return Leaves
	}
	return None
}

func (p *numbers) Encode(ctx context.Context, m *Match, e Effect) []byte {
	if p.gate != nil {
		select {
		case <-p.gate:
		case <-ctx.Done():
		}
	}
	if p.encoded != nil {
		p.encoded.Add(1)
	}
	show := func(r *change.Row) string {
		if r == nil {
			return "-"
		}
		v, _ := r.Get("n", 0)
		return string(v)
	}
	return fmt.Appendf(nil, "%d:%s>%s", e, show(m.Old), show(m.New))
}

var orders = change.Topic{Watch: 7}

func who(tenants ...string) *auth.Identity { return &auth.Identity{Tenants: tenants} }

func image(n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) }

func insert(xid change.XID, tenant string, n int) change.Change {
	return change.Change{XID: xid, Seq: int64(xid), Topic: orders, Op: change.Insert, Tenant: tenant, New: image(n)}
}

func txn(cs ...change.Change) []change.Txn { return []change.Txn{{XID: cs[0].XID, Changes: cs}} }

// client is a subscription whose wakes are events to wait for.
type client struct {
	*Reader
	woken chan struct{}
}

func attach(t *testing.T, h *Hub, p Plan, id *auth.Identity) *client {
	t.Helper()
	return attachAt(t, h, p, id, Start{})
}

func attachAt(t *testing.T, h *Hub, p Plan, id *auth.Identity, start Start) *client {
	t.Helper()
	c := &client{woken: make(chan struct{}, 1)}
	r, err := h.Attach(p, id, start, func() {
		select {
		case c.woken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Reader = r
	t.Cleanup(r.Close)
	return c
}

// take waits until n frames have come.
func (c *client) take(t *testing.T, n int) []string {
	t.Helper()
	var got []string
	for len(got) < n {
		frames, err := c.Next(nil, n-len(got))
		if err != nil {
			t.Fatalf("after %d frames: %v", len(got), err)
		}
		for _, f := range frames {
			got = append(got, string(f))
		}
		if len(frames) == 0 {
			select {
			case <-c.woken:
			case <-t.Context().Done():
				t.Fatalf("ended with %d of %d frames", len(got), n)
			}
		}
	}
	return got
}

func (c *client) nothing(t *testing.T) {
	t.Helper()
	if frames, err := c.Next(nil, 100); len(frames) > 0 || err != nil {
		t.Fatalf("got %d frames (%q), error %v; want nothing", len(frames), frames, err)
	}
}

// batches is numbers in whole transactions.
type batches struct{ numbers }

func (p *batches) Key() string   { return "batches " + p.numbers.Key() }
func (p *batches) Batches() bool { return true }

func (p *batches) EncodeBatch(ctx context.Context, ms []Matched, complete bool) []byte {
	frame := []byte{}
	for i := range ms {
		frame = append(append(frame, p.Encode(ctx, &ms[i].Match, ms[i].Effect)...), ' ')
	}
	if !complete {
		frame = append(frame, "…"...)
	}
	return frame
}

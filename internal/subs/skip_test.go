package subs

import (
	"context"
	"slices"
	"testing"
)

// odd sends nothing for even rows, as a resolver may that skips events.
type odd struct{ numbers }

func (p *odd) Encode(ctx context.Context, m *Match, e Effect) []byte {
	frame := p.numbers.Encode(ctx, m, e)
	if frame[len(frame)-1]%2 == 0 {
		return nil
	}
	return frame
}

func TestNothingIsSentForANilFrame(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	close(open)
	for name, gate := range map[string]chan struct{}{"at once": nil, "in the background": open} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := New(Options{})
			defer h.Close()
			c := attach(t, h, &odd{numbers{topic: orders, gate: gate}}, who("a"))
			for i := range 6 {
				h.Dispatch(txn(insert(10, "a", i)), nil)
			}
			if got, want := c.take(t, 3), []string{"1:->1", "1:->3", "1:->5"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			c.nothing(t)
		})
	}
}

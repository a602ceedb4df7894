package subs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
)

// ends waits until the reader has ended with ErrClosed, and lets it give nothing before.
func ends(t *testing.T, c *client) {
	t.Helper()
	for {
		frames, err := c.Next(nil, 10)
		if errors.Is(err, ErrClosed) {
			return
		}
		if len(frames) > 0 || err != nil {
			t.Fatalf("got %q, %v", frames, err)
		}
		select {
		case <-c.woken:
		case <-t.Context().Done():
			t.Fatal("never ended")
		}
	}
}

func TestCloseEndsAReaderOfALargeTransaction(t *testing.T) {
	l := large(3)
	l.fail = 1 << 30
	h := New(Options{History: l})
	c := attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(stub(), nil)
	c.nothing(t)
	h.Close()
	ends(t, c)
}

func TestCloseEndsAReaderThatWaitsForAResolver(t *testing.T) {
	h := New(Options{Background: 1})
	gate := make(chan struct{})
	c := attach(t, h, &numbers{topic: orders, gate: gate}, who("a"))
	h.Dispatch(txn(insert(1, "a", 1), insert(1, "a", 2), insert(1, "a", 3)), nil)
	c.nothing(t)
	h.Close()
	ends(t, c)
}

// A transaction is much larger than what concerns anybody in it: only that is kept, and counted.
func TestTheTailKeepsOnlyWhatMatched(t *testing.T) {
	h := newHub(t, Options{})
	attach(t, h, &numbers{topic: orders, low: 1}, who("a"))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range 20 {
		cs := []change.Change{insert(change.XID(n+1), "a", 1)}
		for range 10 {
			big := insert(change.XID(n+1), "b", 1)
			big.New = fmt.Appendf(nil, `{"n":1,"x":%q}`, strings.Repeat("x", 50_000))
			cs = append(cs, big)
		}
		h.Dispatch(txn(cs...), nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got, told := int64(after.HeapAlloc)-int64(before.HeapAlloc), h.Stats().TailBytes; got > 4*told+1<<20 {
		t.Errorf("the tail says that it has %d bytes and keeps %d", told, got)
	}
}

// noLog is a History that has nothing and says so.
type noLog struct {
	*log
	asked chan struct{}
}

func (l noLog) Txn(context.Context, change.XID, *change.Change, *change.Stub, []change.Topic, []string, int) ([]change.Change, bool, error) {
	select {
	case l.asked <- struct{}{}:
	default:
	}
	return nil, false, errors.New("the database is away")
}

// A transaction that can't be read is tried again and again, and keeps no place from what others wait for.
func TestWhatCannotBeReadHoldsUpNobody(t *testing.T) {
	l := noLog{asked: make(chan struct{}, 1)}
	h := newHub(t, Options{Background: 1, History: l})
	gate := make(chan struct{})
	close(gate)
	stuck := attach(t, h, &numbers{topic: orders}, who("a"))
	c := attach(t, h, &numbers{topic: orders, gate: gate}, who("b"))
	h.Dispatch(stub(change.Scope{Topic: orders, Tenant: "a"}), nil)
	stuck.nothing(t)
	<-l.asked
	h.Dispatch(txn(insert(10, "b", 1)), nil)
	equal(t, c.take(t, 1), "1:->1")
}

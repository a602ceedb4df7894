package subs

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

func newHub(t *testing.T, o Options) *Hub {
	h := New(o)
	t.Cleanup(h.Close)
	return h
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestATenantSeesItsRowsOnly(t *testing.T) {
	h := newHub(t, Options{})
	a, b := attach(t, h, &numbers{topic: orders}, who("a")), attach(t, h, &numbers{topic: orders}, who("b"))
	both, none := attach(t, h, &numbers{topic: orders}, who("b", "a")), attach(t, h, &numbers{topic: orders}, who())
	empty := attach(t, h, &numbers{topic: orders}, who(""))

	moved := change.Change{XID: 3, Topic: orders, Op: change.Update, OldTenant: "a", Tenant: "b", Old: image(1), New: image(2)}
	nobody := change.Change{XID: 4, Topic: orders, Op: change.Insert, New: image(3)}
	shared := change.Change{XID: 5, Topic: orders, Op: change.Insert, Shared: true, New: image(4)}
	h.Dispatch(txn(insert(1, "a", 1), moved), nil)
	h.Dispatch(txn(nobody), nil)
	h.Dispatch(txn(shared), nil)

	equal(t, a.take(t, 3), "1:->1", "3:1>-", "1:->4")
	equal(t, b.take(t, 2), "1:->2", "1:->4")
	equal(t, both.take(t, 3), "1:->1", "2:1>2", "1:->4")
	equal(t, none.take(t, 1), "1:->4")
	equal(t, empty.take(t, 1), "1:->4")
	for _, c := range []*client{a, b, both, none, empty} {
		c.nothing(t)
	}
}

func TestAGroupEncodesOnce(t *testing.T) {
	h := newHub(t, Options{})
	var encoded atomic.Int64
	var cs []*client
	for range 50 {
		cs = append(cs, attach(t, h, &numbers{topic: orders, encoded: &encoded}, who("a")))
	}
	h.Dispatch(txn(insert(1, "a", 1), insert(1, "b", 2), insert(1, "a", 3)), nil)
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() { equal(t, c.take(t, 2), "1:->1", "1:->3") })
	}
	wg.Wait()
	if n := encoded.Load(); n != 2 {
		t.Fatalf("%d encodings for 2 changes and %d subscribers of one group", n, len(cs))
	}
	if s := h.Stats(); s.Groups != 1 || s.Readers != 50 || s.Matched != 2 || s.Delivered != 100 {
		t.Fatalf("stats %+v", s)
	}
	for _, c := range cs {
		c.Close()
	}
	if s := h.Stats(); s.Groups != 0 || s.Readers != 0 {
		t.Fatalf("after all left: %+v", s)
	}
}

func TestWhoComesLaterSeesWhatComesLater(t *testing.T) {
	h := newHub(t, Options{})
	first := attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(txn(insert(1, "a", 1)), nil)
	second := attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(txn(insert(2, "a", 2)), nil)
	equal(t, first.take(t, 2), "1:->1", "1:->2")
	equal(t, second.take(t, 1), "1:->2")
}

func TestAReaderLeftBehindIsTold(t *testing.T) {
	h := newHub(t, Options{TailBytes: 4096})
	slow := attach(t, h, &numbers{topic: orders}, who("a"))
	quick := attach(t, h, &numbers{topic: orders}, who("a"))
	for n := range 200 {
		h.Dispatch(txn(insert(change.XID(n+1), "a", n)), nil)
		equal(t, quick.take(t, 1), fmt.Sprintf("1:->%d", n))
	}
	if frames, err := slow.Next(nil, 10); len(frames) != 0 || !errors.Is(err, ErrOverflow) {
		t.Fatalf("got %d frames and %v, want ErrOverflow", len(frames), err)
	}
	if s := h.Stats(); s.TailBytes > 4096 || s.TailTxns > 20 {
		t.Fatalf("the tail is not bounded: %+v", s)
	}
}

func TestRecheckEndsAPlanAfterWhatItHas(t *testing.T) {
	h := newHub(t, Options{})
	keeps, ends := attach(t, h, &numbers{topic: orders}, who("a")), attach(t, h, &numbers{topic: orders, low: 1}, who("a"))
	h.Dispatch(txn(insert(1, "a", 1)), nil)
	changed := errors.New("the table changed")
	h.Recheck(func(p Plan) error {
		if p.(*numbers).low == 1 {
			return changed
		}
		return nil
	})
	again := attach(t, h, &numbers{topic: orders, low: 1}, who("a"))
	h.Dispatch(txn(insert(2, "a", 2)), nil)
	equal(t, ends.take(t, 1), "1:->1")
	if _, err := ends.Next(nil, 1); !errors.Is(err, changed) {
		t.Fatalf("got %v", err)
	}
	equal(t, keeps.take(t, 2), "1:->1", "1:->2")
	equal(t, again.take(t, 1), "1:->2")
}

func TestAResolverHoldsUpItsOwnGroupOnly(t *testing.T) {
	h := newHub(t, Options{})
	gate := make(chan struct{})
	slow, quick := attach(t, h, &numbers{topic: orders, low: 1, gate: gate}, who("a")), attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(txn(insert(1, "a", 1), insert(1, "a", 2)), nil)
	equal(t, quick.take(t, 2), "1:->1", "1:->2")
	slow.nothing(t)
	close(gate)
	equal(t, slow.take(t, 2), "1:->1", "1:->2")
}

func TestADamagedImageBecomesAnError(t *testing.T) {
	h := newHub(t, Options{})
	a, b := attach(t, h, &numbers{topic: orders}, who("a")), attach(t, h, &numbers{topic: orders}, who("b"))
	bad := insert(1, "a", 1)
	bad.New = []byte(`{"n":`)
	h.Dispatch(txn(bad, insert(1, "a", 2)), nil)
	equal(t, a.take(t, 2), "6:->-", "1:->2")
	b.nothing(t)
}

func TestCloseEndsReaders(t *testing.T) {
	h := New(Options{})
	c := attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(txn(insert(1, "a", 1)), nil)
	h.Close()
	equal(t, c.take(t, 1), "1:->1")
	if _, err := c.Next(nil, 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if _, err := h.Attach(&numbers{topic: orders}, who("a"), Start{}, func() {}); !errors.Is(err, ErrClosed) {
		t.Fatalf("attached to a closed hub: %v", err)
	}
}

// Subscribers come, read at their own pace and go while transactions flow; each sees a run of them without a gap.
func TestComingAndGoingWhileChangesFlow(t *testing.T) {
	h := newHub(t, Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
				h.Dispatch(txn(insert(change.XID(n), "a", n)), nil)
			}
		}
	})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for range 30 {
				c := attach(t, h, &numbers{topic: orders}, who("a"))
				last := 0
				for i, f := range c.take(t, 40) {
					var n int
					if _, err := fmt.Sscanf(f, "1:->%d", &n); err != nil || i > 0 && n != last+1 {
						t.Errorf("%q after %d (%v)", f, last, err)
						return
					}
					last = n
				}
				c.Close()
			}
		})
	}
	readers.Wait()
	close(stop)
	wg.Wait()
}

func TestTenantsKeyTellsApart(t *testing.T) {
	keys := map[string][]string{}
	for _, ts := range [][]string{nil, {""}, {"a"}, {"a", "b"}, {"ab"}, {"a\x00"}, {"a\x00\x00b"}, {"a", "\x00b"}, {"a\x00", "b"}} {
		k := tenantsKey(&auth.Identity{Tenants: ts})
		if other, ok := keys[k]; ok {
			t.Errorf("%q and %q have one key", ts, other)
		}
		keys[k] = ts
	}
	if tenantsKey(who("b", "a", "b")) != tenantsKey(who("a", "b")) {
		t.Error("order or repetition of tenants changes the key")
	}
}

func TestTenantsAreThoseOfTheBeginning(t *testing.T) {
	h := newHub(t, Options{})
	id := who("a")
	c := attach(t, h, &numbers{topic: orders}, id)
	id.Tenants[0] = "b"
	h.Dispatch(txn(insert(1, "a", 1), insert(1, "b", 2)), nil)
	equal(t, c.take(t, 1), "1:->1")
	c.nothing(t)
	c.Close()
	if len(h.topics) != 0 {
		t.Error("its group is still in the index")
	}
}

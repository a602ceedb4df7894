package subs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/notifyql/notifyql/internal/change"
)

func TestSequenceEndsWhereItCannotTell(t *testing.T) {
	order := func(n int) change.Change {
		return change.Change{Topic: orders, Op: change.Insert, Tenant: "a", New: fmt.Appendf(nil, `{"n":%d,"k":1,"v":0}`, n)}
	}
	joins := change.Change{Topic: members, Op: change.Insert, Tenant: "a", New: []byte(`{"n":1,"k":1,"u":0}`)}
	tooMany := func() (cs []change.Change) {
		for n := range maxMembers + 1 {
			cs = append(cs, change.Change{Topic: members, Op: change.Insert, Tenant: "a", New: fmt.Appendf(nil, `{"n":%d,"k":1,"u":0}`, n)})
		}
		return cs
	}
	for _, c := range []struct {
		name   string
		bytes  int64
		writes []change.Change
		err    error
		says   string
	}{
		{"rows beyond the bound", 600, []change.Change{order(1), order(2), order(3), joins}, ErrUntold, "more than 600 bytes"},
		{"a change without images", 0, []change.Change{order(1), joins, {Topic: orders, Op: change.Update, Tenant: "a", OldTenant: "a", Unserializable: true}}, ErrUntold, "can't be converted"},
		{"a table that is empty since", 0, []change.Change{order(1), joins, {Topic: orders, Op: change.Truncate}}, ErrUntold, "truncated since"},
		{"a member without images", 0, []change.Change{{Topic: members, Op: change.Update, Tenant: "a", OldTenant: "a", Unserializable: true}}, ErrUntold, "user's rows can't be read"},
		{"a member without a key", 0, []change.Change{{Topic: members, Op: change.Insert, Tenant: "a", New: []byte(`{"n":1,"k":-1,"u":0}`)}}, ErrUntold, "user's rows can't be read"},
		{"too many members", 0, tooMany(), change.ErrUnreadable, "more than 5000 rows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &memlog{era: 1}
				src := newSource(l, Options{SnapshotBytes: c.bytes})
				defer src.h.Close()
				s, err := src.h.Follow(&through{rowSet{topic: orders, all: true}, "0"}, who("a"), Start{}, func() {})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				for i := range 300 {
					if i == 20 { // it is live
						l.add(c.writes)
					}
					var frames [][]byte
					if frames, err = s.Next(nil, 100); err != nil || len(frames) > 0 {
						if err == nil {
							t.Errorf("it is sent %s", frames[0])
						}
						break
					}
					for src.begin(); src.dispatch(len(c.writes), false); {
					}
					src.answer()
					synctest.Wait()
				}
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("it ends with %v", err)
				}
			})
		})
	}
}

// A hub that is closed, and a log that is none, begin nothing; what is being read for a sequence ends with it, and with the hub.
func TestSequenceAndItsHub(t *testing.T) {
	p := &through{rowSet{topic: orders, all: true}, "0"}
	if _, err := newHub(t, Options{}).Follow(p, who("a"), Start{}, func() {}); !errors.Is(err, ErrNoHistory) {
		t.Errorf("without a log: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		play := newPlay(Options{})
		h := play.nodes[0].h
		for range cap(h.rowing) { // by who takes rows slowly
			h.rowing <- struct{}{}
		}
		first, err := h.Follow(p, who("a"), Start{}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		woken := make(chan struct{}, 1)
		wake := func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
		second, err := h.Follow(p, who("a"), Start{}, wake)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(play.waiting) == 0 {
			t.Error("it waits for those who read rows")
		}
		if pr := first.Progress(); !pr.CatchingUp || pr.Behind != 0 {
			t.Errorf("%+v", pr)
		}
		first.Close()
		synctest.Wait()
		changed := errors.New("the table changed")
		h.Recheck(func(q Plan) error {
			if q != Plan(p) {
				t.Errorf("asked about %v", q)
			}
			return changed
		})
		synctest.Wait()
		if len(woken) == 0 {
			t.Error("it was not woken")
		}
		if _, err := second.Next(nil, 1); !errors.Is(err, changed) {
			t.Errorf("got %v", err)
		}
		second.Close()
		synctest.Wait()
		for range len(woken) {
			<-woken
		}
		third, err := h.Follow(p, who("a"), Start{}, wake)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.Close()
		<-woken
		if _, err := third.Next(nil, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		third.Close()
		if _, err := h.Follow(p, who("a"), Start{}, func() {}); !errors.Is(err, ErrClosed) {
			t.Errorf("behind the end: %v", err)
		}
		play.nodes[1].h.Close()
	})
}

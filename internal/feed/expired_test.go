package feed

import (
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// When the log was emptied past the frontier the node goes on from where the log is: what was dispatched meanwhile is not
// dispatched again, what is given up stays so, and what comes later is dispatched once.
func TestExpired(t *testing.T) {
	now := time.Unix(0, 0)
	at := func(x change.XID, running ...change.XID) change.Snapshot {
		s := change.Snapshot{Xmin: x, Xmax: x, Xip: running}
		if len(running) > 0 {
			s.Xmin = running[0]
		}
		return s
	}
	one := func(xs ...change.XID) Notified {
		var in Notified
		for _, x := range xs {
			in.Notices = append(in.Notices, Notice{Change: change.Change{XID: x, Seq: int64(x)}})
		}
		return in
	}
	start := func() (*Machine, Sweep) { // a sweep that goes before what is notified
		m := New()
		m.Step(now, Opened{Snapshot: at(10)})
		m.Step(now, Lost{})
		_, acts := m.Step(now, Opened{Snapshot: at(20)})
		return m, acts[0].(Sweep)
	}

	t.Run("held", func(t *testing.T) {
		m, sweep := start()
		if txns, _ := m.Step(now, one(21, 23)); txns != nil {
			t.Fatal("not held")
		}
		if txns, _ := m.Step(now, Expired{ID: sweep.ID + 1, Snapshot: at(22)}); txns != nil || m.Stats().Expired != 0 {
			t.Fatalf("it was not asked for: %v", txns)
		}
		txns, acts := m.Step(now, Expired{ID: sweep.ID, Snapshot: at(22)})
		if len(txns) != 1 || txns[0].XID != 23 || acts != nil {
			t.Fatalf("dispatched %v, asked for %v; want 23 alone: the snapshot sees 21", txns, acts)
		}
		if s := m.Stats(); s.State != Listening || s.Expired != 1 || s.Held != 0 {
			t.Errorf("%+v", s)
		}
		if txns, _ := m.Step(now, one(22, 15, 23)); len(txns) != 1 || txns[0].XID != 22 {
			t.Errorf("dispatched %v, want 22", txns)
		}
	})

	t.Run("dispatched meanwhile", func(t *testing.T) {
		m := New()
		m.Step(now, Opened{Snapshot: at(10)})
		_, acts := m.Step(now, Beat{LastSeq: 5, Snapshot: at(20)})
		sweep := acts[0].(Sweep) // nothing waits for it
		if txns, _ := m.Step(now, one(31, 32)); len(txns) != 2 {
			t.Fatal("it waits")
		}
		if txns, _ := m.Step(now, Expired{ID: sweep.ID, Snapshot: at(33, 31, 32)}); txns != nil {
			t.Fatalf("dispatched %v", txns)
		}
		if txns, _ := m.Step(now, one(31, 33)); len(txns) != 1 || txns[0].XID != 33 {
			t.Errorf("dispatched %v, want 33 alone", txns)
		}
	})

	t.Run("a part of an answer", func(t *testing.T) {
		m, sweep := start()
		m.Step(now, Swept{ID: sweep.ID, Snapshot: at(25), More: true, Txns: []change.Txn{{XID: 12, Changes: []change.Change{{XID: 12, Seq: 1}}}}})
		m.Step(now, Expired{ID: sweep.ID, Snapshot: at(26)})
		_, acts := m.Step(now, Beat{LastSeq: 99, Snapshot: at(27)})
		if len(acts) != 1 || acts[0].(Sweep).From.Snapshot.Xmax != 26 {
			t.Errorf("%v, want a sweep from 26", acts)
		}
	})

	// The debt that arose while the sweep was under way stays: what was dropped since then is found.
	t.Run("a debt", func(t *testing.T) {
		m, sweep := start()
		m.Step(now, Lost{})
		if _, acts := m.Step(now, Expired{ID: sweep.ID, Snapshot: at(22)}); acts != nil {
			t.Fatalf("%v before there is a listener", acts)
		}
		_, acts := m.Step(now, Opened{Snapshot: at(30)})
		if len(acts) != 1 || acts[0].(Sweep).From.Snapshot.Xmax != 22 {
			t.Errorf("%v, want a sweep from 22", acts)
		}
	})
}

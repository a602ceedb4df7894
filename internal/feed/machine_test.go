package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// run gives inputs to a machine and tells what comes out as text: transactions as "xid:seq seq", with an ellipsis where
// one goes on, and actions by their names.
type run struct {
	*Machine
	now time.Time
}

func newRun(inputs ...Input) *run {
	r := &run{New(), time.Unix(1_700_000_000, 0)}
	for _, in := range inputs {
		r.give(in)
	}
	return r
}

func (r *run) give(in Input) string {
	if _, ok := in.(Beat); ok {
		r.now = r.now.Add(time.Second)
	}
	txns, acts := r.Step(r.now, in)
	var out []string
	for _, t := range txns {
		out = append(out, describe(t))
	}
	for _, a := range acts {
		out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", a), "feed."))
	}
	return strings.Join(out, ", ")
}

func snap(text string) change.Snapshot {
	s, err := change.ParseSnapshot(text)
	if err != nil {
		panic(err)
	}
	return s
}

func changeOf(x change.XID, seq int64) change.Change { return change.Change{XID: x, Seq: seq} }

func notify(pairs ...int64) Notified {
	var n Notified
	for ; len(pairs) > 0; pairs = pairs[2:] {
		n.Notices = append(n.Notices, Notice{Change: changeOf(change.XID(pairs[0]), pairs[1]), Marker: pairs[1] == 0})
	}
	return n
}

func txn(x change.XID, seqs ...int64) change.Txn {
	t := change.Txn{XID: x}
	for _, seq := range seqs {
		t.Changes = append(t.Changes, changeOf(x, seq))
	}
	return t
}

func TestStep(t *testing.T) {
	t.Parallel()
	opened := Opened{Snapshot: snap("10:10:")}
	type step struct {
		in   Input
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"inline changes go on at once, once, those of one transaction together", []step{
			{opened, ""},
			{notify(9, 1, 10, 2, 10, 3, 11, 4), "10: 2 3, 11: 4"},
			{notify(11, 4, 11, 5, 10, 2), "11: … 5"},
		}},
		{"notifications that came before the snapshot wait for it", []step{
			{notify(9, 1, 10, 2), ""},
			{opened, "10: 2"},
		}},
		{"a marker: what is behind it is in the log too, what comes during the sweep may not be", []step{
			{opened, ""},
			{notify(10, 1, 11, 2, 11, 0, 12, 4), "10: 1, 11: 2, Sweep"},
			{notify(13, 5), ""},
			{Swept{ID: 1, Snapshot: snap("13:13:"), Txns: []change.Txn{txn(12, 4), txn(11, 2, 3)}}, "11: … 3, 12: 4, 13: 5"},
		}},
		{"a marker of what a sweep has brought asks for nothing", []step{
			{opened, ""},
			{notify(10, 0), "Sweep"},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1"},
			{notify(10, 0, 10, 1), ""},
		}},
		{"nothing waits for a heartbeat's sweep", []step{
			{opened, ""},
			{Beat{LastSeq: 3, Snapshot: snap("12:12:")}, "Sweep"},
			{notify(10, 1), "10: 1"},
			{Swept{ID: 1, Snapshot: snap("12:12:"), Txns: []change.Txn{txn(10, 1), txn(11, 2)}}, "11: 2"},
		}},
		{"a marker during a heartbeat's sweep is one more sweep", []step{
			{opened, ""},
			{Beat{LastSeq: 3, Snapshot: snap("12:12:")}, "Sweep"},
			{notify(11, 0, 12, 3), ""},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1, Sweep"},
			{Swept{ID: 2, Snapshot: snap("13:13:"), Txns: []change.Txn{txn(11, 2), txn(12, 3)}}, "11: 2, 12: 3"},
		}},
		{"what is lost between two connections is swept, in several answers", []step{
			{opened, ""},
			{notify(10, 1), "10: 1"},
			{Lost{}, ""},
			{notify(10, 2), ""},
			{opened, "Sweep"},
			{notify(14, 9), ""},
			{Swept{ID: 1, Snapshot: snap("14:14:"), Txns: []change.Txn{txn(12, 4), txn(10, 1, 2, 7)}, More: true}, "10: … 2 7, 12: 4"},
			{SweepFailed{ID: 1}, "Sweep"},
			{Swept{ID: 2, Snapshot: snap("14:14:"), Txns: []change.Txn{txn(12, 4), txn(13, 5)}}, "13: 5"},
			{notify(14, 9), "14: 9"},
		}},
		{"a sweep of before the new connection does not count for it", []step{
			{opened, ""},
			{notify(10, 0), "Sweep"},
			{Lost{}, ""},
			{opened, ""},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1, Sweep"},
			{Swept{ID: 2, Snapshot: snap("12:12:"), Txns: []change.Txn{txn(11, 2)}}, "11: 2"},
		}},
		{"opened anew without a loss is a loss", []step{
			{opened, ""},
			{opened, "Sweep"},
		}},
		{"answers to nothing are ignored", []step{
			{opened, ""},
			{Swept{ID: 1, Snapshot: snap("99:99:"), Txns: []change.Txn{txn(10, 1)}}, ""},
			{SweepFailed{ID: 0}, ""},
			{notify(10, 1), "10: 1"},
		}},
		{"heartbeats deliver while there is no listener", []step{
			{opened, ""},
			{Lost{}, ""},
			{Beat{LastSeq: 1, Snapshot: snap("11:11:")}, "Sweep"},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1"},
			{Beat{LastSeq: 1, Snapshot: snap("11:11:")}, ""},
		}},
		{"late is not lost: the notification comes, then another", []step{
			{opened, ""},
			{Beat{LastSeq: 2, Snapshot: snap("11:11:")}, "Sweep"},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1"},
			{notify(10, 1), ""},
			{notify(11, 2), "11: 2"},
			{Beat{LastSeq: 2, Snapshot: snap("12:12:")}, "Sweep"},
		}},
		{"overtaken is lost", []step{
			{opened, ""},
			{Beat{LastSeq: 2, Snapshot: snap("11:11:")}, "Sweep"},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1"},
			{notify(11, 2), "11: 2, Reopen"},
			{notify(12, 3), "12: 3"},
			{Lost{}, ""},
			{opened, "Sweep"},
		}},
		{"silent is lost", []step{
			{opened, ""},
			{Beat{LastSeq: 2, Snapshot: snap("11:11:")}, "Sweep"},
			{Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}, "10: 1"},
			{Beat{LastSeq: 2, Snapshot: snap("11:11:")}, "Reopen"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRun()
			for i, s := range c.steps {
				if got := r.give(s.in); got != s.want {
					t.Fatalf("step %d, %T: got %q, want %q", i+1, s.in, got, s.want)
				}
			}
		})
	}
}

// TestIdle: an idle log costs nothing, and a busy cluster costs an idle log one sweep in ten seconds.
func TestIdle(t *testing.T) {
	t.Parallel()
	r := newRun(Opened{Snapshot: snap("10:10:")}, Beat{LastSeq: 5, Snapshot: snap("10:10:")}, Swept{ID: 1, Snapshot: snap("10:10:")})
	for range 100 {
		if got := r.give(Beat{LastSeq: 5, Snapshot: snap("10:10:")}); got != "" {
			t.Fatalf("idle, and asks for %s", got)
		}
	}
	var sweeps int
	for x := change.XID(11); x < 111; x++ {
		s := change.Snapshot{Xmin: x, Xmax: x}
		if r.give(Beat{LastSeq: 5, Snapshot: s}) == "Sweep" {
			sweeps++
			r.give(Swept{ID: r.sweeps, Snapshot: s})
		}
	}
	if sweeps != 10 {
		t.Errorf("%d sweeps in 100 seconds", sweeps)
	}
}

// TestBounds: whatever comes while a sweep is slow, what is held and listed is bounded, and nothing of it is lost.
func TestBounds(t *testing.T) {
	t.Parallel()
	r := newRun(Opened{Snapshot: snap("10:10:")}, notify(10, 0))
	image := make([]byte, 100_000)
	for seq := int64(2); seq < 2_000; seq++ {
		n := notify(9+seq, seq)
		n.Notices[0].Change.New = image
		if got := r.give(n); got != "" {
			t.Fatalf("not held: %s", got)
		}
		if r.heldBytes > r.limits.heldBytes || len(r.held) > r.limits.heldNotices {
			t.Fatalf("%d notices of %d bytes are held", len(r.held), r.heldBytes)
		}
	}
	if got := r.give(Swept{ID: 1, Snapshot: snap("11:11:"), Txns: []change.Txn{txn(10, 1)}}); got != "10: 1, Sweep" {
		t.Fatalf("got %q", got)
	}
	if s := r.Stats(); s.State != Sweeping || s.Held != 0 || s.LeftToSweep != 1_999 {
		t.Errorf("%+v", s)
	}

	r = newRun(Opened{Snapshot: snap("10:10:")})
	for x := int64(10); r.sweeps == 0; x++ {
		r.give(notify(x, x))
		if r.f.Len() > r.limits.frontier+1 {
			t.Fatalf("the frontier lists %d transactions", r.f.Len())
		}
	}
	last := change.XID(r.f.Snapshot.Xmax) + change.XID(r.f.Len())
	r.give(Swept{ID: 1, Snapshot: change.Snapshot{Xmin: last, Xmax: last}})
	if s := r.Stats(); s.Frontier > 1 || s.State != Listening {
		t.Errorf("%+v", s)
	}
}

// TestKeepsNoSlice: the driver may use its slice of notices again.
func TestKeepsNoSlice(t *testing.T) {
	t.Parallel()
	r := newRun(Opened{Snapshot: snap("10:10:")}, notify(10, 0))
	n := notify(11, 2, 12, 3)
	r.give(n)
	clear(n.Notices)
	if got := r.give(Swept{ID: 1, Snapshot: snap("11:11:")}); got != "11: 2, 12: 3" {
		t.Errorf("held and dispatched: %q", got)
	}
	n = notify(13, 4)
	txns, _ := r.Step(r.now, n)
	clear(n.Notices)
	if txns[0].Changes[0].Seq != 4 {
		t.Error("a dispatched change is the driver's memory")
	}
}

// FuzzStep: whatever comes, in whatever order, the machine stays within its bounds and has one sweep under way.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 10, 1, 10, 1, 1, 11, 0, 2, 1, 20, 3, 4, 5, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		next := func() int64 {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int64(b)
		}
		m := New()
		m.limits.heldNotices, m.limits.frontier, m.limits.late = 3, 3, 2
		now := time.Unix(0, 0)
		var ids []int
		for len(in) > 0 {
			var input Input
			switch next() % 9 {
			case 0:
				x := change.XID(next())
				input = Opened{Snapshot: change.Snapshot{Xmin: x, Xmax: x}, Mode: ModeRow{Mode(next() % 2), next()}, Relayed: next()%2 == 0}
			case 1:
				input = notify(next(), next(), next(), next())
			case 2:
				x := change.XID(next())
				input = Swept{ID: int(next()), Snapshot: change.Snapshot{Xmin: x, Xmax: x}, Txns: []change.Txn{txn(change.XID(next()), next(), next())}, More: next()%2 == 0}
			case 3:
				input = SweepFailed{ID: int(next())}
			case 4:
				input = Lost{}
			case 5:
				now = now.Add(time.Duration(next()) * 100 * time.Millisecond)
				input = Beat{LastSeq: next(), Number: next(), Free: next()%2 == 0}
			case 6:
				x := change.XID(next())
				input = Expired{ID: int(next()), Snapshot: change.Snapshot{Xmin: x, Xmax: x}}
			case 7:
				input = then(say(Mode(next()%2), next(), next(), next()), notify(next(), next()))
			case 8:
				t := txn(change.XID(next()), next(), next())
				t.Whole = next()%2 == 0
				x := change.XID(next())
				input = Notified{Notices: []Notice{{Txn: &t}, {Folded: &Folded{Snapshot: change.Snapshot{Xmin: x, Xmax: x}}}}}
			}
			_, acts := m.Step(now, input)
			switch in := input.(type) {
			case Swept:
				if !in.More {
					ids = slices.DeleteFunc(ids, func(id int) bool { return id == in.ID })
				}
			case SweepFailed:
				ids = slices.DeleteFunc(ids, func(id int) bool { return id == in.ID })
			case Expired:
				ids = slices.DeleteFunc(ids, func(id int) bool { return id == in.ID })
			}
			for _, a := range acts {
				if s, ok := a.(Sweep); ok {
					ids = append(ids, s.ID)
				}
			}
			if len(ids) > 1 {
				t.Fatalf("sweeps %v are under way at once", ids)
			}
			if s := m.Stats(); s.Held > 3 || len(m.late) > 2 || (s.State == Down || s.Mode == Busy) && s.State != Starting && s.Held > 0 {
				t.Fatalf("%+v, late %d", s, len(m.late))
			}
		}
	})
}

package feed

import (
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// say is an announcement behind notices.
func say(mode Mode, number int64, pairs ...int64) Notified {
	n := notify(pairs...)
	n.Notices = append(n.Notices, Notice{Announced: &ModeRow{mode, number}})
	return n
}

func then(ns ...Notified) (all Notified) {
	for _, n := range ns {
		all.Notices = append(all.Notices, n.Notices...)
	}
	return all
}

func TestModeSteps(t *testing.T) {
	t.Parallel()
	quiet := Opened{Snapshot: snap("10:10:"), Mode: ModeRow{Quiet, 4}}
	busy := Opened{Snapshot: snap("10:10:"), Mode: ModeRow{Busy, 5}}
	found := func(id int, s string, txns ...change.Txn) Swept {
		return Swept{ID: id, Snapshot: snap(s), Txns: txns}
	}
	type step struct {
		in   Input
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
		mode  Mode
	}{
		{"from busy on what is notified is dropped, and swept; sweep follows sweep", []step{
			{quiet, ""},
			{then(say(Busy, 5, 10, 1), notify(11, 2)), "10: 1, Sweep"},
			{notify(12, 3), ""},
			{found(1, "13:13:", txn(11, 2), txn(12, 3)), "11: 2, 12: 3, Sweep"},
			{found(2, "13:13:"), "Sweep"},
			{Lost{}, ""},
			{found(3, "14:14:", txn(13, 4)), "13: 4, Sweep"},
		}, Busy},
		{"quiet: a sweep that begins after it, then what is notified", []step{
			{busy, "Sweep"},
			{then(notify(10, 1), say(Quiet, 6), notify(12, 3)), ""},
			{found(1, "10:10:"), "Sweep"},
			{notify(13, 4), ""},
			{found(2, "13:13:", txn(10, 1), txn(11, 2), txn(12, 3)), "10: 1, 11: 2, 12: 3, 13: 4"},
			{notify(14, 5), "14: 5"},
		}, Quiet},
		{"the last announcement decides", []step{
			{quiet, ""},
			{then(say(Busy, 5), say(Quiet, 6), say(Busy, 7)), "Sweep"},
			{notify(10, 1), ""},
		}, Busy},
		{"announcements in what is dropped count", []step{
			{quiet, ""},
			{then(notify(10, 0), say(Busy, 5, 11, 2), notify(12, 3)), "Sweep"},
			{found(1, "13:13:", txn(10, 1)), "10: 1, Sweep"},
		}, Busy},
		{"announced before the first snapshot", []step{
			{then(notify(10, 1), say(Busy, 5), notify(11, 2)), ""},
			{quiet, "Sweep"},
			{notify(12, 3), ""},
		}, Busy},
		{"who finds the leader gone is swept whole", []step{
			{quiet, ""},
			{say(Busy, 0, 10, 1, 11, 3), "10: 1, Sweep"},
			{found(1, "13:13:", txn(12, 2), txn(11, 3, 4)), "12: 2, 11: 3 4, Sweep"},
		}, Busy},
		{"K is free: the leader is gone, and the listener owed nothing", []step{
			{quiet, ""},
			{Beat{LastSeq: 1, Number: 4}, "Sweep"},
			{found(1, "11:11:", txn(10, 1)), "10: 1"},
			{Beat{LastSeq: 1, Number: 4, Free: true}, "Sweep"},
		}, Busy},
		{"K was free before the announcement", []step{
			{busy, "Sweep"},
			{say(Quiet, 6), ""},
			{found(1, "10:10:"), "Sweep"},
			{Beat{Number: 5, Free: true}, ""},
		}, Quiet},
		{"opened anew, the row counts, also with a lower number", []step{
			{busy, "Sweep"},
			{found(1, "10:10:"), "Sweep"},
			{Lost{}, ""},
			{Opened{Snapshot: snap("10:10:"), Mode: ModeRow{Quiet, 2}}, ""},
			{found(2, "10:10:"), "Sweep"},
			{found(3, "11:11:", txn(10, 1)), "10: 1"},
			{notify(11, 2), "11: 2"},
			{Beat{Number: 2, Free: true}, "Sweep"},
		}, Busy},
		{"an announcement that does not come: the connection is dead", []step{
			{busy, "Sweep"},
			{Beat{Number: 6}, ""},
			{Beat{Number: 6}, "Reopen"},
		}, Busy},
		{"who joins is answered by the next sweep", []step{
			{busy, "Sweep"},
			{Joining{Ticket: 1}, ""},
			{found(1, "10:10:"), "Sweep"},
			{found(2, "10:10:"), "Joined, Sweep"},
		}, Busy},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRun()
			for i, s := range c.steps {
				if got := r.give(s.in); got != s.want {
					t.Fatalf("step %d, %T: got %q, want %q", i+1, s.in, got, s.want)
				}
			}
			if got := r.Stats().Mode; got != c.mode {
				t.Errorf("%s, want %s", got, c.mode)
			}
		})
	}
}

// TestPace: the sweeps of a busy stream wait longer and longer where they find nothing, and where they find something four times
// what one takes.
func TestPace(t *testing.T) {
	t.Parallel()
	m, now := New(), time.Unix(0, 0)
	_, acts := m.Step(now, Opened{Snapshot: snap("10:10:"), Mode: ModeRow{Busy, 1}})
	next := func(took time.Duration, txns ...change.Txn) time.Duration {
		t.Helper()
		s := acts[0].(Sweep)
		now = now.Add(s.Wait + took)
		_, acts = m.Step(now, Swept{ID: s.ID, Snapshot: snap("10:10:"), Txns: txns})
		return acts[0].(Sweep).Wait
	}
	ms := time.Millisecond
	for i, want := range []time.Duration{ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 20 * ms, 20 * ms} {
		if got := next(3 * ms); got != want {
			t.Errorf("after %d sweeps that found nothing: %v, want %v", i+1, got, want)
		}
	}
	for took, want := range map[time.Duration]time.Duration{ms / 10: ms, 3 * ms: 12 * ms, time.Second: 20 * ms} {
		if got := next(took, txn(10, 1)); got != want {
			t.Errorf("after one of %v that found something: %v, want %v", took, got, want)
		}
	}
	now = now.Add(time.Second)
	s := acts[0].(Sweep)
	_, acts = m.Step(now, say(Quiet, 2))
	_, none := m.Step(now, say(Busy, 0))
	if acts != nil || none != nil {
		t.Fatal("two sweeps at once")
	}
	if _, acts = m.Step(now, Swept{ID: s.ID, Snapshot: snap("10:10:")}); acts[0].(Sweep).Wait != 0 {
		t.Errorf("the leader is gone, and the sweep waits %v", acts[0].(Sweep).Wait)
	}
	if st := m.Stats(); st.Deserted != 1 || st.Mode != Busy {
		t.Errorf("%+v", st)
	}
}

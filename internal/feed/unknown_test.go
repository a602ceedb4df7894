package feed

import (
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// A notification that cannot be read may be one of the transaction that is being received: a sweep looks, and what it finds
// of that transaction is dispatched.
func TestMarkerOfUnknownTransaction(t *testing.T) {
	now := time.Now()
	m := New()
	m.Step(now, Opened{Snapshot: change.Snapshot{Xmin: 10, Xmax: 10}})
	txns, actions := m.Step(now, Notified{Notices: []Notice{
		{Change: change.Change{XID: 12, Seq: 1}},
		{Marker: true},
		{Change: change.Change{XID: 13, Seq: 3}},
	}})
	if len(txns) != 1 || len(actions) != 1 {
		t.Fatalf("got %d transactions and %d actions, want one of each", len(txns), len(actions))
	}
	sweep := actions[0].(Sweep)
	if open, seq := sweep.From.Open(); open != 12 || seq != 1 || sweep.From.Contains(12) {
		t.Errorf("the sweep takes transaction 12 for complete")
	}
	txns, _ = m.Step(now, Swept{ID: sweep.ID, Snapshot: change.Snapshot{Xmin: 14, Xmax: 14}, Txns: []change.Txn{
		{XID: 12, Changes: []change.Change{{XID: 12, Seq: 2}}},
		{XID: 13, Changes: []change.Change{{XID: 13, Seq: 3}}},
	}})
	if len(txns) != 2 || txns[0].XID != 12 || !txns[0].Continued {
		t.Errorf("got %+v, want the rest of 12, then 13", txns)
	}
}

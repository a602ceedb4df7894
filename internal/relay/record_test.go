package relay

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

var key = []byte("notifyql_0123456789abcdef")

func drawSnapshot(t *rapid.T) change.Snapshot {
	s := change.Snapshot{Xmin: change.XID(rapid.Uint64Range(3, 1<<40).Draw(t, "xmin"))}
	s.Xmax = s.Xmin
	for range rapid.IntRange(0, 4).Draw(t, "running") {
		s.Xip = append(s.Xip, s.Xmax)
		s.Xmax += change.XID(rapid.Uint64Range(1, 9).Draw(t, "step"))
	}
	return s
}

func drawChange(t *rapid.T, xid change.XID) change.Change {
	image := func(name string) []byte {
		if rapid.Bool().Draw(t, name) {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, name)
	}
	text, number := rapid.StringN(0, 8, 32), rapid.Uint32()
	return change.Change{
		XID: xid, Seq: rapid.Int64Range(1, 1<<62).Draw(t, "seq"), At: time.UnixMicro(rapid.Int64Range(-1<<50, 1<<50).Draw(t, "at")).UTC(),
		Topic:          change.Topic{Watch: change.WatchID(rapid.Int32Range(0, 1<<30).Draw(t, "watch")), Channel: text.Draw(t, "channel")},
		Op:             rapid.SampledFrom([]change.Op{change.Insert, change.Update, change.Delete, change.Truncate, change.Event}).Draw(t, "op"),
		Unserializable: rapid.Bool().Draw(t, "unserializable"), Shared: rapid.Bool().Draw(t, "shared"),
		Tenant: text.Draw(t, "tenant"), OldTenant: text.Draw(t, "old tenant"), EventType: text.Draw(t, "type"),
		Leaf: number.Draw(t, "leaf"), OldLeaf: number.Draw(t, "old leaf"),
		OldTID: change.TID{Block: number.Draw(t, "block"), Offset: rapid.Uint16().Draw(t, "offset")},
		NewTID: change.TID{Block: number.Draw(t, "block"), Offset: rapid.Uint16().Draw(t, "offset")},
		Old:    image("old"), New: image("new"),
	}
}

func drawTxn(t *rapid.T) change.Txn {
	txn := change.Txn{XID: change.XID(rapid.Uint64Range(1, 1<<63).Draw(t, "xid")), Whole: rapid.Bool().Draw(t, "whole")}
	if rapid.IntRange(0, 3).Draw(t, "stub") == 0 {
		txn.Whole = true
		txn.Stub = &change.Stub{
			AfterSeq: rapid.Int64Range(0, 1<<40).Draw(t, "after"), LastSeq: rapid.Int64Range(0, 1<<40).Draw(t, "last"),
			LastAt: time.UnixMicro(rapid.Int64Range(0, 1<<50).Draw(t, "at")).UTC(), Era: change.Era(rapid.Uint64().Draw(t, "era")),
		}
		for range rapid.IntRange(0, 3).Draw(t, "scopes") {
			txn.Stub.Scopes = append(txn.Stub.Scopes, change.Scope{Topic: change.Topic{Watch: 7, Channel: rapid.String().Draw(t, "channel")}, Tenant: rapid.String().Draw(t, "tenant")})
		}
		return txn
	}
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		txn.Changes = append(txn.Changes, drawChange(t, txn.XID))
	}
	return txn
}

// What is put into a record comes out of it.
func TestRecordsSayWhatWasPutIn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := header{session: session(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "session")), era: change.Era(rapid.Uint64().Draw(t, "era")), number: rapid.Uint64().Draw(t, "number")}
		record := make([]byte, headerBytes)
		var want items
		for range rapid.IntRange(0, 5).Draw(t, "items") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				txn := drawTxn(t)
				record = appendTxn(record, &txn)
				want.notices, want.settled = append(want.notices, feed.Notice{Txn: &txn}), false
			case 1:
				f := feed.Folded{Snapshot: drawSnapshot(t)}
				if rapid.Bool().Draw(t, "tick") {
					f.Tick = &change.Tick{Stamp: change.Stamp{ID: rapid.Int64Range(1, 1<<40).Draw(t, "id"), Bits: rapid.Uint64().Draw(t, "bits")}, Snapshot: drawSnapshot(t)}
				}
				record = appendFolded(record, &f)
				want.notices = append(want.notices, feed.Notice{Folded: &f})
			case 2:
				record, want.settled = append(record, itemSettled), true
			case 3:
				record, want.catalog = append(record, itemCatalog), true
			}
		}
		h.put(record)
		got, rest, err := unseal(seal(record, key), key)
		if err != nil || got != h {
			t.Fatalf("%+v, %v, want %+v", got, err, h)
		}
		in, err := decode(rest)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, in, want)
	})
}

func equal(t *rapid.T, got, want items) {
	if got.settled != want.settled || got.catalog != want.catalog || len(got.notices) != len(want.notices) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range got.notices {
		g, w := got.notices[i], want.notices[i]
		// The encoding is one to one, so equal bytes are equal items.
		switch {
		case w.Txn != nil && g.Txn != nil:
			if !bytes.Equal(appendTxn(nil, g.Txn), appendTxn(nil, w.Txn)) || len(g.Txn.Changes) > 0 && (g.Txn.Changes[0].New == nil) != (w.Txn.Changes[0].New == nil) {
				t.Fatalf("%+v, want %+v", *g.Txn, *w.Txn)
			}
			for k := range g.Txn.Changes {
				if c := g.Txn.Changes[k]; c.XID != w.Txn.XID || c.Topic != w.Txn.Changes[k].Topic || !c.At.Equal(w.Txn.Changes[k].At) {
					t.Fatalf("%+v, want %+v", c, w.Txn.Changes[k])
				}
			}
		case w.Folded != nil && g.Folded != nil:
			if !bytes.Equal(appendFolded(nil, g.Folded), appendFolded(nil, w.Folded)) || !g.Folded.Snapshot.Equal(w.Folded.Snapshot) {
				t.Fatalf("%+v, want %+v", *g.Folded, *w.Folded)
			}
		default:
			t.Fatalf("%+v, want %+v", g, w)
		}
	}
}

// Whoever does not know the key can't write a record, nor change one, nor pass off one of another database.
func TestASealIsOfOneDatabase(t *testing.T) {
	t.Parallel()
	txn := change.Txn{XID: 5, Whole: true, Changes: []change.Change{{XID: 5, Seq: 1, Op: change.Insert, Tenant: "a", New: []byte(`{"id":1}`)}}}
	record := appendTxn(make([]byte, headerBytes), &txn)
	(&header{number: 3}).put(record)
	record = seal(record, key)
	if _, _, err := unseal(record, key); err != nil {
		t.Fatal(err)
	}
	if _, _, err := unseal(record, []byte("another")); !errors.Is(err, errSeal) {
		t.Errorf("with another key: %v", err)
	}
	for i := 1; i < len(record); i++ {
		changed := bytes.Clone(record)
		changed[i] ^= 1
		if _, _, err := unseal(changed, key); !errors.Is(err, errSeal) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, _, err := unseal(record[:i], key); err == nil {
			t.Errorf("cut to %d bytes it is a record", i)
		}
	}
	other := bytes.Clone(record)
	other[0]++
	if _, _, err := unseal(other, key); err == nil || errors.Is(err, errSeal) {
		t.Errorf("of another version: %v", err)
	}
}

// A record whose seal is right was written by a node, of this version or another; still it must not hurt.
func FuzzDecode(f *testing.F) {
	txn := change.Txn{XID: 5, Whole: true, Changes: []change.Change{{XID: 5, Seq: 1, Op: change.Update, Tenant: "a", Old: []byte(`{}`), New: []byte(`{"id":1}`)}}}
	stub := change.Txn{XID: 6, Whole: true, Stub: &change.Stub{LastSeq: 9, Scopes: []change.Scope{{Topic: change.Topic{Watch: 1}, Tenant: "a"}}}}
	folded := feed.Folded{Snapshot: change.Snapshot{Xmin: 3, Xmax: 9, Xip: []change.XID{3, 7}}, Tick: &change.Tick{Stamp: change.Stamp{ID: 1}, Snapshot: change.Snapshot{Xmin: 3, Xmax: 3}}}
	f.Add(append(appendFolded(appendTxn(appendTxn(nil, &txn), &stub), &folded), itemSettled, itemCatalog, itemEnd))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := decode(raw)
		if err != nil {
			return
		}
		for _, n := range in.notices {
			switch {
			case n.Txn != nil:
				if again, err := decode(appendTxn(nil, n.Txn)); err != nil || len(again.notices) != 1 {
					t.Errorf("what was read can't be written and read again: %v", err)
				}
			case n.Folded != nil:
				if _, err := decode(appendFolded(nil, n.Folded)); err != nil {
					t.Errorf("what was read can't be written and read again: %v", err)
				}
			}
		}
	})
}

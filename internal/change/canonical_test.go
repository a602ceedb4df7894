package change

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func tid(n int) TID {
	if n == 0 {
		return TID{}
	}
	return TID{Block: uint32(n / 100), Offset: uint16(n % 100)}
}

// event is a change of leaf 1 from version old to version new; zero is none.
func event(seq int64, old, new int) Change {
	c := Change{XID: 7, Seq: seq, Leaf: 1, Op: Update, OldTID: tid(old), NewTID: tid(new)}
	switch {
	case old == 0:
		c.Op = Insert
	case new == 0:
		c.Op = Delete
	}
	return c
}

func seqs(cs []Change) []int64 {
	out := make([]int64, len(cs))
	for i := range cs {
		out[i] = cs[i].Seq
	}
	return out
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	truncate := Change{Seq: 3, Op: Truncate}
	other := func(c Change) Change { c.Leaf = 2; return c }
	moved := func(c Change) Change { c.Leaf, c.OldLeaf = 2, 1; return c }
	for _, c := range []struct {
		name string
		cs   []Change
		want []int64
	}{
		{"nothing", nil, []int64{}},
		{"as it was", []Change{event(1, 0, 1), event(2, 1, 2), event(3, 2, 0)}, []int64{1, 2, 3}},
		{"an update logged before its insert", []Change{event(1, 5, 6), event(2, 0, 5)}, []int64{2, 1}},
		{"a chain logged backwards", []Change{event(1, 3, 4), event(2, 2, 3), event(3, 1, 2)}, []int64{3, 2, 1}},
		{"inner ones in order, the outer one last", []Change{event(1, 2, 3), event(2, 3, 4), event(3, 1, 2)}, []int64{3, 1, 2}},
		{"others keep their places", []Change{event(1, 7, 8), event(2, 2, 3), event(3, 9, 10), event(4, 1, 2), event(5, 8, 0)}, []int64{1, 3, 4, 2, 5}},
		{"places of another leaf are others", []Change{event(1, 5, 6), other(event(2, 0, 5))}, []int64{1, 2}},
		{"one that moves comes from the one and is in the other", []Change{event(1, 2, 5), other(event(2, 6, 7)), moved(event(3, 5, 6)), event(4, 6, 0)}, []int64{1, 3, 2, 4}},
		{"one that moved before it was made", []Change{moved(event(1, 5, 6)), event(2, 0, 5)}, []int64{2, 1}},
		{"places behind a TRUNCATE are others", []Change{event(1, 5, 6), event(2, 6, 0), truncate, event(4, 0, 5), event(5, 0, 6)}, []int64{1, 2, 3, 4, 5}},
		{"behind a TRUNCATE there is order too", []Change{event(1, 0, 1), truncate, event(4, 1, 2), event(5, 0, 1)}, []int64{1, 3, 5, 4}},
		{"a damaged log: a circle", []Change{event(1, 2, 1), event(2, 1, 2), event(3, 0, 9)}, []int64{3, 1, 2}},
		{"a damaged log: its own maker", []Change{event(1, 4, 4), event(2, 0, 9)}, []int64{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			Canonical(c.cs)
			if got := seqs(c.cs); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestCanonicalChains: however the log got it, each row's versions chain; nothing is lost; what was in order stays in order.
func TestCanonicalChains(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var truth []Change
		next := 100
		rows := map[int]int{} // by row, its version; before the transaction row n has version n
		for n := range rapid.IntRange(0, 5).Draw(t, "rows") {
			rows[n+1] = n + 1
		}
		newRow := 50
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			row := rapid.IntRange(0, newRow).Draw(t, "row")
			old, ok := rows[row]
			next++
			switch {
			case !ok:
				newRow++
				rows[newRow] = next
				truth = append(truth, event(0, 0, next))
			case rapid.Bool().Draw(t, "delete"):
				delete(rows, row)
				truth = append(truth, event(0, old, 0))
			default:
				rows[row] = next
				truth = append(truth, event(0, old, next))
			}
		}
		for i, seq := range rapid.Permutation(ascending(len(truth))).Draw(t, "seqs") {
			truth[i].Seq = seq
		}
		logged := slices.SortedFunc(slices.Values(truth), func(a, b Change) int { return cmp.Compare(a.Seq, b.Seq) })
		got := slices.Clone(logged)
		Canonical(got)

		made := map[TID]bool{}
		place := map[int64]int{}
		for _, c := range truth {
			made[c.NewTID] = true
		}
		have := map[TID]bool{}
		for i, c := range got {
			place[c.Seq] = i
			if c.OldTID != (TID{}) && made[c.OldTID] && !have[c.OldTID] {
				t.Fatalf("seq %d replaces a version that is not there yet: %v", c.Seq, seqs(got))
			}
			have[c.NewTID] = true
		}
		if len(place) != len(truth) {
			t.Fatalf("%d changes of %d", len(place), len(truth))
		}
		// A change that waits for nobody keeps its place among its like.
		free := func(c Change) bool { return !made[c.OldTID] || c.OldTID == (TID{}) }
		var before, after []int64
		for _, c := range logged {
			if free(c) {
				before = append(before, c.Seq)
			}
		}
		for _, c := range got {
			if free(c) {
				after = append(after, c.Seq)
			}
		}
		if !slices.Equal(before, after) {
			t.Fatalf("the order of %v became %v", before, after)
		}
		again := slices.Clone(got)
		if Canonical(again); !slices.Equal(seqs(again), seqs(got)) {
			t.Fatalf("canonical order is not canonical: %v, then %v", seqs(got), seqs(again))
		}
	})
}

func ascending(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i + 1)
	}
	return out
}

// FuzzCanonical: whatever the log holds, it ends and every change is there once.
func FuzzCanonical(f *testing.F) {
	f.Add([]byte{2, 1, 1, 2, 0, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		var cs []Change
		for ; len(in) >= 2; in = in[2:] {
			c := event(int64(len(cs)+1), int(in[0]%16), int(in[1]%16))
			c.Leaf = uint32(in[0] / 128)
			if in[0] == 100 {
				c.Op = Truncate
			}
			cs = append(cs, c)
		}
		Canonical(cs)
		got := seqs(cs)
		slices.Sort(got)
		if !slices.Equal(got, ascending(len(cs))) {
			t.Fatalf("changes became %v", got)
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	cs := make([]Change, 10_000)
	for i := range cs {
		cs[i] = event(int64(i+1), 2*i+2, 2*i+1)
	}
	work := make([]Change, len(cs))
	for b.Loop() {
		copy(work, cs)
		Canonical(work)
	}
}

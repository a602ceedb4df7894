package change

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// dispatched is the naive model of a Frontier: for each transaction, up to which seq it was dispatched.
type dispatched map[XID]int64

const whole = int64(1) << 60

func (d dispatched) receive(x XID, seq int64) {
	if d[x] != whole {
		d[x] = max(d[x], seq)
	}
}

// TestFrontier runs a Frontier and the naive model side by side through what a node can do.
func TestFrontier(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawClock(t)
		c.advance(t)
		f := NewFrontier(c.snapshot())
		d := dispatched{}
		for x := c.first; x <= c.last(); x++ {
			if c.hasEnded(x) {
				d[x] = whole
			}
		}
		var open XID
		closeOpen := func() {
			if open != 0 {
				d[open], open = whole, 0
			}
		}
		pending := func() []XID {
			var xs []XID
			for x := c.first; x <= c.last(); x++ {
				if c.hasEnded(x) && d[x] != whole {
					xs = append(xs, x)
				}
			}
			return xs
		}
		check := func() {
			for x := c.first - 2; x <= c.last()+2; x++ {
				has := x < c.first || d[x] == whole
				if f.Contains(x) != has {
					t.Fatalf("contains %d: %v, want %v (%+v)", x, f.Contains(x), has, f)
				}
				for _, seq := range []int64{1, 2, 3, 9} {
					if want := has || seq <= d[x] && x == open; f.ContainsChange(x, seq) != want {
						t.Fatalf("contains seq %d of %d: %v, want %v", seq, x, !want, want)
					}
				}
			}
			x, seq := f.Open()
			if x != open || x != 0 && seq != d[x] || x == 0 && seq != 0 {
				t.Fatalf("open is %d up to %d, want %d up to %d", x, seq, open, d[open])
			}
			var listed []XID
			for _, x := range slices.Sorted(maps.Keys(d)) {
				if d[x] == whole && !f.Snapshot.Sees(x) {
					listed = append(listed, x)
				}
			}
			if got := f.Done(); !slices.Equal(got, listed) || f.Len() != len(listed) {
				t.Fatalf("lists %v, want %v", got, listed)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"transactions end": func(t *rapid.T) { c.advance(t) },
			"receive": func(t *rapid.T) {
				xs := pending()
				if len(xs) == 0 {
					return
				}
				x, seq := rapid.SampledFrom(xs).Draw(t, "xid"), rapid.Int64Range(1, 5).Draw(t, "seq")
				f.Receive(x, seq)
				if open != x {
					closeOpen()
				}
				open = x
				d.receive(x, seq)
			},
			"add": func(t *rapid.T) {
				xs := pending()
				if len(xs) == 0 {
					return
				}
				x := rapid.SampledFrom(xs).Draw(t, "xid")
				f.Add(x)
				if d[x] = whole; open == x {
					open = 0
				}
			},
			"close": func(*rapid.T) {
				f.Close()
				closeOpen()
			},
			"sweep": func(t *rapid.T) {
				s := c.snapshot()
				c.advance(t) // and what is received between its snapshot and its end
				for _, x := range pending() {
					if s.Sees(x) {
						f.Add(x)
						if d[x] = whole; open == x {
							open = 0
						}
					}
				}
				f.Fold(s)
			},
			"clone": func(t *rapid.T) {
				old := f
				f = f.Clone()
				old.Add(c.last() + 1)
				old.Receive(c.last()+2, 1)
			},
			"": func(*rapid.T) { check() },
		})
	})
}

func TestZeroFrontier(t *testing.T) {
	t.Parallel()
	var f Frontier
	if f.Contains(1) || f.ContainsChange(1, 1) || f.Len() != 0 || len(f.Done()) != 0 {
		t.Error("the zero frontier holds something")
	}
	f.Add(5)
	f.Receive(6, 3)
	if !f.Contains(5) || !f.ContainsChange(6, 3) || f.ContainsChange(6, 4) || f.Contains(6) {
		t.Errorf("%+v", f)
	}
	var g Frontier
	g.Fold(Snapshot{Xmin: 10, Xmax: 10})
	g.Add(10)
	if !g.Contains(9) || !g.Contains(10) || g.Contains(11) {
		t.Errorf("%+v", g)
	}
}

func BenchmarkFrontierReceive(b *testing.B) {
	f := NewFrontier(Snapshot{Xmin: 1, Xmax: 1})
	x := XID(1)
	for b.Loop() {
		if x++; !f.ContainsChange(x, int64(x)) {
			f.Receive(x, int64(x))
		}
		if f.Len() == 10_000 {
			f.Fold(Snapshot{Xmin: x, Xmax: x})
		}
	}
}

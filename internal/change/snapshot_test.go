package change

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// clock is the naive model of what Postgres knows: each transaction ever begun, and whether it has ended.
type clock struct {
	ended []bool // by xid - first
	first XID
}

func (c *clock) last() XID { return c.first + XID(len(c.ended)) - 1 }

func (c *clock) hasEnded(x XID) bool {
	return x < c.first || x <= c.last() && c.ended[x-c.first]
}

// snapshot is what pg_current_snapshot says: xmax is one past the highest that has ended.
func (c *clock) snapshot() Snapshot {
	s := Snapshot{Xmin: c.first, Xmax: c.first}
	for x := c.first; x <= c.last(); x++ {
		if c.hasEnded(x) {
			s.Xmax = x + 1
		}
	}
	s.Xmin = s.Xmax
	for x := c.first; x < s.Xmax; x++ {
		if !c.hasEnded(x) {
			s.Xip = append(s.Xip, x)
			s.Xmin = min(s.Xmin, x)
		}
	}
	return s
}

// advance begins and ends some transactions.
func (c *clock) advance(t *rapid.T) {
	for range rapid.IntRange(0, 6).Draw(t, "begun") {
		c.ended = append(c.ended, false)
	}
	for i := range c.ended {
		if !c.ended[i] && rapid.IntRange(0, 2).Draw(t, "end") == 0 {
			c.ended[i] = true
		}
	}
}

func drawClock(t *rapid.T) *clock {
	first := rapid.SampledFrom([]XID{3, 731, 1<<32 - 2, 1 << 32, 1<<63 + 5}).Draw(t, "first")
	return &clock{first: first}
}

func TestSnapshotIsWhatHadEnded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawClock(t)
		c.advance(t)
		s := c.snapshot()
		for x := c.first - 2; x <= c.last()+3; x++ {
			if s.Sees(x) != c.hasEnded(x) {
				t.Fatalf("%v: sees %d: %v, want %v", s, x, s.Sees(x), c.hasEnded(x))
			}
		}
		again, err := ParseSnapshot(s.String())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%v is read as %v, %v", s, again, err)
		}
		before := slices.Clone(c.ended)
		c.advance(t)
		ended := !slices.Equal(before, c.ended[:len(before)]) || slices.Contains(c.ended[len(before):], true)
		if now := c.snapshot(); now.Equal(s) == ended {
			t.Fatalf("%v and %v are equal: %v, although a transaction has ended: %v", s, now, !ended, ended)
		}
	})
}

func TestParseSnapshot(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10:20:10,14,15":                   "",
		"10:10:":                           "",
		"4294967296:4294967300:4294967297": "",
		"18446744073709551614:18446744073709551615:": "",
		"":                        "want xmin:xmax:xip",
		"10:20":                   "want xmin:xmax:xip",
		"0:20:":                   "want 0 < xmin",
		"20:10:":                  "want 0 < xmin",
		"+1:20:":                  "xmin is no",
		"1:-2:":                   "xmax is no",
		"1:99999999999999999999:": "xmax is no",
		"10:20:9":                 "outside of",
		"10:20:20":                "outside of",
		"10:20:x":                 "outside of",
		"10:20:14,12":             "not ascending",
		"10:20:12,12":             "not ascending",
		"10:20:12,":               "trailing comma",
		"10:20:,12":               "outside of",
		" 10:20:":                 "xmin is no",
	} {
		s, err := ParseSnapshot(text)
		switch {
		case want == "" && (err != nil || s.String() != text):
			t.Errorf("%q is read as %v, %v", text, s, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
	long := "1:9:" + strings.Repeat("x", 1<<20)
	if _, err := ParseSnapshot(long); err == nil || len(err.Error()) > 200 {
		t.Error("a long text makes a long error")
	}
}

func FuzzParseSnapshot(f *testing.F) {
	for _, text := range []string{"10:20:10,14,15", "10:10:", "1:2:1,", "::", "0:0:", "9:1:"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSnapshot(text)
		if err != nil {
			return
		}
		again, err := ParseSnapshot(s.String())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%q is %v, which is read as %v, %v", text, s, again, err)
		}
		if s.Sees(s.Xmax) || s.Xmin > 1 && !s.Sees(s.Xmin-1) {
			t.Fatalf("%v sees what it cannot", s)
		}
	})
}

func BenchmarkSnapshotSees(b *testing.B) {
	s := Snapshot{Xmin: 1000, Xmax: 3000}
	for x := XID(1000); x < 3000; x += 2 {
		s.Xip = append(s.Xip, x)
	}
	for b.Loop() {
		if s.Sees(2000) {
			b.Fatal()
		}
	}
}

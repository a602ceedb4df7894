package change

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawCursor(t *rapid.T) Cursor {
	id := rapid.Int64Range(1, math.MaxInt64)
	bits := rapid.Uint64()
	c := Cursor{Tick: Stamp{id.Draw(t, "tick"), bits.Draw(t, "bits")}, Era: Era(bits.Draw(t, "era"))}
	last := rapid.SampledFrom([]XID{0, 700, 1 << 32, 1 << 62}).Draw(t, "xids from")
	for range rapid.IntRange(0, 60).Draw(t, "done") {
		last += XID(rapid.SampledFrom([]int{1, 1, 1, 2, 100, 1 << 20}).Draw(t, "gap"))
		c.Done = append(c.Done, last)
	}
	if c.Done != nil {
		c.Sum = bits.Draw(t, "sum")
	}
	if rapid.Bool().Draw(t, "in part") {
		c.Part = Part{XID: XID(rapid.Uint64Min(1).Draw(t, "xid")), Seq: id.Draw(t, "seq"), Sum: bits.Draw(t, "part's sum")}
	}
	if rapid.Bool().Draw(t, "in an interval") {
		c.Upper, c.Last = Stamp{id.Draw(t, "upper"), bits.Draw(t, "bits")}, id.Draw(t, "last")
	}
	return c
}

func same(a, b Cursor) bool {
	done := slices.Equal(a.Done, b.Done)
	a.Done, b.Done = nil, nil
	return done && fmt.Sprint(a) == fmt.Sprint(b)
}

func TestCursorText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawCursor(t)
		text := c.String()
		got, err := ParseCursor(text)
		if err != nil || !same(got, c) {
			t.Fatalf("%s is read as %+v, %v; want %+v", text, got, err, c)
		}
		other := drawCursor(t)
		other.Tick, other.Era, other.Done, other.Sum = c.Tick, c.Era, c.Done, c.Sum
		if text := string(c.Base().Append(nil, &other)); text != other.String() {
			t.Fatalf("with a base made before: %s, want %s", text, other.String())
		}
		// One character more, less, or another: no cursor.
		i := rapid.IntRange(0, len(text)-1).Draw(t, "place")
		for _, bad := range []string{text[:i], text[:i] + text[i+1:], text[:i] + "A" + text[i:], text[:i] + "_" + text[i+1:]} {
			if bad == text {
				continue
			}
			if got, err := ParseCursor(bad); !errors.Is(err, ErrCursorInvalid) {
				t.Fatalf("%s with a slip, %s, is read as %+v, %v", text, bad, got, err)
			}
		}
	})
}

// TestCursorSize: a usual cursor is under 100 characters, one with 500 transactions in any pattern under 2,000.
func TestCursorSize(t *testing.T) {
	t.Parallel()
	c := Cursor{Tick: Stamp{100_000, math.MaxUint64}, Era: math.MaxUint64, Part: Part{1 << 40, 1 << 40, math.MaxUint64}}
	for i := range 5 {
		c.Done = append(c.Done, 1<<40+XID(3*i))
	}
	if n := len(c.String()); n > 125 {
		t.Errorf("a cursor with some transactions takes %d characters: %s", n, c)
	}
	c.Done = nil
	if n := len(c.String()); n > 100 {
		t.Errorf("a cursor takes %d characters: %s", n, c)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for name, gap := range map[string]func(i int) int{
		"each": func(int) int { return 1 }, "every other": func(int) int { return 2 }, "pairs": func(i int) int { return 1 + i%2 },
		"runs of three": func(i int) int { return 1 + i%3/2 }, "one of twenty": func(int) int { return 20 },
		"any of 10,000": func(int) int { return 1 + r.IntN(40) }, "one of many": func(int) int { return 5_000 }, "far between": func(int) int { return 16_000 },
	} {
		c.Done = nil
		last := XID(1 << 40)
		for i := range 500 {
			last += XID(gap(i))
			c.Done = append(c.Done, last)
		}
		c.Upper, c.Last = Stamp{1 << 40, 1 << 63}, math.MaxInt64
		if n := len(c.String()); n >= 2000 {
			t.Errorf("500 transactions, %s: %d characters", name, n)
		}
		if got, err := ParseCursor(c.String()); err != nil || !same(got, c) {
			t.Errorf("500 transactions, %s: read as %v, %v", name, got, err)
		}
	}
}

var update = flag.Bool("update", false, "write the golden files anew, for a new version of the format")

// goldenCursors are cursors with the names that they have in testdata/cursors.txt.
func goldenCursors() (names []string, cursors []Cursor) {
	c := Cursor{Tick: Stamp{7, 0x0102030405060708}, Era: 0xfeed}
	add := func(name string, c Cursor) { names, cursors = append(names, name), append(cursors, c) }
	add("v1 tick", c)
	c.Done, c.Sum = []XID{740, 741, 742, 743, 744, 750, 4_294_967_300}, 0xabcdef
	add("v1 done", c)
	c.Part = Part{751, 9_000, 0x77}
	add("v1 part", c)
	c.Upper, c.Last = Stamp{8, 0x1112131415161718}, 8_999
	add("v1 interval", c)
	return names, cursors
}

// TestOldCursors: what earlier versions gave out can be read. The lines of testdata/cursors.txt are never changed, only
// added to.
func TestOldCursors(t *testing.T) {
	t.Parallel()
	const path = "testdata/cursors.txt"
	names, cursors := goldenCursors()
	if *update {
		var b strings.Builder
		for i, name := range names {
			fmt.Fprintf(&b, "%s: %s\n", name, cursors[i])
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(file)), "\n") {
		name, text, _ := strings.Cut(line, ": ")
		if name != names[i] {
			t.Fatalf("line %d is %q, want %q", i+1, name, names[i])
		}
		if got, err := ParseCursor(text); err != nil || !same(got, cursors[i]) {
			t.Errorf("%s: read as %+v, %v; want %+v", name, got, err, cursors[i])
		}
		if text := cursors[i].String(); !strings.HasSuffix(line, ": "+text) {
			t.Errorf("%s: is written as %s now; what was written before: %s", name, text, line)
		}
	}
}

// withFields makes the text of a cursor with more fields, as a later version would.
func withFields(c *Cursor, base, place string) string {
	b, _ := cursorText.DecodeString(c.Base().text)
	b = append(b, base...)
	cb := CursorBase{text: cursorText.EncodeToString(b), check: 0}
	whole := string(CursorBase{}.Append(nil, c))
	p, _ := cursorText.DecodeString(whole[1:])
	p = append(p[:len(p)-4], place...)
	return sealed(cb.text, b, p)
}

func TestNewerCursors(t *testing.T) {
	t.Parallel()
	_, cursors := goldenCursors()
	for _, c := range cursors {
		for name, fields := range map[string][2]string{
			"nothing": {"", ""}, "optional fields": {"\x80\x03abc\xff\x00", "\x81\x01x"},
		} {
			if got, err := ParseCursor(withFields(&c, fields[0], fields[1])); err != nil || !same(got, c) {
				t.Errorf("%s: read as %+v, %v", name, got, err)
			}
		}
		for name, fields := range map[string][2]string{
			"a field that must be known": {"\x06\x00", ""}, "one in the place": {"", "\x07\x01x"}, "the era again": {"\x02\x08aaaaaaaa", ""},
			"a length too long": {"\x80\x05abc", ""}, "no length": {"\x80", ""}, "a place in the base": {"\x05\x00", ""},
		} {
			if got, err := ParseCursor(withFields(&c, fields[0], fields[1])); !errors.Is(err, ErrCursorInvalid) {
				t.Errorf("%s: read as %+v, %v", name, got, err)
			}
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	_, cursors := goldenCursors()
	for _, c := range cursors {
		base, _ := cursorText.DecodeString(c.Base().text)
		whole := string(CursorBase{}.Append(nil, &c))
		place, _ := cursorText.DecodeString(whole[1:])
		f.Add(c.String(), base, place[:len(place)-4])
	}
	f.Add(".", []byte{1, 3, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x7f}, []byte{})
	f.Fuzz(func(t *testing.T, text string, base, place []byte) {
		if _, err := ParseCursor(text); err != nil && !errors.Is(err, ErrCursorInvalid) {
			t.Fatalf("%q: %v", text, err)
		}
		// What a checksum would keep from us most of the time.
		c, err := ParseCursor(sealed(cursorText.EncodeToString(base), base, place))
		if err != nil {
			return
		}
		if len(c.Done) > maxCursorDone || !slices.IsSorted(c.Done) || c.Tick.ID <= 0 {
			t.Fatalf("%x %x is read as %+v", base, place, c)
		}
		again, err := ParseCursor(c.String())
		if err != nil || !same(again, c) {
			t.Fatalf("%+v is read as %+v, %v", c, again, err)
		}
	})
}

func BenchmarkCursor(b *testing.B) {
	c := Cursor{Tick: Stamp{100_000, math.MaxUint64}, Era: math.MaxUint64}
	for i := range 250 {
		c.Done = append(c.Done, 1<<32+XID(3*i))
	}
	b.Run("base", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Base()
		}
	})
	base := c.Base()
	c.Part = Part{1 << 33, 1 << 34, math.MaxUint64}
	var dst []byte
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = base.Append(dst[:0], &c)
		}
	})
	b.Run("parse", func(b *testing.B) {
		text := c.String()
		for b.Loop() {
			if _, err := ParseCursor(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// sealed puts the parts of a cursor's text together, with the right checksum.
func sealed(text string, base, place []byte) string {
	check := crc32.Update(crc32.Checksum(base, cursorCheck), cursorCheck, place)
	return text + "." + cursorText.EncodeToString(binary.LittleEndian.AppendUint32(slices.Clone(place), check))
}

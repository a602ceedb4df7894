package change

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
)

// The text of a cursor is two parts in unpadded base64url with a dot between: what many cursors of one moment have in common,
// and the place of this one with a checksum of all. In each part there are fields: a tag, the length of the value, the value.
// Before the first stands the version of the format.
//
// Another version of the program may add fields. One that may be left out by whoever does not know it has a tag of 128 or
// above; any other tag that is not known makes the cursor invalid. Numbers are uvarints, sums and random bits 8 bytes,
// the low byte first.
const (
	cursorVersion = 1

	tagTick  = 1 // id, bits
	tagEra   = 2 // bits
	tagDone  = 3 // sum, then xids: each as the distance from the one before, or 0 and n: n that follow without a gap
	tagPart  = 4 // sum, xid, seq
	tagUpper = 5 // id, bits, last

	tagOptional = 128
)

// What is longer is not one of ours.
const (
	maxCursorText = 16 << 10
	maxCursorDone = 10_000
)

var (
	cursorText  = base64.RawURLEncoding.Strict()
	cursorCheck = crc32.MakeTable(crc32.Castagnoli)
)

// CursorBase is what the cursors of one moment have in common, encoded once.
type CursorBase struct {
	text  string
	check uint32
}

// Base encodes what of the cursor does not depend on Part, Upper and Last.
func (c *Cursor) Base() CursorBase {
	b := make([]byte, 0, 48+2*len(c.Done))
	b = append(b, cursorVersion)
	b = appendField(b, tagTick, func(b []byte) []byte { return appendStamp(b, c.Tick) })
	b = appendField(b, tagEra, func(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, uint64(c.Era)) })
	if len(c.Done) > 0 {
		b = appendField(b, tagDone, func(b []byte) []byte {
			return appendXIDs(binary.LittleEndian.AppendUint64(b, c.Sum), c.Done)
		})
	}
	return CursorBase{text: cursorText.EncodeToString(b), check: crc32.Checksum(b, cursorCheck)}
}

// Append appends the text of the cursor that c is, whose base b must be.
func (b CursorBase) Append(dst []byte, c *Cursor) []byte {
	dst = append(dst, b.text...)
	dst = append(dst, '.')
	var space [64]byte
	place := space[:0]
	if c.Part.XID != 0 {
		place = appendField(place, tagPart, func(b []byte) []byte {
			b = binary.LittleEndian.AppendUint64(b, c.Part.Sum)
			b = binary.AppendUvarint(b, uint64(c.Part.XID))
			return binary.AppendUvarint(b, uint64(c.Part.Seq))
		})
	}
	if c.Upper.ID != 0 {
		place = appendField(place, tagUpper, func(b []byte) []byte {
			return binary.AppendUvarint(appendStamp(b, c.Upper), uint64(c.Last))
		})
	}
	place = binary.LittleEndian.AppendUint32(place, crc32.Update(b.check, cursorCheck, place))
	return cursorText.AppendEncode(dst, place)
}

// String gives the cursor's text, which ParseCursor reads.
func (c Cursor) String() string { return string(c.Base().Append(nil, &c)) }

// appendField appends a tag, the length of what value appends, and that. Values are longer than 127 bytes only in tagDone.
func appendField(b []byte, tag byte, value func([]byte) []byte) []byte {
	v := value(nil)
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendStamp(b []byte, s Stamp) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, uint64(s.ID)), s.Bits)
}

func appendXIDs(b []byte, xs []XID) []byte {
	var last XID
	for i := 0; i < len(xs); {
		n := 0 // without a gap from here
		for i > 0 && i+n < len(xs) && xs[i+n] == last+XID(n)+1 {
			n++
		}
		if n >= 3 {
			b = binary.AppendUvarint(append(b, 0), uint64(n))
			i += n
		} else {
			b = binary.AppendUvarint(b, uint64(xs[i]-last))
			i++
		}
		last = xs[i-1]
	}
	return b
}

// ParseCursor reads a cursor's text. Whatever the text, the error is ErrCursorInvalid and the memory it takes is bounded.
func ParseCursor(text string) (Cursor, error) {
	if len(text) > maxCursorText {
		return Cursor{}, fmt.Errorf("%w: it is too long", ErrCursorInvalid)
	}
	first, second, ok := strings.Cut(text, ".")
	base, err1 := cursorText.DecodeString(first)
	place, err2 := cursorText.DecodeString(second)
	if !ok || err1 != nil || err2 != nil || len(base) == 0 || len(place) < 4 {
		return Cursor{}, fmt.Errorf("%w: it is cut short, or something was added", ErrCursorInvalid)
	}
	if base[0] != cursorVersion {
		return Cursor{}, fmt.Errorf("%w: it is of version %d of the format, which this server does not know", ErrCursorInvalid, base[0])
	}
	place, sum := place[:len(place)-4], binary.LittleEndian.Uint32(place[len(place)-4:])
	if crc32.Update(crc32.Checksum(base, cursorCheck), cursorCheck, place) != sum {
		return Cursor{}, fmt.Errorf("%w: its checksum is wrong", ErrCursorInvalid)
	}
	r := cursorReader{}
	r.fields(base[1:], tagTick, tagDone)
	r.fields(place, tagPart, tagUpper)
	if c := &r.c; r.bad == "" && (c.Tick.ID == 0 || r.last < tagEra) {
		r.bad = "it names no tick or no era"
	}
	if r.bad != "" {
		return Cursor{}, fmt.Errorf("%w: %s", ErrCursorInvalid, r.bad)
	}
	return r.c, nil
}

// cursorReader reads fields into a cursor, until something is bad.
type cursorReader struct {
	c    Cursor
	last byte // the highest tag of ours so far
	b    []byte
	bad  string
}

// fields reads the fields of one part, in which tags of ours from low to high stand in ascending order.
func (r *cursorReader) fields(b []byte, low, high byte) {
	for len(b) > 0 && r.bad == "" {
		tag := b[0]
		r.b = b[1:]
		n := r.number()
		if n > uint64(len(r.b)) {
			r.fail("a field is cut short")
			return
		}
		r.b, b = r.b[:n], r.b[n:]
		switch {
		case tag >= tagOptional:
			continue
		case tag < low || tag > high || tag <= r.last:
			r.fail(fmt.Sprintf("it has a field %d that this server does not know there", tag))
			return
		case tag == tagEra && r.last != tagTick || tag == tagDone && r.last != tagEra:
			r.fail("a field is missing")
			return
		}
		r.last = max(r.last, tag)
		r.field(tag)
		if len(r.b) > 0 {
			r.fail("a field is too long")
		}
	}
}

func (r *cursorReader) field(tag byte) {
	c := &r.c
	switch tag {
	case tagTick:
		c.Tick = r.stamp()
	case tagEra:
		c.Era = Era(r.bits())
	case tagDone:
		c.Sum = r.bits()
		c.Done = r.xids()
	case tagPart:
		c.Part.Sum = r.bits()
		c.Part.XID, c.Part.Seq = XID(r.number()), r.positive()
		if c.Part.XID == 0 {
			r.fail("it names the transaction 0")
		}
	case tagUpper:
		c.Upper = r.stamp()
		c.Last = r.positive()
	}
}

func (r *cursorReader) fail(why string) {
	if r.bad == "" {
		r.bad = why
	}
}

func (r *cursorReader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("a number is cut short")
		r.b = nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// positive reads a number that is at least 0 as an int64.
func (r *cursorReader) positive() int64 {
	n := r.number()
	if n > math.MaxInt64 {
		r.fail("a number is too large")
		return 0
	}
	return int64(n)
}

func (r *cursorReader) bits() uint64 {
	if len(r.b) < 8 {
		r.fail("a field is cut short")
		r.b = nil
		return 0
	}
	n := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return n
}

func (r *cursorReader) stamp() Stamp {
	s := Stamp{ID: r.positive(), Bits: r.bits()}
	if s.ID == 0 {
		r.fail("it names the tick 0")
	}
	return s
}

func (r *cursorReader) xids() []XID {
	var xs []XID
	var last XID
	for len(r.b) > 0 {
		gap, n := r.number(), uint64(1)
		if gap == 0 {
			gap, n = 1, r.number()
		}
		if n == 0 || n > uint64(maxCursorDone-len(xs)) {
			r.fail("it lists too many transactions")
			return nil
		}
		for range n {
			if gap > uint64(math.MaxUint64-last) {
				r.fail("a transaction id is too large")
				return nil
			}
			last += XID(gap)
			xs = append(xs, last)
		}
	}
	if len(xs) == 0 {
		r.fail("it lists no transactions")
	}
	return xs
}

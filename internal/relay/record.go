package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// A record is
//
//	version  1 byte
//	session  16 random bytes
//	era      8 bytes
//	number   8 bytes: 0, 1, 2, … within the session
//	items    each its kind, 1 byte, and what follows
//	seal     16 bytes: HMAC-SHA256 over all before, with the key of the database
//
// Numbers are uvarints, or varints where they may be negative; texts and images are their length and their bytes.
const (
	recordVersion = 1
	headerBytes   = 1 + 16 + 8 + 8
	sealBytes     = 16

	txnHeaderBytes = 2 + 10 + 10 // at most, of an item without its changes
)

// The kinds of item.
const (
	itemTxn     = 'T'
	itemFolded  = 'F'
	itemSettled = 'S' // of each transaction of which some came before, all has
	itemCatalog = 'C' // the set of watched tables is another one
	itemEnd     = 'E' // of the session
)

// The flags of a transaction, and of a change.
const (
	txnWhole = 1
	txnStub  = 2

	changeUnserializable = 1
	changeShared         = 2
)

// session is one leader's reading without a gap.
type session [16]byte

type header struct {
	session session
	era     change.Era
	number  uint64
}

// put writes the header in front of a record's items, in the bytes that are left for it.
func (h *header) put(record []byte) {
	record[0] = recordVersion
	copy(record[1:], h.session[:])
	binary.BigEndian.PutUint64(record[17:], uint64(h.era))
	binary.BigEndian.PutUint64(record[25:], h.number)
}

// seal appends what shows that the record is of a node of this database.
func seal(record, key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(record)
	return mac.Sum(record)[:len(record)+sealBytes]
}

var errSeal = errors.New("a record in the stream is not of this database's servers: is the stream's name used by others, or does somebody write into it?")

// unseal checks a record and returns its header and its items. The items share the record's memory.
func unseal(record, key []byte) (h header, items []byte, err error) {
	if len(record) < headerBytes+sealBytes {
		return h, nil, errSeal
	}
	if record[0] != recordVersion {
		return h, nil, fmt.Errorf("a record in the stream is of format %d, and this version reads %d: servers of that version and of this one use one stream", record[0], recordVersion)
	}
	body := record[:len(record)-sealBytes]
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil)[:sealBytes], record[len(body):]) {
		return h, nil, errSeal
	}
	copy(h.session[:], body[1:])
	h.era = change.Era(binary.BigEndian.Uint64(body[17:]))
	h.number = binary.BigEndian.Uint64(body[25:])
	return h, body[headerBytes:], nil
}

var errMalformed = errors.New("a record in the stream is malformed")

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendImage tells nil from empty.
func appendImage(dst, image []byte) []byte {
	if image == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(image))+1)
	return append(dst, image...)
}

func appendTopic(dst []byte, t change.Topic) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.Watch))
	return appendText(dst, t.Channel)
}

func appendChange(dst []byte, c *change.Change) []byte {
	var flags byte
	if c.Unserializable {
		flags |= changeUnserializable
	}
	if c.Shared {
		flags |= changeShared
	}
	dst = append(dst, byte(c.Op), flags)
	dst = binary.AppendUvarint(dst, uint64(c.Seq))
	dst = binary.AppendVarint(dst, c.At.UnixMicro())
	dst = appendTopic(dst, c.Topic)
	dst = appendText(dst, c.Tenant)
	dst = appendText(dst, c.OldTenant)
	dst = appendText(dst, c.EventType)
	for _, n := range [...]uint32{c.Leaf, c.OldLeaf, c.OldTID.Block, uint32(c.OldTID.Offset), c.NewTID.Block, uint32(c.NewTID.Offset)} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = appendImage(dst, c.Old)
	return appendImage(dst, c.New)
}

func appendTxn(dst []byte, t *change.Txn) []byte {
	var flags byte
	if t.Whole {
		flags |= txnWhole
	}
	if t.Stub != nil {
		flags |= txnStub
	}
	dst = append(dst, itemTxn, flags)
	dst = binary.AppendUvarint(dst, uint64(t.XID))
	if s := t.Stub; s != nil {
		dst = binary.AppendUvarint(dst, uint64(s.AfterSeq))
		dst = binary.AppendUvarint(dst, uint64(s.LastSeq))
		dst = binary.AppendVarint(dst, s.LastAt.UnixMicro())
		dst = binary.AppendUvarint(dst, uint64(s.Era))
		dst = binary.AppendUvarint(dst, uint64(len(s.Scopes)))
		for _, scope := range s.Scopes {
			dst = appendText(appendTopic(dst, scope.Topic), scope.Tenant)
		}
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Changes)))
	for i := range t.Changes {
		dst = appendChange(dst, &t.Changes[i])
	}
	return dst
}

func appendFolded(dst []byte, f *feed.Folded) []byte {
	dst = appendText(append(dst, itemFolded), f.Snapshot.String())
	if f.Tick == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(f.Tick.ID))
	dst = binary.AppendUvarint(dst, f.Tick.Bits)
	return appendText(dst, f.Tick.Snapshot.String())
}

// items are what a record says, in order.
type items struct {
	notices []feed.Notice // in which a Settled stands for itself
	settled bool          // behind the last notice
	catalog bool
	ended   bool
}

// decode reads the items of a record. What comes out shares raw's memory.
func decode(raw []byte) (out items, err error) {
	r := reader{raw: raw}
	for len(r.raw) > 0 && r.err == nil {
		switch kind := r.byte(); kind {
		case itemTxn:
			t := r.txn()
			out.notices, out.settled = append(out.notices, feed.Notice{Txn: &t}), false
		case itemFolded:
			f := r.folded()
			out.notices = append(out.notices, feed.Notice{Folded: &f})
		case itemSettled:
			out.settled = true
		case itemCatalog:
			out.catalog = true
		case itemEnd:
			out.ended = true
		default:
			r.fail()
		}
	}
	return out, r.err
}

// reader takes a record apart. After the first error it gives zeros.
type reader struct {
	raw []byte
	err error
}

func (r *reader) fail() { r.err, r.raw = errMalformed, nil }

func (r *reader) byte() byte {
	if len(r.raw) == 0 {
		r.fail()
		return 0
	}
	b := r.raw[0]
	r.raw = r.raw[1:]
	return b
}

func (r *reader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.raw)
	if size <= 0 || n > most {
		r.fail()
		return 0
	}
	r.raw = r.raw[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.raw)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.raw = r.raw[size:]
	return n
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.raw)) {
		r.fail()
		return nil
	}
	b := r.raw[:n:n]
	r.raw = r.raw[n:]
	return b
}

const (
	most63 = 1<<63 - 1
	most32 = 1<<32 - 1
	most31 = 1<<31 - 1
	most16 = 1<<16 - 1
)

func (r *reader) text() string { return string(r.bytes(r.number(most63))) }

func (r *reader) image() []byte {
	n := r.number(most63)
	if n == 0 {
		return nil
	}
	return r.bytes(n - 1)
}

func (r *reader) topic() change.Topic {
	return change.Topic{Watch: change.WatchID(r.number(most31)), Channel: r.text()}
}

func (r *reader) time() time.Time { return time.UnixMicro(r.signed()).UTC() }

func (r *reader) tid() change.TID {
	return change.TID{Block: uint32(r.number(most32)), Offset: uint16(r.number(most16))}
}

func (r *reader) change(xid change.XID) (c change.Change) {
	c.XID = xid
	c.Op = change.Op(r.byte())
	flags := r.byte()
	c.Unserializable, c.Shared = flags&changeUnserializable != 0, flags&changeShared != 0
	c.Seq = int64(r.number(most63))
	c.At = r.time()
	c.Topic = r.topic()
	c.Tenant, c.OldTenant, c.EventType = r.text(), r.text(), r.text()
	c.Leaf, c.OldLeaf = uint32(r.number(most32)), uint32(r.number(most32))
	c.OldTID, c.NewTID = r.tid(), r.tid()
	c.Old, c.New = r.image(), r.image()
	switch c.Op {
	case change.Insert, change.Update, change.Delete, change.Truncate, change.Event:
	default:
		r.fail()
	}
	if c.Seq == 0 {
		r.fail()
	}
	return c
}

func (r *reader) txn() (t change.Txn) {
	flags := r.byte()
	t.Whole = flags&txnWhole != 0
	t.XID = change.XID(r.number(1<<64 - 1))
	if flags&txnStub != 0 {
		t.Stub = r.stub()
		if !t.Whole {
			r.fail()
		}
	} else {
		n := r.number(most63)
		if n == 0 || n > uint64(len(r.raw)) { // a change has more bytes than one
			r.fail()
			return t
		}
		t.Changes = make([]change.Change, 0, min(n, 1024))
		for range n {
			c := r.change(t.XID)
			if r.err != nil {
				return t
			}
			t.Changes = append(t.Changes, c)
		}
	}
	if t.XID == 0 {
		r.fail()
	}
	return t
}

func (r *reader) stub() *change.Stub {
	s := &change.Stub{AfterSeq: int64(r.number(most63)), LastSeq: int64(r.number(most63)), LastAt: r.time(), Era: change.Era(r.number(1<<64 - 1))}
	n := r.number(most63)
	if n > uint64(len(r.raw)) {
		r.fail()
		return s
	}
	for range n {
		scope := change.Scope{Topic: r.topic(), Tenant: r.text()}
		if r.err != nil {
			return s
		}
		s.Scopes = append(s.Scopes, scope)
	}
	return s
}

func (r *reader) snapshot() (s change.Snapshot) {
	text := r.text()
	if r.err != nil {
		return s
	}
	s, err := change.ParseSnapshot(text)
	if err != nil {
		r.fail()
	}
	return s
}

func (r *reader) folded() (f feed.Folded) {
	f.Snapshot = r.snapshot()
	if id := r.number(most63); id != 0 {
		f.Tick = &change.Tick{Stamp: change.Stamp{ID: int64(id), Bits: r.number(1<<64 - 1)}}
		f.Tick.Snapshot = r.snapshot()
	}
	return f
}

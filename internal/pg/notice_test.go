package pg

import (
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// payloads are one of each kind, as the database writes them.
var payloads = []string{
	`[1,"I",734,12,1722945600123456,3,0,false,"acme",null,16412,null,"(0,1)",null,null,null,{"id":1,"name":"a\"]b","tags":["x",{"y":[]}]}]`,
	`[1,"U",734,13,-5,3,1,false,"acme","wonka",16412,"(0,1)","(4294967294,2)",null,null,null,null]`,
	`[1,"D",18446744073709551615,9223372036854775807,0,3,0,true,null,null,16412,"(7,65535)",null,null,null,{"id":1},null]`,
	`[1,"T",735,15,0,3,0,false,null,null,16412,null,null,null,null,null,null]`,
	`[1,"E",736,16,0,0,0,false,"\u00e9\ud83d\ude00\n","",null,null,null,"chat","said \"hi\"",null,"text, with [brackets"]`,
	`[1,"E",736,17,0,0,0,true,null,null,null,null,null,"chat","",null,12.5e3]`,
	`[1,"E",736,18,0,0,0,true,null,null,null,null,null,"chat","",null,null]`,
	`[1,"M",737,3,"acme",null]`,
	`[1,"M",738,null,null,null]`,
	`[1,"M",739,0,null,"chat"]`,
	`[1,"W",3]`,
	"[1, \"M\",\n740 ,3, null,\tnull]",
}

func TestParseNotice(t *testing.T) {
	want := []Parsed{
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Insert, XID: 734, Seq: 12, At: time.UnixMicro(1722945600123456).UTC(), Topic: change.Topic{Watch: 3},
			Tenant: "acme", Leaf: 16412, NewTID: change.TID{Offset: 1}, New: []byte(`{"id":1,"name":"a\"]b","tags":["x",{"y":[]}]}`),
		}}},
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Update, XID: 734, Seq: 13, At: time.UnixMicro(-5).UTC(), Topic: change.Topic{Watch: 3}, Unserializable: true,
			Tenant: "acme", OldTenant: "wonka", Leaf: 16412, OldTID: change.TID{Offset: 1}, NewTID: change.TID{Block: 4294967294, Offset: 2},
		}}},
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Delete, XID: 18446744073709551615, Seq: 9223372036854775807, At: time.UnixMicro(0).UTC(), Topic: change.Topic{Watch: 3},
			Shared: true, Leaf: 16412, OldTID: change.TID{Block: 7, Offset: 65535}, Old: []byte(`{"id":1}`),
		}}},
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Truncate, XID: 735, Seq: 15, At: time.UnixMicro(0).UTC(), Topic: change.Topic{Watch: 3}, Leaf: 16412,
		}}},
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Event, XID: 736, Seq: 16, At: time.UnixMicro(0).UTC(), Topic: change.Topic{Channel: "chat"},
			Tenant: "é😀\n", EventType: `said "hi"`, New: []byte(`"text, with [brackets"`),
		}}},
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Event, XID: 736, Seq: 17, At: time.UnixMicro(0).UTC(), Topic: change.Topic{Channel: "chat"}, Shared: true, New: []byte(`12.5e3`),
		}}},
		{Notice: feed.Notice{Change: change.Change{
			Op: change.Event, XID: 736, Seq: 18, At: time.UnixMicro(0).UTC(), Topic: change.Topic{Channel: "chat"}, Shared: true, New: []byte(`null`),
		}}},
		{Notice: feed.Notice{Marker: true, Change: change.Change{XID: 737, Topic: change.Topic{Watch: 3}, Tenant: "acme"}}},
		{Notice: feed.Notice{Marker: true, Change: change.Change{XID: 738}}},
		{Notice: feed.Notice{Marker: true, Change: change.Change{XID: 739, Topic: change.Topic{Channel: "chat"}}}},
		{Catalog: true},
		{Notice: feed.Notice{Marker: true, Change: change.Change{XID: 740, Topic: change.Topic{Watch: 3}}}},
	}
	for i, payload := range payloads {
		got, err := ParseNotice(payload)
		if err != nil {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		if !same(got, want[i]) {
			t.Errorf("%s\n got %+v\nwant %+v", payload, got, want[i])
		}
	}
}

func same(a, b Parsed) bool {
	ac, bc := a.Notice.Change, b.Notice.Change
	images := string(ac.Old) == string(bc.Old) && string(ac.New) == string(bc.New) && (ac.Old == nil) == (bc.Old == nil) && (ac.New == nil) == (bc.New == nil)
	return images && sameChange(ac, bc) && a.Catalog == b.Catalog && a.Notice.Marker == b.Notice.Marker
}

// sameChange compares all but the images.
func sameChange(a, b change.Change) bool {
	return a.XID == b.XID && a.Seq == b.Seq && a.At.Equal(b.At) && a.Topic == b.Topic && a.Op == b.Op && a.Unserializable == b.Unserializable &&
		a.Shared == b.Shared && a.Tenant == b.Tenant && a.OldTenant == b.OldTenant && a.EventType == b.EventType &&
		a.Leaf == b.Leaf && a.OldTID == b.OldTID && a.NewTID == b.NewTID
}

// A change whose place in its transaction may be wrong is not notified inline. If it is, it is taken as a marker.
func TestParseNoticeUnordered(t *testing.T) {
	p, err := ParseNotice(strings.Replace(payloads[0], ",3,0,false", ",3,2,false", 1))
	if err != nil {
		t.Fatal(err)
	}
	if c := p.Notice.Change; !p.Notice.Marker || c.XID != 734 || c.New != nil {
		t.Errorf("got %+v, want a marker", p)
	}
}

func TestParseNoticeRefuses(t *testing.T) {
	bad := []string{
		``, `null`, `[]`, `[1]`, `[1,"X",1]`, `[2,"W",3]`, `["1","W",3]`, `[1,"W",3] x`, `[1,"W",3`, `[1,"W",-3]`, `[1,"W",2147483648]`,
		`[1,"M",0,3,"acme",null]`, `[1,"M",737,3,"acme"]`, `[1,"M",737,3,"acme",null,null]`, `[1,"M",737,3,"ac\xme",null]`,
		`[1,"M",737,3,"\ud83d",null]`, `[1,"M",737,3,"\u12",null]`, `[1,"M",737,3,"open,null]`, `[1,"M",737 3,"acme",null]`,
		`[1,"M",99999999999999999999,3,null,null]`, `{"1":"M"}`,
		`[1,"I",734,0,1,3,0,false,"acme",null,16412,null,"(0,1)",null,null,null,{}]`,
		`[1,"I",734,12,1,3,0,maybe,"acme",null,16412,null,"(0,1)",null,null,null,{}]`,
		`[1,"I",734,12,1,3,0,false,"acme",null,16412,null,"(0,65536)",null,null,null,{}]`,
		`[1,"I",734,12,1,3,0,false,"acme",null,16412,null,"0,1",null,null,null,{}]`,
		`[1,"I",734,12,1,3,0,false,"acme",null,16412,null,"(0,1)",null,null,null,{]`,
		`[1,"I",734,12,1,3,0,false,"acme",null,16412,null,"(0,1)",null,null,null,{"a":"b]`,
		`[1,"I",734,12,1,3,0,false,"acme",null,16412,null,"(0,1)",null,null,null,]`,
	}
	for _, payload := range bad {
		if p, err := ParseNotice(payload); err == nil {
			t.Errorf("%s: got %+v, want an error", payload, p)
		} else if strings.Contains(err.Error(), "acme") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error shows data or is more than a line: %v", payload, err)
		}
	}
}

func TestParseNoticeAllocatesNothing(t *testing.T) {
	for _, payload := range []string{payloads[0], payloads[1], payloads[7]} {
		if n := testing.AllocsPerRun(100, func() { _, _ = ParseNotice(payload) }); n > 0 {
			t.Errorf("%s: %v allocations", payload, n)
		}
	}
}

func FuzzParseNotice(f *testing.F) {
	for _, payload := range payloads {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		p, err := ParseNotice(payload)
		if err != nil {
			return
		}
		if c := p.Notice.Change; !p.Catalog && c.XID == 0 {
			t.Errorf("no transaction in %+v", p)
		}
		if p.Notice.Marker && (p.Notice.Change.New != nil || p.Notice.Change.Old != nil) {
			t.Errorf("a marker with an image: %+v", p)
		}
	})
}

func BenchmarkParseNotice(b *testing.B) {
	b.SetBytes(int64(len(payloads[0])))
	for b.Loop() {
		_, _ = ParseNotice(payloads[0])
	}
}

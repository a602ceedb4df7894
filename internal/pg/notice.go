package pg

import (
	"fmt"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
)

// noticeVersion is the first element of every payload this version can read.
const noticeVersion = 1

// The flags of a change, as the log and the notification have them.
const (
	flagUnserializable = 1 // the images could not be converted
	flagUnordered      = 2 // seq may not be the order of this change inside its transaction
)

// Parsed is one notification taken apart: a change, a marker or an announcement, or the news that the set of watched tables has
// changed.
type Parsed struct {
	Notice  feed.Notice
	Catalog bool // a table was watched or unwatched: read the catalog again; Notice is empty
}

// ParseNotice reads the payload of a notification: a JSON array of a fixed shape for each kind. Strings and images of the
// result share the payload's memory. Only strings with escapes are copied.
//
//	[1,"I",xid,seq,at,watch,flags,shared,tenant,old_tenant,leaf,"(b,o)","(b,o)",channel,event_type,old,new]   a change
//	[1,"M",xid,watch,tenant,channel]                                                                         a marker
//	[1,"W",watch]                                                                                            the catalog
//	[1,"B",number] [1,"Q",number]                                                                          busy, quiet
//
// Of the images only the extent is checked, as everywhere: the database wrote them.
func ParseNotice(payload string) (Parsed, error) {
	s := scanner{s: payload}
	s.open()
	if v := s.number(64); s.err == nil && v != noticeVersion {
		return Parsed{}, fmt.Errorf("notification: format %d is not known to this version, which reads %d", v, noticeVersion)
	}
	kind := s.text()
	var p Parsed
	switch kind {
	case "I", "U", "D", "T", "E":
		s.change(&p.Notice, change.Op(kind[0]))
	case "M":
		p.Notice.Marker = true
		s.marker(&p.Notice.Change)
	case "W":
		p.Catalog = true
		s.number(31)
	case "B", "Q":
		mode := feed.ModeRow{Number: int64(s.number(63))}
		if kind == "B" {
			mode.Mode = feed.Busy
		}
		p.Notice.Announced = &mode
	default:
		s.fail("a kind (I U D T E M W B Q)")
	}
	s.close()
	if s.err != nil {
		return Parsed{}, s.err
	}
	return p, nil
}

func (s *scanner) change(n *feed.Notice, op change.Op) {
	c := &n.Change
	c.Op = op
	c.XID = change.XID(s.number(64))
	c.Seq = int64(s.number(63))
	c.At = time.UnixMicro(s.signed()).UTC()
	c.Topic.Watch = change.WatchID(s.number(31))
	flags := s.number(15)
	c.Unserializable = flags&flagUnserializable != 0
	c.Shared = s.boolean()
	c.Tenant = s.textOrNull()
	c.OldTenant = s.textOrNull()
	if !s.null() {
		c.Leaf = uint32(s.number(32))
	}
	c.OldTID = s.tid()
	c.NewTID = s.tid()
	c.Topic.Channel = s.textOrNull()
	c.EventType = s.textOrNull()
	c.Old = s.image()
	c.New = s.image()
	if op == change.Event && c.New == nil {
		c.New = []byte("null") // an event has data, as in the log
	}
	if s.err == nil && (c.XID == 0 || c.Seq == 0) {
		s.fail("an xid and a seq above zero")
	}
	if flags&flagUnordered != 0 {
		// Such a change is never notified whole; whoever did has left its place in the transaction open.
		*n = feed.Notice{Marker: true, Change: change.Change{XID: c.XID, Topic: c.Topic}}
	}
}

func (s *scanner) marker(c *change.Change) {
	c.XID = change.XID(s.number(64))
	if !s.null() {
		c.Topic.Watch = change.WatchID(s.number(31))
	}
	c.Tenant = s.textOrNull()
	c.Topic.Channel = s.textOrNull()
	if s.err == nil && c.XID == 0 {
		s.fail("an xid above zero")
	}
}

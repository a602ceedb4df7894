package feed

import (
	"errors"
	"fmt"
	"slices"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// client is a subscriber of everything. What it keeps between two sockets is the text of a cursor.
type client struct {
	c      *cluster
	oracle oracle
	cursor string // empty: begins where a node is
	state  byte
	at     *server
	ticket int // of joining

	target  change.Cursor // catching up goes to here
	place   int           // in the tail: of the next entry
	inEntry int           // changes taken of it
	page    []event
	basis   string // the cursor that the page was read from
	behind  string // the cursor behind a page without changes, the client's once it is checked; empty: none
	unread  bool   // the page is not checked yet
	checked bool   // with a bug: before it is read
	phantom bool   // it has got something that a crash undid
}

// event is a change with the cursor behind it.
type event struct {
	seq    int64
	cursor change.Cursor
}

const (
	away = iota
	joining
	catching
	live
)

func (cl *client) moves(out []move, i int) []move {
	switch cl.state {
	case away:
		for n, s := range cl.c.servers {
			if s.place() != nil && n >= cl.c.leaders {
				out = append(out, move{mAttach, 100*i + n})
			}
		}
		return out
	case joining:
	default:
		reads := len(cl.page) == 0 && cl.at.era() == cl.c.w.Era && (cl.state == catching || cl.place < cl.at.end() && cl.entry().Stub != nil)
		switch {
		case cl.unread || cl.c.bugs.checkedFirst && reads && !cl.checked:
			out = append(out, move{mCheck, 100 * i})
		case cl.at.era() != cl.c.w.Era && cl.state == live: // what it takes now may be gone, and it is told so then
		case len(cl.page) > 0:
			out = append(out, move{mTake, 100 * i})
		case reads:
			out = append(out, move{mPage, 100 * i})
		case cl.state == live && cl.place < cl.at.end() && cl.entry().Stub == nil:
			out = append(out, move{mTake, 100 * i})
		}
	}
	if cl.c.faults.leaves > 0 {
		out = append(out, move{mLeave, 100 * i})
	}
	return out
}

func (cl *client) entry() *entry { return &cl.at.tail[cl.place-cl.at.base] }

func (cl *client) parse() change.Cursor {
	c, err := change.ParseCursor(cl.cursor)
	if err != nil {
		cl.c.fail("%v", err)
	}
	return c
}

func (cl *client) save(c change.Cursor) { cl.cursor = c.String() }

func (cl *client) leave() {
	cl.state, cl.at, cl.target = away, nil, change.Cursor{}
	cl.page, cl.behind, cl.unread, cl.checked = nil, "", false, false
}

// attach comes to a server: anew, or with a cursor.
func (cl *client) attach(s *server) {
	cl.leave()
	cl.at = s
	switch {
	case cl.cursor == "":
		cl.fresh()
	case cl.c.bugs.noJoin:
		cl.follow(s, s.place())
	default:
		s.tickets++
		cl.state, cl.ticket = joining, s.tickets
		s.emit(Joining{Ticket: cl.ticket})
	}
}

// follow begins to catch up with where s is now, if the cursor is good. It was made in an era that may be over.
func (cl *client) follow(s *server, to *change.Point) {
	cl.state, cl.target, cl.place, cl.inEntry = catching, to.Cursor(), s.end(), 0
	if cl.target.Era != cl.c.w.Era { // another has begun: the node will find out
		cl.attach(s)
		return
	}
	if cl.basis = cl.cursor; cl.judge() {
		c := cl.parse()
		c.Era = cl.c.w.Era
		cl.save(c)
	}
}

// fresh begins where the node is.
func (cl *client) fresh() {
	w, s := cl.c.w, cl.at
	cl.state, cl.place, cl.inEntry, cl.phantom = live, s.end(), 0, s.oracle.phantom
	cl.oracle = newOracle()
	cl.oracle.grow(w)
	for i := range w.Txs {
		if s.oracle.from.Sees(w.Txs[i].XID) && w.Txs[i].State == mvcctest.Committed {
			cl.oracle.got[i] = len(w.Txs[i].Seqs)
		} else {
			cl.oracle.got[i] = s.oracle.gotOf(i)
		}
		for _, seq := range w.Txs[i].Seqs[:cl.oracle.got[i]] {
			l := w.Log[seq-1]
			cl.oracle.ver[l.Row] = max(cl.oracle.ver[l.Row], l.Ver)
		}
	}
	cl.save(s.place().Cursor())
}

// expired begins anew. It must have been for a reason.
func (cl *client) expired(why error) {
	if !errors.Is(why, change.ErrCursorExpired) || !cl.c.dropped && !cl.phantom {
		cl.c.fail("nothing is lost for the client, and yet: %v", why)
	}
	cl.anew()
}

// anew begins anew.
func (cl *client) anew() {
	cl.cursor = ""
	s := cl.at
	cl.leave()
	cl.at = s
	cl.fresh()
}

// lose takes note of transactions that a crash undid.
func (cl *client) lose(xids []change.XID) {
	if cl.state == catching {
		cl.page, cl.behind, cl.unread = nil, "", false
	}
	for _, x := range xids {
		if i := int(x) - mvcctest.FirstXID; i < len(cl.oracle.got) {
			cl.phantom = cl.phantom || cl.oracle.got[i] > 0
			cl.oracle.got[i] = 0
		}
	}
	cl.oracle.got = cl.oracle.got[:min(len(cl.oracle.got), len(cl.c.w.Txs))]
	cl.oracle.settled = 0
}

// check looks, once a page is read, whether what it should have had may be gone.
func (cl *client) check() {
	if cl.c.bugs.checkedFirst && !cl.checked {
		cl.basis = cl.cursor
		cl.checked = cl.judge()
		return
	}
	cl.unread = false
	if cl.c.w.Era != cl.target.Era && cl.target.Tick.ID != 0 || cl.target.Tick.ID == 0 && cl.at.era() != cl.c.w.Era {
		cl.again()
		return
	}
	wasCatching := cl.target.Tick.ID != 0
	if !cl.c.bugs.checkedFirst && !cl.judge() {
		return
	}
	cl.checked = false
	if cl.behind != "" {
		cl.cursor, cl.behind = cl.behind, ""
	}
	if cl.state == live && wasCatching {
		if cl.cursor != cl.target.String() {
			cl.c.fail("caught up at %+v, want %+v, from %s", cl.parse(), cl.target, cl.basis)
		}
		cl.target = change.Cursor{}
	}
}

// again forgets the page that was read: the database lives another life.
func (cl *client) again() {
	cl.page, cl.behind = nil, ""
	if cl.target.Tick.ID != 0 {
		cl.attach(cl.at)
	}
}

// judge reports whether the client may go on from where the page was read.
func (cl *client) judge() bool {
	w := cl.c.w
	c, err := change.ParseCursor(cl.basis)
	if err != nil {
		cl.c.fail("%v", err)
	}
	s := w.Standing()
	if t := w.Tick(c.Tick.ID); cl.c.bugs.retention && t != nil && s.Dropped < t.Snapshot.Xmax {
		s.Dropped = 0
	}
	var upper *change.Tick
	if c.Upper.ID != 0 {
		upper = w.Tick(c.Upper.ID)
	}
	recheck, err := c.Check(w.Tick(c.Tick.ID), upper, s)
	if err == nil && recheck && !cl.c.bugs.eraIgnored {
		err = recheckIn(w, &c)
	}
	if err != nil {
		cl.expired(err)
		return false
	}
	if cl.phantom {
		cl.c.fail("the client goes on with changes that a crash undid")
	}
	return true
}

// recheckIn reads from the log the marks of what a cursor claims.
func recheckIn(w *mvcctest.World, c *change.Cursor) error {
	var done []change.Mark
	var part *change.Mark
	for _, x := range c.Done {
		if i := w.Index(x); i >= 0 && w.Readable(&w.Txs[i]) {
			done = append(done, w.Mark(&w.Txs[i]))
		}
	}
	if i := w.Index(c.Part.XID); i >= 0 && slices.Contains(w.Txs[i].Seqs, c.Part.Seq) {
		ch := w.Change(c.Part.Seq)
		m := change.MarkOf(&ch)
		part = &m
	}
	return c.Recheck(done, part)
}

// take takes the next change: of the page, or of the tail.
func (cl *client) take() {
	if len(cl.page) > 0 {
		e := cl.page[0]
		cl.page = cl.page[1:]
		cl.get(e.seq, e.cursor)
		return
	}
	e := cl.entry()
	seq := e.Changes[cl.inEntry].Seq
	ch := cl.c.w.Change(seq)
	cursor := e.before.In(change.PartOf(&ch))
	if cl.c.bugs.partWhole {
		cursor = e.before.Past(cl.c.w.Mark(&cl.c.w.Txs[cl.c.w.Index(e.XID)]))
	}
	if cl.c.bugs.cursorEarly && cl.inEntry+1 < len(e.Changes) {
		next := cl.c.w.Change(e.Changes[cl.inEntry+1].Seq)
		cursor = e.before.In(change.PartOf(&next))
	}
	cl.get(seq, cursor)
	if cl.inEntry++; cl.inEntry == len(e.Changes) {
		cl.place, cl.inEntry = cl.place+1, 0
	}
}

func (cl *client) get(seq int64, c change.Cursor) {
	w := cl.c.w
	i := w.Log[seq-1].Tx
	if err := cl.oracle.takes(w, i, seq); err != nil {
		cl.c.fail("a client: %v", err)
	}
	cl.save(c)
	if cl.c.trace != nil {
		cl.c.trace("    takes %d of %d: %+v", seq, w.Txs[i].XID, c)
	}
}

// read reads the next page from the log: the rest of a stub, or of what leads to the target. Before it is checked neither a
// change of it nor the place that it leads to is the client's: where something is gone, that place skips it.
func (cl *client) read() {
	w, c := cl.c.w, cl.parse()
	cl.basis, cl.unread = cl.cursor, true
	if cl.state == live {
		e := cl.entry()
		if c.Part.XID != e.XID {
			c = e.before
			if cl.c.bugs.stubSeen {
				cl.save(e.after)
			}
		}
		cl.page = rest(w, &c, e.XID, 2, cl.c.bugs.rightHere)
		if len(cl.page) == 0 {
			cl.place++
		}
		return
	}
	for range 100 {
		var done bool
		if cl.page, c, done = cl.next(w, c); done {
			cl.state = live
		}
		if len(cl.page) > 0 || done {
			break
		}
	}
	if len(cl.page) > 0 {
		return
	}
	if cl.behind = c.String(); cl.c.bugs.keptUnchecked {
		cl.save(c)
	}
}

func (o *oracle) grow(w *mvcctest.World) {
	for len(o.got) < len(w.Txs) {
		o.got = append(o.got, 0)
	}
}

// takes checks one change that a client takes of transaction i.
func (o *oracle) takes(w *mvcctest.World, i int, seq int64) error {
	o.grow(w)
	if w.Txs[i].State != mvcctest.Committed {
		return fmt.Errorf("transaction %d is not committed", w.Txs[i].XID)
	}
	if err := o.before(w, i); err != nil {
		return err
	}
	return o.change(w, i, seq)
}

func (cl *client) rest(w *mvcctest.World) error { return cl.oracle.rest(w) }

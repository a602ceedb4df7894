package subs

import (
	"fmt"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// simNode is a node: the real machine, the real hub, and between them and the model of the database a driver as the server is one.
type simNode struct {
	s   *sim
	m   *feed.Machine
	hub *Hub
	now time.Time

	conn     byte // 0 closed, 1 listening, 2 open
	pos, sub int  // what of the queue was received: transactions, and notices of the next one
	gone     bool // what was dispatched in another era is not there any more
	opened   bool // once
	reopen   bool
	ticking  bool
	sweep    simSweep
	beat     *feed.Beat

	got map[change.XID]int // changes dispatched of each transaction, in canonical order
}

type simSweep struct {
	id   int
	from change.Frontier
	era  change.Era
	read bool
	in   feed.Swept
}

func (s *sim) newNode(o Options) *simNode {
	n := &simNode{s: s, m: feed.New(), now: time.Unix(1_700_000_000, 0), got: map[change.XID]int{}}
	o.History, o.Join = s, func(ticket int) { n.emit(feed.Joining{Ticket: ticket}) }
	n.hub = New(o)
	return n
}

// emit does what Server.emit does.
func (n *simNode) emit(in feed.Input) {
	txns, actions := n.m.Step(n.now, in)
	var lost bool
	switch in := in.(type) {
	case feed.Expired:
		lost = true
	case feed.Opened:
		lost = in.Gone
	}
	if lost {
		n.hub.Recheck(func(Plan) error { return change.ErrDropped })
	}
	for i := range txns {
		n.dispatched(&txns[i])
	}
	at, before := n.m.Place(), n.hub.place.Load().at
	if n.s.bugs.placeFirst && at != nil {
		n.hub.place.Store(&place{at, n.hub.calls + 1})
	}
	n.hub.Dispatch(txns, at)
	if _, notified := in.(feed.Notified); notified && n.s.bugs.duplicates {
		n.hub.Dispatch(txns, at)
	}
	n.settle()
	for _, a := range actions {
		switch a := a.(type) {
		case feed.Joined:
			if n.s.bugs.joinedBefore {
				a.At = before
			}
			n.hub.Joined(a.Ticket, a.At)
		case feed.Sweep:
			n.sweep = simSweep{id: a.ID, from: a.From, era: a.Era}
		case feed.Tick:
			n.ticking = true
		case feed.Reopen:
			n.reopen = true
		}
	}
}

// settle does what Server.settle does, with a source that knows at once whether more of a transaction comes.
func (n *simNode) settle() {
	if st := n.m.Stats(); n.hub.Unsettled() && (!st.Open || st.State == feed.Listening && n.conn == 2 && n.sub == 0) {
		n.hub.Settle()
	}
}

// dispatched fills in the images, and takes note.
func (n *simNode) dispatched(t *change.Txn) {
	w := n.s.w
	for i := range t.Changes {
		t.Changes[i] = n.s.change(t.Changes[i].Seq)
	}
	n.got[t.XID] += len(t.Changes)
	if t.Stub != nil {
		n.got[t.XID] = len(w.Txs[w.Index(t.XID)].Seqs)
	}
}

// Moves of a node, beside those of the database and of clients.
const (
	sListen  = 'l'
	sOpen    = 'o'
	sReceive = 'r'
	sRead    = 's'
	sAnswer  = 'a'
	sFail    = 'F'
	sPulse   = 'P'
	sBeat    = 'b'
	sLose    = 'D'
	sClose   = 'c'
	sRound   = 'R'
)

func (n *simNode) moves(out []simMove, i int) []simMove {
	add := func(kind byte, k int) { out = append(out, simMove{kind, i, k}) }
	switch n.conn {
	case 0:
		add(sListen, 0)
	case 1:
		add(sOpen, 0)
	case 2:
		for k := 1; k <= min(n.s.w.Waiting(n.pos, n.sub), 3); k++ {
			add(sReceive, k)
		}
		if n.reopen {
			add(sClose, 0)
		}
		if n.s.faults.loses > 0 {
			add(sLose, 0)
		}
	}
	if n.sweep.id != 0 {
		switch {
		case n.sweep.read:
			add(sAnswer, 0)
		case !n.s.settling || n.m.Stats().Mode == feed.Quiet || n.m.Stats().State != feed.Listening || n.hub.Stats().Joining > 0 ||
			len(n.s.w.Read(&n.sweep.from, n.s.w.Snapshot())) > 0: // a busy node's sweeps never end
			add(sRead, 0)
		}
		if n.s.faults.failures > 0 {
			add(sFail, 0)
		}
	}
	if n.beat != nil {
		add(sBeat, 0)
	} else if n.opened && n.s.faults.beats > 0 {
		add(sPulse, 0)
	}
	if n.opened && n.s.faults.rounds > 0 {
		add(sRound, 0)
	}
	return out
}

func (n *simNode) do(mv simMove) {
	w := n.s.w
	switch mv.kind {
	case sListen:
		n.conn, n.sub, n.reopen = 1, 0, false
		n.enter()
		n.pos = w.Listen()
	case sOpen:
		n.open()
	case sReceive:
		n.receive(mv.k)
	case sLose:
		n.s.faults.loses--
		n.lose()
	case sClose:
		n.lose()
	case sRead:
		a := &n.sweep
		if a.era != w.Era {
			n.failed()
			return
		}
		a.read = true
		a.in = feed.Swept{ID: a.id, Snapshot: w.Snapshot()}
		a.in.Tick, a.in.Txns = w.NewestTick(a.in.Snapshot), w.Read(&a.from, a.in.Snapshot)
	case sAnswer:
		in := n.sweep.in
		n.sweep = simSweep{}
		n.emit(in)
	case sFail:
		n.s.faults.failures--
		n.failed()
	case sPulse:
		n.s.faults.beats--
		n.beat = &feed.Beat{LastSeq: w.LastSeq(), Snapshot: w.Snapshot(), Number: w.Mode().Number, Free: w.Free()}
	case sBeat:
		b := *n.beat
		n.beat, n.now = nil, n.now.Add(time.Second)
		n.emit(b)
	case sRound:
		n.s.faults.rounds--
		n.hub.Round()
	}
}

func (n *simNode) failed() {
	id := n.sweep.id
	n.sweep = simSweep{}
	n.emit(feed.SweepFailed{ID: id})
}

// enter tells the machine in which era it is, and looks whether what it dispatched in another one is still there.
func (n *simNode) enter() {
	n.gone = false
	if at := n.m.Enter(n.s.w.Era); at != nil {
		c := at.Cursor()
		n.gone = n.s.judge(&c) != nil
	}
}

func (n *simNode) open() {
	w := n.s.w
	snap := w.Snapshot()
	n.conn = 2
	if !n.opened || n.gone {
		n.opened = true
		n.got = map[change.XID]int{}
		for i := range w.Txs {
			if t := &w.Txs[i]; t.State == mvcctest.Committed && snap.Sees(t.XID) {
				n.got[t.XID] = len(t.Seqs)
			}
		}
	}
	tick := w.NewestTick(snap)
	n.emit(feed.Opened{Snapshot: snap, Gone: n.gone, Tick: *tick, Done: n.s.marks(snap, tick), Mode: modeRow(w.ModeAt(snap))})
}

func modeRow(r mvcctest.ModeRow) feed.ModeRow {
	if r.Busy {
		return feed.ModeRow{Mode: feed.Busy, Number: r.Number}
	}
	return feed.ModeRow{Number: r.Number}
}

// together is how many notices, at least count, come together: a transaction's do up to the one that says that the leader is gone.
func (n *simNode) together(count int) int {
	w := n.s.w
	pos, sub := n.pos, n.sub+count
	for ; pos < len(w.Queue); pos++ {
		t := &w.Txs[w.Queue[pos]]
		if sub < len(t.Notices) {
			if sub > 0 {
				count += max(0, t.Told()-sub)
			}
			break
		}
		sub -= len(t.Notices)
	}
	return count
}

func (n *simNode) receive(count int) {
	w := n.s.w
	var ns []feed.Notice
	for count = n.together(count); count > 0; count-- {
		t := &w.Txs[w.Queue[n.pos]]
		note := t.Notices[n.sub]
		switch {
		case note.Says:
			r := modeRow(note.Mode)
			ns = append(ns, feed.Notice{Announced: &r})
		case note.Marker:
			ns = append(ns, feed.Notice{Change: change.Change{XID: t.XID}, Marker: true})
		default:
			ns = append(ns, feed.Notice{Change: w.Change(note.Seq)})
		}
		if n.sub++; n.sub == len(t.Notices) {
			n.pos, n.sub = n.pos+1, 0
		}
	}
	n.emit(feed.Notified{Notices: ns})
}

func (n *simNode) lose() {
	was := n.conn
	n.conn, n.reopen = 0, false
	if was == 2 {
		n.emit(feed.Lost{})
	}
}

// crashed takes note of a crash that the node survives.
func (n *simNode) crashed(lost []change.XID) {
	for _, x := range lost {
		delete(n.got, x)
	}
	n.lose()
	n.beat = nil
	if n.sweep.id != 0 {
		n.failed()
	}
	if n.ticking {
		n.ticking = false
		n.emit(feed.Ticked{})
	}
}

// has reports whether the node has dispatched all that is in the log up to a seq.
func (n *simNode) has(seq int64) bool {
	w := n.s.w
	for q := w.Kept + 1; q <= seq; q++ {
		if l := w.Log[q-1]; !l.Undone && n.got[w.Txs[l.Tx].XID] < len(w.Txs[l.Tx].Seqs) {
			return false
		}
	}
	idle := n.sweep.id == 0 || n.m.Stats().Mode == feed.Busy && !n.sweep.read // a busy node's next sweep finds what is there now dispatched
	return n.opened && idle
}

func (mv simMove) String() string { return fmt.Sprintf("%c %d %d", mv.kind, mv.i, mv.k) }

// marks are those of the logged transactions that snap sees and tick does not.
func (s *sim) marks(snap change.Snapshot, tick *change.Tick) (done []change.Mark) {
	for i := range s.w.Txs {
		if t := &s.w.Txs[i]; s.w.Readable(t) && snap.Sees(t.XID) && !tick.Snapshot.Sees(t.XID) {
			done = append(done, s.w.Mark(t))
		}
	}
	return done
}

// judge says whether what follows a cursor is still there, and what it claims.
func (s *sim) judge(c *change.Cursor) error {
	w := s.w
	var upper *change.Tick
	if c.Upper.ID != 0 {
		upper = w.Tick(c.Upper.ID)
	}
	recheck, err := c.Check(w.Tick(c.Tick.ID), upper, w.Standing())
	if err != nil || !recheck {
		return err
	}
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

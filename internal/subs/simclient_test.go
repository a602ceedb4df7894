package subs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// simClient is a client: a real Reader, what it has got, and what it keeps between two sockets, the text of a cursor.
type simClient struct {
	s    *sim
	plan *simPlan
	r    *Reader
	node *simNode

	mu    sync.Mutex
	ready bool

	cursor string // empty: it begins anew
	got    map[change.XID]int
	ver    [mvcctest.Rows]int
	open   change.XID // of which it has got a part
	stands [mvcctest.Rows]int

	rows    bool // it gets rows that stand
	part    bool // of a batch
	phantom bool // it has got something that a crash undid
}

func newSimClient(s *sim) *simClient {
	p := &simPlan{s: s, row: s.r.IntN(mvcctest.Rows+1) - 1}
	p.batch = s.r.IntN(2) == 0
	return &simClient{s: s, plan: p, got: map[change.XID]int{}}
}

func (c *simClient) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = true
}

func (c *simClient) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

// mine are the changes of a transaction that are for the client, of the first n.
func (c *simClient) mine(t *mvcctest.Tx, n int) (seqs []int64) {
	for _, seq := range t.Seqs[:n] {
		if c.plan.has(c.s.w.Log[seq-1].Row) {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// begin says what the client has got, by transaction.
func (c *simClient) begin(got map[change.XID]int) {
	c.got, c.ver, c.open = map[change.XID]int{}, [mvcctest.Rows]int{}, 0
	for x, n := range got {
		i := c.s.w.Index(x)
		if i < 0 || c.s.w.Txs[i].State != mvcctest.Committed {
			continue
		}
		seqs := c.mine(&c.s.w.Txs[i], n)
		c.got[x] = len(seqs)
		for _, seq := range seqs {
			l := c.s.w.Log[seq-1]
			c.ver[l.Row] = max(c.ver[l.Row], l.Ver)
		}
	}
}

func (c *simClient) attach(n *simNode) {
	var start Start
	if c.cursor == "" {
		c.got, c.phantom, c.part, c.stands = map[change.XID]int{}, false, false, [mvcctest.Rows]int{}
		if at := n.m.Place(); at.Era() != c.s.w.Era {
			return // it may have what is lost, and does not know
		}
		if c.rows = c.plan.batch || c.s.r.IntN(2) == 0; c.rows {
			start.Rows = &change.Query{Where: c.plan.Key()}
		} else {
			c.begin(n.got)
		}
	} else if at, err := change.ParseCursor(c.cursor); err != nil {
		c.s.fail("%v", err)
		return
	} else {
		start.After = &at
	}
	c.node = n
	c.wake()
	var err error
	if c.r, err = n.hub.Attach(c.plan, who(), start, c.wake); err != nil {
		c.s.fail("attach: %v", err)
	}
}

func (c *simClient) leave() {
	if c.r != nil {
		c.r.Close()
		c.r, c.part = nil, false
	}
	if c.rows {
		c.cursor, c.rows = "", false
	}
}

func (c *simClient) next(limit int) {
	c.mu.Lock()
	c.ready = false
	c.mu.Unlock()
	was := c.r.phase
	frames, err := c.r.Next(nil, limit)
	for _, frame := range frames {
		if c.s.trace != nil {
			c.s.trace("    %s", frame)
		}
		c.take(string(frame))
	}
	if len(frames) > limit {
		c.s.fail("%d frames, and no more than %d were wanted", len(frames), limit)
	}
	if len(frames) == limit {
		c.wake()
	}
	if err != nil {
		c.ended(err)
		return
	}
	bugs := &c.s.bugs
	switch {
	case bugs.openSeen && c.r.phase == live && c.r.g.open != nil:
		c.r.at, c.r.in = c.r.g.hub.place.Load().at, nil
	case bugs.stubSeen && c.r.stub != nil:
		c.r.at, c.r.in = behindStub(c.r.stub), nil
		c.r.stub, c.r.page = nil, nil
		c.wake()
	case bugs.syncedSoon && c.r.phase == catching && was == joining:
		c.take("s " + c.r.toward)
	}
}

// ended begins anew. It must have been for a reason.
func (c *simClient) ended(why error) {
	if c.s.trace != nil {
		c.s.trace("    ended: %v", why)
	}
	switch {
	case (errors.Is(why, change.ErrCursorExpired) || errors.Is(why, change.ErrDropped)) && c.s.dropped:
	case errors.Is(why, ErrInterrupted) && c.s.failed:
	default:
		c.s.fail("nothing is lost for the client, and yet: %v", why)
	}
	c.leave()
	c.cursor = ""
	<-time.After(2 * sharedFor) // rows that were read before are as dead
}

// lose takes note of transactions that a crash undid.
func (c *simClient) lose(lost []change.XID) {
	for _, x := range lost {
		c.phantom = c.phantom || c.got[x] > 0
		delete(c.got, x)
	}
}

func (c *simClient) take(frame string) {
	words := strings.Fields(frame)
	if rows := words[0] == "r" || words[0] == "R"; c.rows != rows && words[0] != "s" {
		c.s.fail("%q is out of place", frame)
	}
	c.part = false
	switch words[0] {
	case "r", "R":
		for _, w := range words[1:] {
			n, _ := strconv.Atoi(w)
			c.stands[n/1000] = n % 1000
		}
	case "c":
		c.change(words[1])
		c.place(words[2])
	case "b":
		for _, w := range words[3:] {
			c.change(w)
		}
		if c.part = words[1] == "false"; words[2] != "-" {
			c.place(words[2])
		}
		if !c.part && c.open != 0 && !c.phantom {
			c.s.fail("a batch is complete, and of transaction %d there is more", c.open)
		}
	case "s":
		if c.rows {
			c.stood(words[1])
		}
		c.place(words[1])
	}
}

// stood looks whether the rows were those of the place.
func (c *simClient) stood(cursor string) {
	c.rows = false
	m, ok := c.s.moments[cursor]
	if !ok {
		c.s.fail("rows of an unknown place")
		return
	}
	c.begin(m.got)
	c.phantom = m.phantom
	for row, ver := range m.vers {
		if c.plan.has(row) && c.stands[row] != ver {
			c.s.fail("row %d stands at version %d, and not at %d", row, c.stands[row], ver)
		}
	}
}

// change takes a change, SEQ/TIME.
func (c *simClient) change(id string) {
	var seq, at int64
	if _, err := fmt.Sscanf(id, "%d/%d", &seq, &at); err != nil {
		c.s.fail("change %q: %v", id, err)
		return
	}
	w := c.s.w
	if seq > w.LastSeq() || w.Log[seq-1].At != at || w.Log[seq-1].Undone {
		c.phantom = true // it was dispatched before the crash that undid it
	}
	if c.phantom {
		return
	}
	l := w.Log[seq-1]
	t := &w.Txs[l.Tx]
	mine := c.mine(t, len(t.Seqs))
	switch n := c.got[t.XID]; {
	case t.State != mvcctest.Committed:
		c.s.fail("transaction %d is not committed", t.XID)
	case n >= len(mine) || mine[n] != seq:
		c.s.fail("transaction %d: seq %d after %d of %v", t.XID, seq, n, mine)
	case l.Ver != c.ver[l.Row]+1:
		c.s.fail("row %d: version %d after %d", l.Row, l.Ver, c.ver[l.Row])
	case c.open != 0 && c.open != t.XID:
		c.s.fail("transaction %d comes between the parts of %d", t.XID, c.open)
	}
	for _, i := range w.Ends[:t.First] {
		if b := &w.Txs[i]; c.got[b.XID] < len(c.mine(b, len(b.Seqs))) {
			c.s.fail("transaction %d before %d, which had committed before it wrote", t.XID, b.XID)
		}
	}
	c.got[t.XID]++
	c.ver[l.Row] = l.Ver
	if c.open = t.XID; c.got[t.XID] == len(mine) {
		c.open = 0
	}
}

// place looks at a cursor: it claims what the client has got, no more and no less.
func (c *simClient) place(text string) {
	at, err := change.ParseCursor(text)
	if err != nil {
		c.s.fail("%v", err)
		return
	}
	c.cursor = text
	w := c.s.w
	tick, upper := w.Tick(at.Tick.ID), w.Tick(at.Upper.ID)
	if c.phantom || at.Era != w.Era || tick == nil || upper == nil && at.Upper.ID != 0 {
		return
	}
	for _, i := range w.Ends {
		t := &w.Txs[i]
		if len(t.Seqs) == 0 {
			continue
		}
		claimed := 0
		switch {
		case at.Delivered(w.Mark(t), tick, upper):
			claimed = len(c.mine(t, len(t.Seqs)))
		case at.Part.XID == t.XID:
			claimed = len(c.mine(t, slices.Index(t.Seqs, at.Part.Seq)+1))
		}
		if claimed != c.got[t.XID] {
			c.s.fail("the cursor claims %d changes of %d, and %d were given: %s", claimed, t.XID, c.got[t.XID], text)
		}
	}
}

// rest is what is wrong where nothing more happens.
func (c *simClient) rest() error {
	switch {
	case c.r == nil || c.r.phase != live:
		return errors.New("it is not live")
	case c.phantom:
		return errors.New("it goes on with changes that a crash undid")
	case c.rows || c.part:
		return fmt.Errorf("it waits: rows %v, a part %v", c.rows, c.part)
	}
	for _, i := range c.s.w.Ends {
		t := &c.s.w.Txs[i]
		if mine := c.mine(t, len(t.Seqs)); c.got[t.XID] != len(mine) {
			return fmt.Errorf("transaction %d is lost: it has %d of %v", t.XID, c.got[t.XID], mine)
		}
	}
	return nil
}

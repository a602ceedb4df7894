package nemesis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Violation is a broken promise.
type Violation struct {
	Subscription string
	Rule         Rule
	What         string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Subscription, v.Rule, v.What) }

// Rule names what was promised.
type Rule string

const (
	Lost       Rule = "lost"              // a change of the set that did not come
	Repeated   Rule = "repeated"          // one that came twice
	Order      Rule = "order of versions" // of one row
	Before     Rule = "happened before"   // a transaction came before one that had committed before it wrote
	Split      Rule = "split"             // another transaction came between two changes of one
	Foreign    Rule = "foreign"           // another tenant's
	OutOfSet   Rule = "not of the set"    // not what the filter makes of it
	RolledBack Rule = "rolled back"
	Phantom    Rule = "phantom"     // never committed, or lost by the database and not withdrawn
	NoCause    Rule = "no cause"    // an expiry that nothing explains
	Snapshot0  Rule = "snapshot"    // the rows at the beginning are not those of one moment
	SetDiffers Rule = "set differs" // what was replayed is not what SELECT shows
	Unfinished Rule = "unfinished"  // the subscriber has not come to its end
)

// Check holds what subscribers received against the truth. The history must have come to rest, and each subscriber to its end.
func Check(truth *Truth, subs []*Subscription) []Violation {
	k := &checker{truth: truth, byTable: map[string][]int{}, stamps: map[string]map[int64]*Row{}}
	for i := range truth.Written {
		w := &truth.Written[i]
		k.byTable[w.Table] = append(k.byTable[w.Table], i)
		if w.New != nil {
			if k.stamps[w.Table] == nil {
				k.stamps[w.Table] = map[int64]*Row{}
			}
			k.stamps[w.Table][w.New.Stamp] = w.New
		}
	}
	for _, s := range subs {
		c := k.expect(s)
		c.run()
		k.found = append(k.found, c.found...)
	}
	return k.found
}

type checker struct {
	truth   *Truth
	byTable map[string][]int
	stamps  map[string]map[int64]*Row // by table: each version of a row that was ever committed
	found   []Violation
}

// due is a change as a subscription must get it.
type due struct {
	kind     Kind
	old, new *Row
	xid      uint64
	place    int // among those of its row
}

type dueKey struct{ id, old, new int64 }

func keyOf(old, new *Row) (k dueKey) {
	if old != nil {
		k.id, k.old = old.ID, old.Stamp
	}
	if new != nil {
		k.id, k.new = new.ID, new.Stamp
	}
	return k
}

// one checks one subscription.
type one struct {
	*checker
	s     *Subscription
	dues  map[dueKey]*due
	rows  map[int64][]*due // of a row, in the order of its versions
	ofTxn map[uint64]int   // how many are due of a transaction
	found []Violation
	said  map[Rule]int

	// of the segment: what follows one Begun
	begun   bool
	synced  time.Time // zero: not yet
	set     map[int64]*Row
	next    map[int64]int // by row, where it is known: the place of the change that must come next
	got     map[*due]bool
	gotTxn  map[uint64]int
	xids    []uint64 // as they came
	phantom []Note
	astray  map[int64]bool // rows of which a phantom came
}

func (k *checker) expect(s *Subscription) *one {
	c := &one{checker: k, s: s, dues: map[dueKey]*due{}, rows: map[int64][]*due{}, ofTxn: map[uint64]int{}, said: map[Rule]int{}}
	table := slices.Clone(k.byTable[s.Table])
	slices.SortFunc(table, func(a, b int) int {
		x, y := &k.truth.Written[a], &k.truth.Written[b]
		if by := cmp.Compare(x.row().Version, y.row().Version); by != 0 {
			return by
		}
		return cmp.Compare(btoi(x.New == nil), btoi(y.New == nil)) // the delete of a version follows it
	})
	for _, i := range table {
		w := &k.truth.Written[i]
		d := &due{xid: w.XID}
		switch was, is := s.match(w.Old), s.match(w.New); {
		case was && is:
			d.kind, d.old, d.new = Update, w.Old, w.New
		case is:
			d.kind, d.new = Insert, w.New
		case was:
			d.kind, d.old = Delete, w.Old
		default:
			continue
		}
		id := w.row().ID
		d.place = len(c.rows[id])
		c.rows[id] = append(c.rows[id], d)
		c.dues[keyOf(d.old, d.new)] = d
		c.ofTxn[d.xid]++
	}
	return c
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// OnTheWay is how long what was sent before a crash may take until it comes.
const OnTheWay = 20 * time.Second

const mostSaid = 5 // of one rule and subscription

func (c *one) broken(rule Rule, format string, args ...any) {
	if c.said[rule]++; c.said[rule] <= mostSaid {
		c.found = append(c.found, Violation{c.s.Name, rule, fmt.Sprintf(format, args...)})
	}
}

func (c *one) run() {
	for i := range c.s.Notes {
		n := &c.s.Notes[i]
		if n.Kind != Begun && !c.begun {
			c.broken(Unfinished, "%s before a beginning", n.Kind)
			return
		}
		switch n.Kind {
		case Begun:
			if !c.synced.IsZero() {
				c.broken(Unfinished, "it began anew without a reason at %s", clock(n.At))
			}
			c.begin()
		case Initial:
			c.initial(n)
		case Synced:
			if c.synced.IsZero() {
				c.synced = n.At
			}
		case Expired:
			c.expired(n)
		default:
			c.change(n)
		}
	}
	if c.synced.IsZero() {
		c.broken(Unfinished, "it never got all rows")
		return
	}
	c.end()
	c.atRest()
}

func (c *one) begin() {
	c.begun, c.synced = true, time.Time{}
	c.set, c.next, c.got, c.gotTxn = map[int64]*Row{}, map[int64]int{}, map[*due]bool{}, map[uint64]int{}
	c.xids, c.phantom, c.astray = nil, nil, map[int64]bool{}
}

// allowed judges a row that came by what can be said of it alone, and reports whether it is one of the truth.
func (c *one) allowed(n *Note, r *Row) bool {
	was := c.stamps[c.s.Table][r.Stamp]
	switch {
	case r.Doomed():
		c.broken(RolledBack, "%s at %s", show(r), clock(n.At))
	case was == nil:
		c.phantom = append(c.phantom, *n)
		c.astray[r.ID] = true
	case *was != *r:
		c.broken(OutOfSet, "%s came, %s was written", show(r), show(was))
	case r.Tenant != c.s.Tenant:
		c.broken(Foreign, "%s at %s", show(r), clock(n.At))
	case !c.s.match(r):
		c.broken(OutOfSet, "%s at %s", show(r), clock(n.At))
	default:
		return true
	}
	return false
}

func (c *one) initial(n *Note) {
	if !c.synced.IsZero() {
		c.broken(Snapshot0, "%s stands, after SYNCED", show(n.New))
	}
	if !c.allowed(n, n.New) {
		return
	}
	id := n.New.ID
	if c.set[id] != nil {
		c.broken(Repeated, "row %d stands twice", id)
	}
	c.set[id] = n.New
	for _, d := range c.rows[id] {
		if d.new != nil && d.new.Stamp == n.New.Stamp {
			c.next[id] = d.place + 1
		}
	}
}

func (c *one) change(n *Note) {
	if c.synced.IsZero() {
		c.broken(Snapshot0, "a change of row %d before SYNCED", keyOf(n.Old, n.New).id)
	}
	for _, r := range []*Row{n.Old, n.New} {
		if r != nil && !c.allowed(n, r) {
			return
		}
	}
	key := keyOf(n.Old, n.New)
	if c.astray[key.id] { // what follows a phantom follows nothing
		return
	}
	d := c.dues[key]
	switch {
	case d == nil, d.xid != n.XID: // of versions that there are: a delete that was lost, say
		c.phantom = append(c.phantom, *n)
		c.astray[key.id] = true
		return
	case d.kind != n.Kind:
		c.broken(OutOfSet, "row %d: %s, must be %s", key.id, n.Kind, d.kind)
	}
	if c.got[d] {
		c.broken(Repeated, "row %d version %d, transaction %d, at %s", key.id, version(n), n.XID, clock(n.At))
		return
	}
	c.got[d] = true
	c.gotTxn[d.xid]++
	next, known := c.next[key.id]
	switch {
	case !known && d.kind != Insert:
		c.broken(Lost, "row %d version %d changes and was not there, transaction %d, at %s", key.id, version(n), n.XID, clock(n.At))
	case known && d.place < next:
		c.broken(Order, "row %d version %d, transaction %d, after a later one, or one that stood already, at %s", key.id, version(n), n.XID, clock(n.At))
	case known && d.place > next:
		lost := c.rows[key.id][next]
		c.broken(Lost, "row %d: %d changes before version %d of transaction %d at %s; the first is of transaction %d, committed at %s",
			key.id, d.place-next, version(n), n.XID, clock(n.At), lost.xid, clock(c.truth.Txns[lost.xid].Committed))
	}
	c.next[key.id] = max(next, d.place+1)
	if n.New != nil {
		c.set[key.id] = n.New
	} else {
		delete(c.set, key.id)
	}
	if len(c.xids) == 0 || c.xids[len(c.xids)-1] != n.XID {
		c.xids = append(c.xids, n.XID)
	}
}

func (c *one) expired(n *Note) {
	lost := slices.ContainsFunc(c.truth.Lost, func(at time.Time) bool { return at.Before(n.At) })
	if n.Cause == Unknown || n.Cause == LostTail && !lost {
		c.broken(NoCause, "at %s", clock(n.At))
	}
	for _, p := range c.phantom { // seen, lost, and withdrawn
		if !slices.ContainsFunc(c.truth.Lost, func(at time.Time) bool { return at.After(p.At.Add(-OnTheWay)) && at.Before(n.At) }) {
			c.broken(Phantom, "row %d at %s: it was never committed", keyOf(p.Old, p.New).id, clock(p.At))
		}
	}
	if len(c.phantom) == 0 {
		c.upTo()
	}
	c.whole(true)
	c.begun, c.synced = false, time.Time{}
}

// upTo looks for changes that came not, although a transaction did that wrote after their commit.
func (c *one) upTo() {
	var newest Snapshot
	for _, x := range c.xids {
		if s := c.truth.Txns[x].Before; s.Xmax > newest.Xmax {
			newest = s
		}
	}
	for id, ds := range c.rows {
		for _, d := range ds[c.next[id]:] {
			if t := c.truth.Txns[d.xid].Committed; newest.sees(d.xid) && t.After(c.synced) {
				c.broken(Lost, "row %d: %s by transaction %d, committed at %s; a later one came", id, d.kind, d.xid, clock(t))
				break
			}
		}
	}
}

// end judges a segment that ends at the end of all.
func (c *one) end() {
	for _, p := range c.phantom {
		c.broken(Phantom, "row %d, transaction %d, at %s: the database does not have it", keyOf(p.Old, p.New).id, p.XID, clock(p.At))
	}
	c.whole(false)
}

// whole judges a segment's transactions. cut: the last may have been cut short.
func (c *one) whole(cut bool) {
	for i, x := range c.xids {
		if cut && (i == len(c.xids)-1 || len(c.phantom) > 0) {
			break
		}
		if got := c.gotTxn[x]; got < c.ofTxn[x] {
			c.broken(Lost, "%d of %d changes of transaction %d, committed at %s", c.ofTxn[x]-got, c.ofTxn[x], x, clock(c.truth.Txns[x].Committed))
		}
	}
	done := map[uint64]bool{}
	for i, x := range c.xids {
		if done[x] {
			c.broken(Split, "transaction %d, by %d", x, c.xids[i-1])
		}
		done[x] = true
	}
	var later []uint64 // than the one looked at; descending
	for _, x := range slices.Backward(c.xids) {
		before := c.truth.Txns[x].Before
		for i := len(later) - 1; i >= 0 && later[i] < before.Xmax; i-- {
			if later[i] != x && before.sees(later[i]) {
				c.broken(Before, "%d came after %d, which wrote when that had committed", later[i], x)
			}
		}
		i, _ := slices.BinarySearchFunc(later, x, func(a, b uint64) int { return cmp.Compare(b, a) })
		later = slices.Insert(later, i, x)
	}
}

// atRest compares the end with the truth.
func (c *one) atRest() {
	for id, ds := range c.rows {
		next, known := c.next[id]
		for _, d := range ds[next:] {
			if t := c.truth.Txns[d.xid].Committed; known || t.After(c.synced) {
				c.broken(Lost, "row %d: %s by transaction %d, committed at %s; the rows were complete at %s", id, d.kind, d.xid, clock(t), clock(c.synced))
				break
			}
		}
	}
	want := map[int64]*Row{}
	for i := range c.truth.Rows[c.s.Table] {
		if r := &c.truth.Rows[c.s.Table][i]; c.s.match(r) {
			want[r.ID] = r
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got := c.set[id]; got == nil || *got != *want[id] {
			c.broken(SetDiffers, "%s is missing, or is %s", show(want[id]), show(got))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.set)) {
		if want[id] == nil {
			c.broken(SetDiffers, "%s is too much", show(c.set[id]))
		}
	}
}

func version(n *Note) int64 {
	if n.New != nil {
		return n.New.Version
	}
	return n.Old.Version
}

func show(r *Row) string {
	if r == nil {
		return "nothing"
	}
	return fmt.Sprintf("row %d version %d of %s", r.ID, r.Version, r.Tenant)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

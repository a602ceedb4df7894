package nemesis

import (
	"cmp"
	"fmt"
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
	Parts      Rule = "parts"             // a batch that says wrongly that its transaction goes on
	Foreign    Rule = "foreign"           // another tenant's
	OutOfSet   Rule = "not of the set"    // not what the filter makes of it
	RolledBack Rule = "rolled back"
	Early      Rule = "early"       // it came before its commit
	Phantom    Rule = "phantom"     // never committed, or lost by the database and not withdrawn
	NoCause    Rule = "no cause"    // an expiry that nothing explains
	OneMoment  Rule = "snapshot"    // the rows at the beginning are not those of one moment
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
	seq      int64
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
	batch   int            // the last one
	open    uint64         // the transaction of which it says that more comes
}

func (k *checker) expect(s *Subscription) *one {
	c := &one{checker: k, s: s, dues: map[dueKey]*due{}, rows: map[int64][]*due{}, ofTxn: map[uint64]int{}, said: map[Rule]int{}}
	var table, truncations []int
	for _, i := range k.byTable[s.Table] {
		if k.truth.Written[i].row() == nil {
			truncations = append(truncations, i)
		} else {
			table = append(table, i)
		}
	}
	slices.SortFunc(table, func(a, b int) int {
		x, y := &k.truth.Written[a], &k.truth.Written[b]
		if by := cmp.Compare(x.row().Version, y.row().Version); by != 0 {
			return by
		}
		return cmp.Compare(btoi(x.New == nil), btoi(y.New == nil)) // the delete of a version follows it
	})
	for _, i := range table {
		w := &k.truth.Written[i]
		d := &due{xid: w.XID, seq: w.Seq}
		switch was, is := s.match(w.Old), s.match(w.New); {
		case is && s.Channel:
			d.kind, d.new = Event, w.New
		case was && is:
			d.kind, d.old, d.new = Update, w.Old, w.New
		case is:
			d.kind, d.new = Insert, w.New
		case was:
			d.kind, d.old = Delete, w.Old
		default:
			continue
		}
		c.owe(w.row().ID, keyOf(d.old, d.new), d)
	}
	c.truncations(truncations)
	return c
}

// owe adds what must come, behind what else must come of its row.
func (c *one) owe(id int64, key dueKey, d *due) {
	d.place = len(c.rows[id])
	c.rows[id] = append(c.rows[id], d)
	c.dues[key] = d
	c.ofTxn[d.xid]++
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
		case Synced: // all of what a batch said would go on, too
			c.open = 0
			c.live(n)
		case Resumed, Completed:
			c.open = 0
		case Expired:
			c.expired(n)
		default:
			c.parts(n)
			c.change(n)
		}
	}
	if c.synced.IsZero() {
		c.broken(Unfinished, "it never got all rows, or nothing of a channel")
		return
	}
	c.end()
	c.atRest()
}

func version(n *Note) int64 {
	switch {
	case n.New != nil:
		return n.New.Version
	case n.Old != nil:
		return n.Old.Version
	}
	return 0 // of a TRUNCATE
}

func show(r *Row) string {
	if r == nil {
		return "nothing"
	}
	return fmt.Sprintf("row %d version %d of %s", r.ID, r.Version, r.Tenant)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

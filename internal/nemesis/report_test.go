package nemesis

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// tally is what some rounds have come to.
type tally struct {
	rounds, written, txns, delivered, stood, resumed int
	truncates, events                                int   // of what was delivered
	announced                                        int   // modes
	failed                                           int64 // transactions
	prepared, refused, committed, rolledBack         int64 // prepared transactions
	expiries                                         map[Cause]int
	broken                                           map[Rule]int
	waited                                           map[string][]time.Duration // by kind of trouble
}

func (y *tally) add(w *world, truth *Truth, violations []Violation) {
	if y.rounds == 0 {
		y.expiries, y.broken, y.waited = map[Cause]int{}, map[Rule]int{}, map[string][]time.Duration{}
	}
	y.rounds++
	y.written += len(truth.Written)
	y.txns += len(truth.Txns)
	y.failed += w.failed.Load()
	y.prepared += w.prepared.prepared.Load()
	y.refused += w.prepared.refused.Load()
	y.committed += w.prepared.committed.Load()
	y.rolledBack += w.prepared.rolledBack.Load()
	for _, s := range w.subs {
		for i := range s.Notes {
			switch n := &s.Notes[i]; n.Kind {
			case Insert, Update, Delete, Truncate, Event:
				y.delivered++
				y.truncates += btoi(n.Kind == Truncate)
				y.events += btoi(n.Kind == Event)
			case Initial:
				y.stood++
			case Resumed:
				y.resumed++
			case Expired:
				y.expiries[n.Cause]++
			}
		}
	}
	for _, v := range violations {
		y.broken[v.Rule]++
	}
	for _, x := range w.troubles {
		y.waited[x.name] = append(y.waited[x.name], w.waited(truth, x))
	}
}

// waited is how long a calm subscriber waited because of a trouble, at the longest: from a commit, or from when everything
// could work again if that was later, until the change came, or the next trouble.
func (w *world) waited(truth *Truth, x trouble) (longest time.Duration) {
	next := w.after(x)
	for _, s := range w.subs {
		for i := range s.Notes {
			n := &s.Notes[i]
			at := truth.Txns[n.XID].Committed
			if !s.calm || n.XID == 0 || n.At.Before(x.began) || at.After(x.until) || at.After(next) {
				continue
			}
			to := n.At
			if to.After(next) {
				to = next
			}
			longest = max(longest, to.Sub(later(at, x.end)))
		}
	}
	return longest
}

// after is when the next trouble began. Imports go on beside the others.
func (w *world) after(x trouble) time.Time {
	next := x.until.Add(time.Hour)
	for _, y := range w.troubles {
		if y.began.After(x.began) && y.began.Before(next) && (y.name == importing) == (x.name == importing) {
			next = y.began
		}
	}
	return next
}

func (y *tally) report(t *testing.T) {
	faults := 0
	for _, name := range slices.Sorted(maps.Keys(y.waited)) {
		ds := y.waited[name]
		slices.Sort(ds)
		faults += len(ds)
		t.Logf("%4d times %-36s a calm subscriber waited: p50 %v, max %v", len(ds), name, ds[(len(ds)-1)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
	}
	others, order := 0, y.broken[Order]+y.broken[Before]+y.broken[Split]
	for _, n := range y.broken {
		others += n
	}
	others -= order + y.broken[Lost] + y.broken[Repeated]
	t.Logf("%d rounds, %d faults, %d changes of mode; %d changes committed in %d transactions; %d transactions failed",
		y.rounds, faults, y.announced, y.written, y.txns, y.failed)
	t.Logf("%d transactions prepared, and %d not, as they had notified; of the prepared ones %d committed and %d rolled back",
		y.prepared, y.refused, y.committed, y.rolledBack)
	t.Logf("%d changes and %d rows that stood delivered, of the changes %d events of a channel and %d TRUNCATE; %d resumptions",
		y.delivered, y.stood, y.events, y.truncates, y.resumed)
	t.Logf("expiries: %d by retention, %d with a node that was away for longer, %d by lost commits, %d by torn transactions, %d without a cause",
		y.expiries[Retention], y.expiries[NodeAway], y.expiries[LostTail], y.expiries[Torn], y.expiries[Unknown])
	t.Logf("lost %d, repeated %d, out of order %d, other violations %d", y.broken[Lost], y.broken[Repeated], order, others)
}

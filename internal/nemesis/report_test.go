package nemesis

import (
	"slices"
	"time"
)

// pauses says for each kind of trouble how long a calm subscriber waited: from a commit, or from when everything could work
// again if that was later, until the change came.
func (w *world) pauses(truth *Truth) {
	worst := map[string][]time.Duration{}
	for _, x := range w.troubles {
		var longest time.Duration
		for _, s := range w.subs {
			if !s.calm {
				continue
			}
			for i := range s.Notes {
				n := &s.Notes[i]
				at := truth.Txns[n.XID].Committed
				if n.XID == 0 || at.Before(x.began) || at.After(x.end.Add(time.Second)) {
					continue
				}
				if x.end.After(at) {
					at = x.end
				}
				longest = max(longest, n.At.Sub(at))
			}
		}
		worst[x.name] = append(worst[x.name], longest)
	}
	for _, f := range everyFault {
		if ds := worst[f.name]; len(ds) > 0 {
			slices.Sort(ds)
			w.say("%3d times %-40s pause: median %v, longest %v", len(ds), f.name, ds[len(ds)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
		}
	}
}

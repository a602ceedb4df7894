package nemesis

import (
	"maps"
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
				if n.XID == 0 || at.Before(x.began) || at.After(x.until) {
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
	for _, name := range slices.Sorted(maps.Keys(worst)) {
		ds := worst[name]
		slices.Sort(ds)
		w.say("%3d times %-36s pause: median %v, longest %v", len(ds), name, ds[len(ds)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
	}
}

package pg

import "github.com/notifyql/notifyql/internal/change"

// version is a row version in its table.
type version struct {
	leaf uint32
	tid  change.TID
}

// canonical puts the changes of one transaction, given in the order of seq, into canonical order: a change whose old version
// a later one has made goes after that one. A TRUNCATE begins anew: behind it the same places are other rows'.
func canonical(cs []change.Change) {
	from := 0
	for i := range cs {
		if cs[i].Op == change.Truncate {
			chain(cs[from:i])
			from = i + 1
		}
	}
	chain(cs[from:])
}

func chain(cs []change.Change) {
	makers := map[version]int{}
	for i := range cs {
		if cs[i].NewTID != (change.TID{}) {
			makers[version{cs[i].Leaf, cs[i].NewTID}] = i
		}
	}
	waiting := map[int][]int{} // by the change waited for
	for i := range cs {
		if cs[i].OldTID == (change.TID{}) {
			continue
		}
		if maker, ok := makers[version{cs[i].Leaf, cs[i].OldTID}]; ok && maker > i {
			waiting[maker] = append(waiting[maker], i)
		}
	}
	if len(waiting) == 0 {
		return
	}
	waits := make([]bool, len(cs))
	for _, behind := range waiting {
		for _, i := range behind {
			waits[i] = true
		}
	}
	ordered := make([]change.Change, 0, len(cs))
	var follow []int // a stack: those that may go now, the next one last
	for i := range cs {
		if waits[i] {
			continue
		}
		follow = append(follow, i)
		for len(follow) > 0 {
			next := follow[len(follow)-1]
			follow = follow[:len(follow)-1]
			ordered = append(ordered, cs[next])
			for k := len(waiting[next]) - 1; k >= 0; k-- {
				follow = append(follow, waiting[next][k])
			}
		}
	}
	copy(cs, ordered)
}

package change

// Canonical puts the changes of one transaction, given in ascending order of seq, into canonical order: a change comes
// after the one that made the row version it replaces, and where that does not matter the order stays. An AFTER trigger
// or a function inside of a statement can log them the other way round, the outer change after the inner ones.
//
// What had its old version before the transaction began keeps its place, so a beginning of such changes stays one.
func Canonical(cs []Change) {
	makers := makersOf(cs)
	var (
		waiting map[int][]int // by the change waited for
		done    = make([]bool, len(cs))
		order   = make([]int, 0, len(cs))
		stack   []int // of those that may go now; the next one last
	)
	for i, maker := range makers {
		if maker >= 0 && !done[maker] {
			if waiting == nil {
				waiting = map[int][]int{}
			}
			waiting[maker] = append(waiting[maker], i)
			continue
		}
		for stack = append(stack, i); len(stack) > 0; {
			next := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			done[next] = true
			order = append(order, next)
			behind := waiting[next]
			for k := len(behind) - 1; k >= 0; k-- {
				stack = append(stack, behind[k])
			}
		}
	}
	if waiting == nil {
		return
	}
	for i := range cs { // a circle, which only a damaged log can hold
		if !done[i] {
			order = append(order, i)
		}
	}
	sorted := make([]Change, len(cs))
	for i, from := range order {
		sorted[i] = cs[from]
	}
	copy(cs, sorted)
}

// version is a row version within a transaction. A TRUNCATE begins a table anew: the same places are other rows' then.
type version struct {
	topic Topic
	age   int // of the topic: TRUNCATEs before
	leaf  uint32
	tid   TID
}

// makersOf gives for each change the index of the one that made its old version, or -1.
func makersOf(cs []Change) []int {
	made := make(map[version]int, len(cs)) // the first, or the newest so far
	ages := map[Topic]int{}
	old := make([]version, len(cs))
	for i := range cs {
		c := &cs[i]
		if c.Op == Truncate {
			ages[c.Topic]++
			continue
		}
		v := version{c.Topic, ages[c.Topic], c.Leaf, c.NewTID}
		if _, ok := made[v]; !ok && v.tid != (TID{}) {
			made[v] = i
		}
		v.tid = c.OldTID
		if c.OldLeaf != 0 {
			v.leaf = c.OldLeaf
		}
		old[i] = v
	}
	makers := make([]int, len(cs))
	for i := range cs {
		makers[i] = -1
		if maker, ok := made[old[i]]; ok && old[i].tid != (TID{}) && maker != i {
			makers[i] = maker
		}
		if v := old[i]; cs[i].NewTID != (TID{}) {
			v.leaf, v.tid = cs[i].Leaf, cs[i].NewTID
			made[v] = i
		}
	}
	return makers
}

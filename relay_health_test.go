package notifyql_test

import (
	"testing"
)

// A schema that was made anew has another key for records. A server that goes by the old one, as leader or as follower, finds out.
func TestRelayWithAnotherKey(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, 2)
	leader := r.follow(t)
	r.db.Exec(t, `update notifyql.secret set channel = channel || '_anew'`)
	r.add(t)
	leader.stop()
	for i, n := range r.nodes {
		if n == leader {
			r.nodes = append(r.nodes[:i:i], r.nodes[i+1:]...)
			break
		}
	}
	r.follow(t)
	const rows, last = 2, 5
	judges := []*judge{r.judge(t, r.nodes[0], "the older", rows, last), r.judge(t, r.nodes[1], "the newer", rows, last)}
	r.write(t, 1, rows, last, nil)
	for _, j := range judges {
		<-j.done
	}
}

// What a follower suffered from while it read the database itself is not said any more when it is over, though it reads no more.
func TestAFollowersTroublesEnd(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, 2)
	n := r.nodes[0]
	if n == r.follow(t) {
		n = r.nodes[1]
	}
	n.stream.Cut()
	n.awaits(t, false)
	r.db.Exec(t, `alter sequence notifyql.change_seq rename to gone`)
	suffers := func() bool { return n.Health().Problems["heartbeat"] != "" }
	eventually(t, "its heartbeat fails", suffers)
	n.stream.Heal()
	n.awaits(t, true)
	if !suffers() {
		t.Error("the fault is over before it is mended")
	}
	r.db.Exec(t, `alter sequence notifyql.gone rename to change_seq`)
	eventually(t, "nothing is wrong", func() bool {
		h := n.Health()
		return len(h.Problems) == 0 && h.Listening && h.Relayed
	})
}

package notifyql_test

import (
	"testing"

	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
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

// A copy of a database has its key and, in the same cluster, its era. Where its servers share the stream as well, by mistake, nobody is told of
// what is in the other one.
func TestRelayOfACopy(t *testing.T) {
	t.Parallel()
	first := &relayed{db: pgtest.New(t), broker: bustest.NewMemory()}
	second := &relayed{db: pgtest.New(t), broker: first.broker}
	const rows, last = 4, 20
	judges := map[*relayed][]*judge{}
	for _, r := range []*relayed{first, second} {
		r.db.Exec(t, `create table items (id int primary key, tenant_id text, ver int); select notifyql.watch('items');
			update notifyql.secret set channel = 'notifyql_copied'; select notifyql.enter(); update notifyql.life set bits = 1`)
		for _, name := range []string{"one", "two"} {
			judges[r] = append(judges[r], r.judge(t, r.add(t), name, rows, last))
		}
	}
	for _, r := range []*relayed{first, second} { // one behind the other: what is the other's would be there already
		r.follow(t)
		r.write(t, 1, rows, last, nil)
		for _, j := range judges[r] {
			<-j.done
		}
	}
}

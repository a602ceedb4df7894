package notifyql_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/internal/relay"
)

// Who tries the stream disturbs no server, and no server says a word; who writes anything else into it is told of.
func TestServersPassProbesOver(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, 2)
	r.follow(t)
	stranger := r.broker.Join("notifyql", bustest.Options{})
	complains := func(n *relayedNode) bool {
		w := httptest.NewRecorder()
		n.OpsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/errors", nil))
		return strings.Contains(w.Body.String(), "a record in the stream")
	}
	if err := stranger.Append(t.Context(), relay.Probe(stranger.MaxRecord())); err != nil {
		t.Fatal(err)
	}
	a, b := r.judge(t, r.nodes[0], "a", 1, 1), r.judge(t, r.nodes[1], "b", 1, 1)
	r.write(t, 1, 1, 1, nil)
	<-a.done
	<-b.done // what comes behind the probe
	for _, n := range r.nodes {
		if st := n.Stats(); !st.Relayed || complains(n) {
			t.Errorf("%+v", st)
		}
	}
	if err := stranger.Append(t.Context(), make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "servers complain", func() bool { return complains(r.nodes[0]) && complains(r.nodes[1]) })
}

package pg

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// An event published in a transaction exists if that commits, and not otherwise.
func TestPublishInTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	n := startNode(t, Config{DatabaseURL: db.URL})
	n.opened(1)
	for _, c := range []struct {
		text   string
		commit bool
	}{{"rolled back", false}, {"committed", true}, {"rolled back too", false}} {
		tx, err := db.Pool(t).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		if err := PublishTx(t.Context(), tx, []Event{{Channel: "chat", Type: "said", Tenant: "a", Data: []byte(`"` + c.text + `"`)}}); err != nil {
			t.Fatal(err)
		}
		if !c.commit {
			err = tx.Rollback(t.Context())
		} else {
			err = tx.Commit(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Publish(t.Context(), Event{Channel: "chat", Shared: true}); err != nil {
		t.Fatal(err)
	}
	n.caughtUp(db)
	var got []string
	for _, txn := range n.all() {
		for _, c := range txn.Changes {
			got = append(got, c.EventType+" "+c.Tenant+" "+string(c.New))
		}
	}
	if text := strings.Join(got, "; "); text != `said a "committed";   null` {
		t.Errorf("got %s", text)
	}
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	s := testSource(t, pgtest.New(t))
	for _, e := range []Event{
		{Channel: "chat"},                                 // nobody's
		{Channel: "", Shared: true},                       // no channel
		{Channel: "chat", Shared: true, Tenant: "a"},      // both
		{Channel: "chat", Tenant: "a", Data: []byte("{")}, // no JSON
	} {
		if err := s.Publish(t.Context(), e); err == nil || strings.ContainsAny(err.Error(), "\n@") {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

package notifyql_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Changes that are dropped from the log before they were delivered end the subscriptions that there are, whatever they
// are to: the server can't know to whom they belonged. New ones work.
func TestDroppedChangesEndSubscriptions(t *testing.T) {
	db := pgtest.New(t)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	subscribe := func() *notifyql.Stream {
		t.Helper()
		stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: anything})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Close() })
		return stream
	}
	large := "notifyql.publish('c', to_jsonb(repeat('x', 9000)), shared => true)" // too large for a notification
	before := subscribe()
	db.Exec(t, "begin; select "+large+"; update notifyql.retention set dropped = pg_current_xact_id(); commit")
	_, err := before.Next(t.Context())
	var refused *notifyql.RequestError
	if !errors.As(err, &refused) || !strings.Contains(string(refused.Errors), `"code":"CURSOR_EXPIRED"`) || !strings.Contains(err.Error(), "gone from the log") {
		t.Errorf("it ended with %v", err)
	}
	after := subscribe()
	db.Exec(t, "select "+large)
	if got, err := after.Next(t.Context()); err != nil || len(got) < 9000 {
		t.Errorf("a new one got %.100s, %v", got, err)
	}
}

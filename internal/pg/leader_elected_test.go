package pg

import (
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// newTerm is a leader's session that nothing drives.
func newTerm(t *testing.T, db *pgtest.DB) *term {
	t.Helper()
	config, err := directConfig(db.URL, leaderName)
	if err != nil {
		t.Fatal(err)
	}
	src := testSource(t, db)
	conn, _, err := connectFit(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	term := &term{leader: src.leader, conn: conn}
	if err := term.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return term
}

// A candidate's statement begins, and takes its snapshot, while the leader has announced busy. Before it tries for the place, the
// leader announces quiet and is gone. Elected, it must not take its own snapshot's word for it that the stream is busy.
func TestElectedBehindAnAnnouncement(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	leader := newTerm(t, db)
	if err := leader.exec(t.Context(), `begin isolation level repeatable read; select busy from notifyql.mode`); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `select notifyql.announce_mode(false)`)
	if err := leader.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	if leader.announced {
		t.Error("it takes the stream for busy")
	}
}

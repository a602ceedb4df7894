package pg

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// Where no server runs, a job prunes: all slots at once, waiting for what is in its way.
func TestPrune(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	conn, err := pgx.Connect(t.Context(), serverLogin(t, r.DB))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	prune := func(args string) (report string) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "call notifyql.prune("+args+")").Scan(&report); err != nil {
			t.Fatal(err)
		}
		return report
	}
	if got := prune(""); got != "the log is empty" {
		t.Error(got)
	}
	for slot := range 8 {
		r.log(slot, "30 hours")
	}
	newest := r.log(8, "30 hours")
	got := prune("")
	if n := strings.Count(got, ": emptied; its newest change was of "); n != 6 || strings.Count(got, "\n") != 8 ||
		!strings.Contains(got, "it is written to now, or next") || !strings.Contains(got, "it holds the newest change") {
		t.Errorf("%d slots were emptied: %s", n, got)
	}
	if left := r.left(); len(left) != 3 || left[2] != newest {
		t.Errorf("the log has %v", left)
	}

	// Somebody holds a lock, and gives it back when prune has met it.
	r.log(4, "30 hours")
	r.log(5, "1 second")
	holder := r.begin()
	if _, err := holder.Exec(t.Context(), "lock table notifyql.change in access share mode"); err != nil {
		t.Fatal(err)
	}
	if got = prune("patience => '1 millisecond', pause => '2 milliseconds'"); !strings.Contains(got, "blocked; a lock on it is held") {
		t.Errorf("while a lock is held: %s", got)
	}
	reports := make(chan string, 1)
	go func() { reports <- prune("patience => '1 minute', pause => '2 milliseconds'") }()
	r.tried(3)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got = <-reports; !strings.Contains(got, ": emptied; ") {
		t.Errorf("after the lock was given back: %s", got)
	}

	// It commits, so that it can't be a part of something else.
	if _, err := conn.Exec(t.Context(), "begin; call notifyql.prune(); commit", pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "invalid transaction termination") {
		t.Errorf("in a transaction: %v", err)
	}
}

// tried returns when a slot could not be locked so many times in a row.
func (r ring) tried(times int) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tries := 0; tries < times; {
		if err := r.Pool(r.t).QueryRow(r.t.Context(), "select max(tries) from notifyql.ring").Scan(&tries); err != nil {
			r.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("tried %d times, want %d", tries, times)
		}
	}
}

// Who may not run the server may empty nothing, and see nothing of it.
func TestRetentionIsTheServers(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.log(4, "30 hours")
	r.log(5, "1 second")
	login := r.Role(t, "")
	var watcher string
	if err := r.Pool(t).QueryRow(t.Context(), `
		select left(nspowner::regrole::text, -length('owner')) || 'watch' from pg_namespace where nspname = 'notifyql'`).Scan(&watcher); err != nil {
		t.Fatal(err)
	}
	for _, grant := range []string{"", "grant " + watcher + " to " + login} {
		if grant != "" {
			r.Exec(t, grant)
		}
		conn := r.Conn(t, login)
		for _, sql := range []string{
			"select * from notifyql.turn()",
			"call notifyql.prune()",
			"select * from notifyql.empty(4::smallint, now())",
			"select * from notifyql.occupied()",
			"select * from notifyql.retention",
			"update notifyql.retention set dropped = '0'",
			"select * from notifyql.ring",
			"truncate notifyql.change_4",
			"begin; lock table notifyql.retention",
		} {
			if _, err := conn.Exec(t.Context(), sql+"; rollback", pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%q %s: %v", grant, sql, err)
			}
		}
	}
	server, err := pgx.Connect(t.Context(), serverLogin(t, r.DB))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(t.Context())
	for _, sql := range []string{
		"select * from notifyql.empty(4::smallint, now())", // whatever its age
		"update notifyql.retention set dropped = '0'",
		"delete from notifyql.ring",
		"truncate notifyql.change_4",
		"begin; lock table notifyql.change_4",
	} {
		if _, err := server.Exec(t.Context(), sql+"; rollback", pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("the server's login: %s: %v", sql, err)
		}
	}
	if len(r.left()) != 2 {
		t.Errorf("the log has %v", r.left())
	}
}

// The schema can be taken away, and made again, with all that retention knows.
func TestDownWithARingThatTurned(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.log(4, "30 hours")
	r.log(5, "1 second")
	r.want(r.turned(), 4, "emptied")
	if err := migrate.Down(t.Context(), r.URL, nil); err != nil {
		t.Fatal(err)
	}
	var left bool
	if err := r.Pool(t).QueryRow(t.Context(), "select exists (select from pg_namespace where nspname = 'notifyql')").Scan(&left); err != nil || left {
		t.Errorf("something is left (%v)", err)
	}
	if err := migrate.Up(t.Context(), r.URL); err != nil {
		t.Fatal(err)
	}
	var slot int
	if err := r.Pool(t).QueryRow(t.Context(), "select slot_seconds from notifyql.setting").Scan(&slot); err != nil || slot != 14400 {
		t.Errorf("slots are of %d seconds (%v)", slot, err)
	}
}

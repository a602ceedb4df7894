package notifyql_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// openAndFinish runs so many transactions that begin and end in all patterns: some stay open while hundreds of others come and
// go, some roll back, some log nothing. It returns how many updates were committed.
func openAndFinish(ctx context.Context, db *pgtest.DB, seed uint64, many int) (updates int, err error) {
	const sessions = 24
	r := rand.New(rand.NewPCG(seed, 1))
	var conns []*pgx.Conn
	defer func() {
		for _, c := range conns {
			c.Close(ctx)
		}
	}()
	pending := make([]int, sessions) // updates of the open transaction; -1: none is open
	for i := range sessions {
		c, err := pgx.Connect(ctx, db.URL)
		if err != nil {
			return updates, err
		}
		conns, pending[i] = append(conns, c), -1
	}
	exec := func(i int, sql string, args ...any) {
		if err == nil {
			_, err = conns[i].Exec(ctx, sql, args...)
		}
	}
	finish := func(i int) {
		if r.IntN(8) == 0 {
			exec(i, "rollback")
		} else {
			exec(i, "commit")
			updates += pending[i]
		}
		pending[i] = -1
	}
	for begun := 0; begun < many && err == nil; {
		i := r.IntN(sessions)
		switch {
		case pending[i] < 0:
			begun++
			exec(i, "begin")
			if pending[i] = 0; r.IntN(4) == 0 {
				exec(i, "select pg_current_xact_id()")
				break
			}
			exec(i, "update items set version = version + 1 where id = $1", i+1)
			pending[i]++
		case i >= 4 || r.IntN(200) == 0: // the first four stay open for long
			finish(i)
		}
	}
	for i := range sessions {
		if pending[i] >= 0 {
			finish(i)
		}
	}
	return updates, err
}

// However transactions begin and end, cursors stay short, at nodes that were there all the time and at one that was not.
func TestCursorsStayShort(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; insert into items select g, 'a' from generate_series(1, 24) g`)
	longest := 0
	var mu sync.Mutex
	read := func(f *follower, n int) {
		for range n {
			got, err := f.next()
			if err != nil {
				t.Error(err)
				return
			}
			if got.Kind == "SYNCED" {
				t.Errorf("SYNCED, and %d updates are to come", n)
			}
			mu.Lock()
			longest = max(longest, len(f.cursor))
			mu.Unlock()
		}
	}
	one, two := run(t, notifyql.Config{DatabaseURL: db.URL}), run(t, notifyql.Config{DatabaseURL: db.URL})
	a, b := &follower{t: t}, &follower{t: t}
	a.follow(one, "")
	b.follow(two, "")
	n, err := openAndFinish(t.Context(), db, 1, 800)
	if err != nil {
		t.Fatal(err)
	}
	read(a, n)
	read(b, n)
	b.leave()
	more, err := openAndFinish(t.Context(), db, 2, 800)
	if err != nil {
		t.Fatal(err)
	}
	read(a, more)
	three := run(t, notifyql.Config{DatabaseURL: db.URL})
	b.follow(three, "")
	read(b, more)
	b.want("SYNCED")
	t.Logf("%d updates; the longest cursor has %d bytes", n+more, longest)
	if longest == 0 || longest > 2048 {
		t.Errorf("a cursor of %d bytes", longest)
	}
}

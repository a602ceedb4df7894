package notifyql_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A subscriber that begins with the rows that stand gets each row once, and every change that they do not show.
func TestInitial(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; insert into items select g, case g % 2 when 0 then 'a' else 'b' end, g from generate_series(1, 10) g`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	f := &follower{t: t}
	f.follow(srv, "initial: true, orderBy: [{version: DESC}], limit: 3, where: {id: {lt: 10}}")
	f.want("INITIAL 8.8", "INITIAL 6.6", "INITIAL 4.4", "SYNCED")
	db.Exec(t, "update items set version = 50 where id in (2, 3, 10)")
	f.want("UPDATE 2.50")
	f.follow(srv, "") // without the filter: the rest of the transaction concerns it too
	f.want("UPDATE 10.50", "SYNCED")

	f.cursor = ""
	f.follow(srv, "initial: true, where: {note: {isNull: false}}")
	f.want("SYNCED")
	db.Exec(t, "insert into items values (20, 'a', 1, 'x')")
	f.want("INSERT 20.1")
}

// While rows are read, they change: what a subscriber has in the end is what the table has.
func TestInitialWhileOthersWrite(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; insert into items select g, 'a' from generate_series(1, 3000) g`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := db.Pool(t).Exec(context.WithoutCancel(ctx), "update items set version = version + 1 where id % 100 = $1", n%100); err != nil {
				t.Error(err)
				break
			}
		}
		written <- n
	}()
	for range 3 {
		f := &follower{t: t}
		f.follow(srv, "initial: true")
		rows := map[int]int{}
		synced := false
		for changes := 0; changes < 2000; {
			got, err := f.next()
			if err != nil {
				t.Fatal(err)
			}
			switch got.Kind {
			case "INITIAL":
				if _, there := rows[got.New.ID]; there || synced {
					t.Fatalf("row %d stands twice, or after SYNCED", got.New.ID)
				}
			case "UPDATE":
				if rows[got.New.ID] != got.New.Version-1 || !synced {
					t.Fatalf("row %d: version %d after %d", got.New.ID, got.New.Version, rows[got.New.ID])
				}
				changes++
			case "SYNCED":
				if synced = true; len(rows) != 3000 {
					t.Fatalf("%d rows stand", len(rows))
				}
				continue
			default:
				t.Fatal(got.Kind)
			}
			rows[got.New.ID] = got.New.Version
		}
		f.leave()
	}
	stop()
	t.Logf("%d updates of 30 rows", <-written)
}

// Who reads more slowly than the tail lasts goes on from the log, and misses nothing.
func TestSlowSubscriberResumes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; insert into items values (1, 'a')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Limits: notifyql.Limits{TailBytes: 64 << 10}})
	f := &follower{t: t}
	f.follow(srv, "")
	for n := 1; n <= 500; n++ {
		db.Exec(t, "update items set version = $1, note = repeat('x', 1000)", n)
	}
	deadline := time.Now().Add(20 * time.Second)
	for srv.Stats().Dispatched < 500 && time.Now().Before(deadline) {
		db.Exec(t, "select 1")
	}
	for n := 1; n <= 500; n++ {
		f.want(fmt.Sprintf("UPDATE 1.%d", n))
	}
	db.Exec(t, "update items set version = 501")
	f.want("UPDATE 1.501")
	if st := srv.Stats(); st.Overflowed == 0 || st.PagesRead == 0 {
		t.Errorf("%+v: it was never left behind", st)
	}
}

// More rows than a subscription may begin with are refused, with what to do.
func TestInitialTooLarge(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`; insert into items select g, 'a' from generate_series(1, 200) g`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Limits: notifyql.Limits{InitialRows: 100}})
	f := &follower{t: t}
	f.follow(srv, "initial: true, limit: 100")
	for range 100 {
		if got, err := f.next(); err != nil || got.Kind != "INITIAL" {
			t.Fatal(got, err)
		}
	}
	f.want("SYNCED")
	f.cursor = ""
	f.follow(srv, "initial: true")
	for {
		_, err := f.next()
		if err == nil {
			continue
		}
		if !strings.Contains(err.Error(), "limit") {
			t.Errorf("it ended with %v", err)
		}
		break
	}
}

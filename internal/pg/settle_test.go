package pg

import (
	"context"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What Settle answers comes after all notifications of the transactions of which some have come.
func TestSettleComesAfterWholeTransactions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create table wide (id int primary key, tenant_id text not null, body text not null);
		select notifyql.watch('wide')`)
	const txns, rows = 200, 40 // some 80 KB each, so that they come in several reads

	var source *Source
	var mu sync.Mutex
	var got, settles int
	var once sync.Once
	opened, all := make(chan struct{}, 1), make(chan struct{})
	source, err := New(Config{DatabaseURL: db.URL, Mode: Quiet, OnSettled: func() {
		mu.Lock()
		defer mu.Unlock()
		settles++
		if got%rows != 0 {
			t.Errorf("settled with %d of %d rows of a transaction", got%rows, rows)
		}
		if got == txns*rows {
			once.Do(func() { close(all) })
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		source.Run(ctx, func(in feed.Input) { //nolint:errcheck // it ends with ctx
			switch in := in.(type) {
			case feed.Opened:
				opened <- struct{}{}
			case feed.Notified:
				mu.Lock()
				for i := range in.Notices {
					if in.Notices[i].Announced == nil {
						got++
					}
				}
				mu.Unlock()
				source.Settle()
			}
		})
	})
	defer running.Wait()
	defer stop()
	if source.Settle() {
		t.Error("there was somebody to ask before the listener was open")
	}
	<-opened
	waitFor(t, "writers notify", func() (quiet bool) {
		if err := db.Pool(t).QueryRow(t.Context(), `select not busy from notifyql.mode`).Scan(&quiet); err != nil {
			t.Fatal(err)
		}
		return quiet
	})
	for i := range txns {
		db.Exec(t, `insert into wide select $1 * 1000 + g, 'a', repeat('x', 2000) from generate_series(1, $2) g`, i, rows)
	}
	<-all
	mu.Lock()
	t.Logf("%d transactions settled in %d answers", txns, settles)
	mu.Unlock()
}

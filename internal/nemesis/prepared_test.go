package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// preparer prepares transactions, leaves them open over what happens meanwhile, and lets another session end them. In a quiet stream
// Postgres refuses to prepare what has notified: that is a transaction that failed.
type preparer struct {
	writer
	tally *preparations
}

// preparations counts what became of prepared transactions.
type preparations struct{ prepared, refused, committed, rolledBack atomic.Int64 }

// run prepares a few, leaves them open for a while, and ends them; then there are none for a while, or the stream could never be quiet.
func (p *preparer) run(ctx context.Context) {
	for i := 0; pass(ctx, p.some(4)); i++ {
		if !p.heavy.TryRLock() {
			continue
		}
		var open []string
		for k := range 1 + p.rnd.IntN(3) {
			name := fmt.Sprintf("nemesis %d %d", i, k)
			if p.rnd.IntN(3) == 0 {
				name += doomedName
			}
			if p.prepare(ctx, name) {
				open = append(open, name)
			}
		}
		p.rnd.Shuffle(len(open), func(i, k int) { open[i], open[k] = open[k], open[i] })
		pass(ctx, p.some(4))
		for len(open) > 0 && pass(ctx, 50*time.Millisecond) {
			if p.end(ctx, open[0]) == nil {
				open = open[1:]
			}
		}
		p.heavy.RUnlock()
	}
}

func (p *preparer) some(seconds int) time.Duration {
	return time.Duration(p.rnd.IntN(1000*seconds)) * time.Millisecond
}

const doomedName = " to be rolled back"

// prepare reports whether the transaction may be prepared now: also if the connection broke before it was said.
func (p *preparer) prepare(ctx context.Context, name string) bool {
	limit, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := p.db.connect(limit)
	if err != nil {
		return false
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what is not prepared is rolled back
	if _, err := conn.Exec(limit, "set lock_timeout = '3s'; begin"); err != nil {
		return false
	}
	if strings.HasSuffix(name, doomedName) {
		if _, err := conn.Exec(limit, doom); err != nil {
			return false
		}
	}
	if _, err := conn.Exec(limit, "insert into begun default values"); err != nil {
		return false
	}
	for range 1 + p.rnd.IntN(3) {
		if _, err := conn.Exec(limit, p.statement()); err != nil {
			return false
		}
	}
	_, err = conn.Exec(limit, "prepare transaction '"+name+"'")
	if err == nil {
		p.tally.prepared.Add(1)
	} else {
		p.tally.refused.Add(1)
	}
	return err == nil || conn.IsClosed()
}

// end ends a prepared transaction in a session of its own. One that is not there any more has ended.
func (p *preparer) end(ctx context.Context, name string) error {
	sql, n := "commit prepared", &p.tally.committed
	if strings.HasSuffix(name, doomedName) {
		sql, n = "rollback prepared", &p.tally.rolledBack
	}
	limit, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := p.db.exec(limit, sql+" '"+name+"'")
	switch {
	case err == nil:
		n.Add(1)
	case strings.Contains(err.Error(), "does not exist"): // it was never prepared, was lost, or its end was not heard of
		return nil
	}
	return err
}

// endPrepared ends all that are left.
func (w *world) endPrepared(ctx context.Context) error {
	p := &preparer{writer: writer{db: w.db, rnd: rand.New(rand.NewPCG(w.seed, 1))}, tally: &w.prepared}
	for {
		names, err := w.db.prepared(ctx)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := p.end(ctx, name); err != nil {
				return err
			}
		}
	}
}
